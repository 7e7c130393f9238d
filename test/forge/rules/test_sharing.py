"""Which parameters lie below which exit."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import body, head, shared, trunk, whole  # noqa: E402

from anytime_dnn_ros.forge.rules.sharing import (  # noqa: E402
    exit_parameters,
    has_shared_parameters,
    has_trunk,
)
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet  # noqa: E402


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


def test_trunks_and_shared_parameters():
    made = (trunk(), shared(), whole())
    assert [has_trunk(net) for net in made] == [True, False, False]
    assert [has_shared_parameters(net) for net in made] == [True, True, False]
