"""Which parameters lie below which exit."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
import small_trunks  # noqa: E402
from tiny_nets import FEATURES, body, head, shared, trunk, whole  # noqa: E402

from anytime_dnn_ros.forge.anytime_trunk import StagedExits, make_anytime  # noqa: E402
from anytime_dnn_ros.forge.rules.sharing import (  # noqa: E402
    exit_parameters,
    has_shared_parameters,
    has_trunk,
)
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet  # noqa: E402


class SideStep(torch.nn.Linear):
    """Adds what it makes of a frozen trunk's tensor to the state of a side network."""

    def __init__(self):
        super().__init__(FEATURES, FEATURES)

    def forward(self, given, side=0):
        return super().forward(given) + side


@pytest.mark.parametrize('make', [trunk, shared, whole])
def test_an_exit_has_the_parameters_that_its_loss_reaches(make, image):
    net = make()
    for answer, below in zip(net(image), exit_parameters(net), strict=True):
        net.zero_grad()
        answer.sum().backward(retain_graph=True)
        assert below == {p for p in net.parameters() if p.grad is not None}


def test_a_stage_may_leave_out_the_one_before_it():
    net = StagedNet(
        [
            Stage(body(), head(), (IMAGE,), ('a',)),
            Stage(body(), head(), (IMAGE,), ('b',)),
            Stage(body(), head(), ('a',), ('c',)),
        ]
    )
    below = exit_parameters(net)[2]
    assert set(net.stages[0].body.parameters()) <= below
    assert not set(net.stages[1].parameters()) & below
    assert not set(net.stages[0].head.parameters()) & below


def test_a_net_on_what_a_frozen_trunk_gave_shares_its_own_steps_only():
    net = StagedNet(
        [
            Stage(SideStep(), head(), ('trunk_1',), ('side_1',)),
            Stage(SideStep(), head(), ('trunk_2', 'side_1'), ('side_2',)),
        ]
    )
    first, second = exit_parameters(net)
    step = set(net.stages[0].body.parameters())
    assert first == step | set(net.stages[0].head.parameters())
    assert second == step | set(net.stages[1].parameters())
    assert has_shared_parameters(net)
    image = torch.randn(2, FEATURES)
    sum(map(torch.sum, net.run({'trunk_1': image, 'trunk_2': image}))).backward()
    assert all(p.grad is not None for p in first | second)


@pytest.mark.parametrize('side_width', [0, 4])
def test_exits_without_their_trunk_have_one_only_in_a_side_network(side_width):
    net = make_anytime(
        small_trunks.plain(),
        torch.randn(1, 3, 32, 32),
        cuts=2,
        num_classes=3,
        side_width=side_width,
    )
    assert has_trunk(net)
    assert has_trunk(StagedExits(net)) is bool(side_width)


def test_trunks_and_shared_parameters():
    made = (trunk(), shared(), whole())
    assert [has_trunk(net) for net in made] == [True, False, False]
    assert [has_shared_parameters(net) for net in made] == [True, True, False]
