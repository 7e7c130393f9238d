"""BoostNet's additive answers, on numbers worked by hand."""

import math

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import trunk  # noqa: E402

from anytime_dnn_ros.forge.rules import make_rule  # noqa: E402
from anytime_dnn_ros.ladder.manifest import CombineSpec  # noqa: E402

LABELS = torch.tensor([0])


def logits_of(*first):
    """One image and two classes; the second logit is 0."""
    return tuple(torch.tensor([[value, 0.0]], requires_grad=True) for value in first)


def test_answers_add_up():
    rule = make_rule('boost', trunk())
    answers = rule.answers(logits_of(4.0, 1.0, -2.0))
    # 4; 1 + 4/2 = 3; -2 + 3/2 = -1/2.
    assert [answer[0, 0].item() for answer in answers] == [4.0, 3.0, -0.5]


def test_losses_are_those_of_the_answers():
    losses = make_rule('boost', trunk()).losses(logits_of(4.0, 1.0, -2.0), LABELS)
    by_hand = [math.log(1 + math.exp(-answer)) for answer in (4.0, 3.0, -0.5)]
    torch.testing.assert_close(losses, torch.tensor(by_hand))


def test_an_exit_is_not_blamed_for_those_after_it():
    logits = logits_of(4.0, 1.0, -2.0)
    losses = make_rule('boost', trunk()).losses(logits, LABELS)
    losses.sum().backward()
    # d/da log(1 + exp(-a)) = -1 / (1 + exp(a)), of each exit's own answer alone.
    for given, answer in zip(logits, (4.0, 3.0, -0.5), strict=True):
        assert given.grad[0, 0].item() == pytest.approx(-1 / (1 + math.exp(answer)), rel=1e-5)


def test_no_decay_is_the_sum_of_all_and_full_decay_each_alone(image, labels):
    net = trunk()
    logits = net(image)
    alone = make_rule('boost', net, decay=0).losses(logits, labels)
    torch.testing.assert_close(alone, make_rule('equilibrium', net).losses(logits, labels))
    together = make_rule('boost', net, decay=1).answers(logits)
    torch.testing.assert_close(together[-1], sum(logits))


def test_the_bundle_stacks():
    rows = ((1.0,), (0.5, 1.0), (0.25, 0.5, 1.0))
    assert make_rule('boost', trunk()).combine(3) == CombineSpec('stack', rows)
    assert make_rule('boost', trunk()).equilibrium
