import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from small_trunks import Residual, plain, residual, settled  # noqa: E402
from torch import nn  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.staged import IMAGE  # noqa: E402
from anytime_dnn_ros.forge.trunk_cuts import cut  # noqa: E402

EXAMPLE = torch.zeros(1, 3, 32, 32)


@torch.no_grad()
def run(pieces, image):
    """The last piece's tensors, each piece reading just what it names."""
    tensors = {IMAGE: image}
    for piece in pieces:
        given = piece.module(*(tensors[name] for name in piece.reads))
        assert [tuple(t.shape[1:]) for t in given] == [shape[1:] for shape in piece.shapes]
        tensors |= zip(piece.writes, given, strict=True)
    return given


@pytest.mark.parametrize('cuts', [['0', '1'], ['0.0', '1.1'], ['1'], [], 1, 2, 3])
def test_pieces_of_a_sequence_give_what_the_whole_gave(cuts):
    net, image = plain(), torch.randn(4, 3, 32, 32)
    pieces = cut(net, EXAMPLE, cuts)
    assert len(pieces) == (cuts if isinstance(cuts, int) else len(cuts) + 1)
    (features,) = run(pieces, image)
    assert torch.equal(features, net[:3](image))


@pytest.mark.parametrize('cuts', [['stem', 'before'], ['middle'], ['middle.0', 'act_1'], 2, 3])
def test_a_skip_over_a_cut_crosses_it_as_a_tensor_of_its_own(cuts):
    net, image = residual(), torch.randn(4, 3, 32, 32)
    (features,) = run(cut(net, EXAMPLE, cuts), image)
    assert torch.equal(features, net.features(image))
    both = cut(net, EXAMPLE, ['middle'])
    assert [len(piece.writes) for piece in both] == [2, 1]
    assert set(both[1].reads) == set(both[0].writes)


def test_the_module_is_left_as_it_was():
    net = residual()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    cut(net, EXAMPLE, 2)
    assert net.act.inplace
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_pieces_do_not_change_what_they_read():
    pieces = cut(plain(), EXAMPLE, ['0.1', '1.1'])
    image = torch.randn(2, 3, 32, 32)
    (first,) = pieces[0].module(image)
    kept = first.clone()
    pieces[1].module(first)
    assert torch.equal(first, kept)


def test_automatic_pieces_cost_about_alike_and_sum_to_the_trunk():
    blocks = [conv for _ in range(12) for conv in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
    net = nn.Sequential(nn.Conv2d(3, 8, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    macs = [piece.macs for piece in cut(net, EXAMPLE, 4)]
    whole = 32 * 32 * (3 * 8 + 12 * 8 * 8 * 9)
    assert sum(macs) == whole
    assert max(macs) < 1.5 * whole / 4
    # Behind the activation, not before it.
    assert isinstance(cut(net, EXAMPLE, 4)[0].module.get_submodule('6'), nn.ReLU)


def test_features_may_be_named():
    net, image = plain(), torch.randn(2, 3, 32, 32)
    (features,) = run(cut(net, EXAMPLE, 2, features='1'), image)
    assert torch.equal(features, net[:2](image))


@pytest.mark.parametrize(
    ('cuts', 'message'),
    [
        (['befor'], 'near it are before'),
        (['act'], 'runs 2 times'),
        (['before', 'stem'], 'running order'),
        (['stem', 'stem'], 'running order'),
        (['fc'], 'running order'),
        (0, 'give 1 or more'),
        (40, 'at most'),
    ],
)
def test_a_cut_that_cannot_be_made_says_why(cuts, message):
    with pytest.raises(ConfigurationError, match=message):
        cut(residual(), EXAMPLE, cuts)


@pytest.mark.parametrize(
    ('example', 'message'),
    [
        (torch.zeros(1, 1, 32, 32), r'cannot take the example input \[1, 1, 32, 32\]'),
        (torch.zeros(3), 'cannot take the example'),
    ],
)
def test_an_example_that_does_not_fit_is_refused(example, message):
    with pytest.raises(ConfigurationError, match=message):
        cut(residual(), example, 2)


class Branching(Residual):
    def forward(self, image):
        return super().forward(image if image.sum() > 0 else -image)


class SizeAcross(Residual):
    def forward(self, image):
        count = image.size(0)
        x = self.last(self.stem(image))
        return self.fc(torch.relu(x.view(count, 2, 8, 64)).view(count, 16, 64).mean(2))


class InPlace(Residual):
    def forward(self, image):
        x = self.stem(image)
        x.add_(1)
        return self.fc(self.last(x).mean((2, 3)))


@pytest.mark.parametrize(
    ('module', 'message'),
    [
        (Branching, 'cannot be traced'),
        (SizeAcross, 'no feature tensor'),
        (InPlace, 'in place'),
    ],
)
def test_what_cannot_be_cut_says_why(module, message):
    with pytest.raises(ConfigurationError, match=message):
        cut(settled(module()), EXAMPLE, ['stem'], features='view' if module is SizeAcross else '')


def test_a_trunk_that_is_mostly_behind_its_last_map_must_name_its_features():
    net = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(), nn.Linear(64, 900), nn.Linear(900, 7))
    with pytest.raises(ConfigurationError, match='not clear'):
        cut(net.eval(), EXAMPLE, 2)
    assert [p.shapes for p in cut(net.eval(), EXAMPLE, ['0'], features='2')][1] == ((1, 900),)
