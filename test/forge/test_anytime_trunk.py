import copy

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from small_trunks import plain, residual  # noqa: E402
from torch import nn  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.anytime_trunk import (  # noqa: E402
    StagedExits,
    make_anytime,
    with_exits,
)
from anytime_dnn_ros.forge.feature_cache import trunk_features  # noqa: E402
from anytime_dnn_ros.forge.staged import stage_macs  # noqa: E402

EXAMPLE = torch.zeros(1, 3, 32, 32)
IMAGE = torch.randn(4, 3, 32, 32)


def anytime(module=residual, **options):
    torch.manual_seed(0)
    values = {'cuts': ['stem', 'middle'], 'num_classes': 5, 'side_width': 4, **options}
    return make_anytime(module(), EXAMPLE, **values)


@torch.no_grad()
def test_every_stage_answers_and_the_trunk_is_the_one_given():
    net = anytime().eval()
    assert [logits.shape for logits in net(IMAGE)] == [(4, 5)] * 3
    assert torch.equal(trunk_features(net, IMAGE)[-1], residual().features(IMAGE))


def test_a_frozen_trunk_stays_as_it_was_while_the_exits_learn():
    net = anytime()
    trunk = [copy.deepcopy(stage.body.piece.state_dict()) for stage in net.stages]
    heads = copy.deepcopy(net.stages[0].head.state_dict())
    trained = [p for p in net.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):
        loss = sum(nn.functional.cross_entropy(a, torch.arange(4)) for a in net.train()(IMAGE))
        loss.backward()
        optimiser.step()
    for stage, before in zip(net.stages, trunk, strict=True):
        after = stage.body.piece.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not torch.equal(
        net.stages[0].head.state_dict()['classify.2.weight'], heads['classify.2.weight']
    )
    assert all(p.grad is not None for p in trained)


def test_a_trunk_that_is_not_frozen_learns_too():
    net = anytime(frozen=False).train()
    sum(logits.sum() for logits in net(IMAGE)).backward()
    assert all(p.grad is not None for p in net.parameters())
    assert net.stages[0].body.piece.training


@pytest.mark.parametrize('options', [{}, {'side_width': 0}, {'cuts': 3, 'module': plain}])
@torch.no_grad()
def test_exits_on_the_trunks_tensors_answer_as_the_whole_net(options):
    net = anytime(**options).eval()
    exits = StagedExits(net).eval()
    assert all(p.requires_grad for p in exits.parameters())
    assert not any('piece.' in name for name, _ in exits.named_parameters())
    expected = net(IMAGE)
    for found in (exits(trunk_features(net, IMAGE)), with_exits(net, exits).eval()(IMAGE)):
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@torch.no_grad()
def test_the_whole_net_takes_over_what_a_copy_of_its_exits_learnt():
    net = anytime()
    exits = copy.deepcopy(StagedExits(net))
    for parameter in exits.parameters():
        parameter.add_(0.1)
    whole = with_exits(net, exits).eval()
    expected = exits.eval()(trunk_features(net.eval(), IMAGE))
    assert all(torch.equal(a, b) for a, b in zip(whole(IMAGE), expected, strict=True))
    assert not torch.allclose(net(IMAGE)[-1], expected[-1])


def test_the_side_network_costs_what_it_is_asked_for():
    macs = [sum(stage_macs(anytime(side_width=w), (3, 32, 32))) for w in (0, 4, 8)]
    assert macs[0] < macs[1] < macs[2]
    # One weight per class and pooled channel is all that linear exits add.
    trunk = sum(stage_macs(anytime(side_width=0, num_classes=1), (3, 32, 32)))
    assert macs[0] - trunk == 4 * (8 + 8 + 16)
    with pytest.raises(ConfigurationError, match='side width'):
        anytime(side_width=-1)


def test_tokens_and_vectors_get_exits_as_well():
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch = nn.Conv2d(3, 8, 8, 8)
            self.mix = nn.Linear(8, 8)
            self.norm = nn.LayerNorm(8)

        def forward(self, image):
            tokens = self.patch(image).flatten(2).transpose(1, 2)
            return self.norm(self.mix(tokens)).mean(1)

    net = anytime(Tokens, cuts=['patch', 'mix'], features='norm')
    assert [logits.shape for logits in net.train()(IMAGE)] == [(4, 5)] * 3
