"""AdaLoss: its weights worked by hand, its memory, and what it must not learn from."""

import math

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import trunk  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.rules import make_rule  # noqa: E402

LABELS = torch.tensor([0])


def logits_of(*losses):
    """Logits of one image of class 0 and two classes, whose cross-entropies are `losses`."""
    return tuple(torch.tensor([[0.0, math.log(math.exp(loss) - 1)]]) for loss in losses)


def test_weights_by_hand():
    rule = make_rule('adaloss', trunk(2), update_every=2)
    for _ in range(2):
        losses = rule.losses(logits_of(1.0, 0.5), LABELS)
        torch.testing.assert_close(losses, torch.tensor([1.0, 0.5]))
    # 1/loss = (1, 2); / max = (.5, 1); last + 1 = (.5, 2); / max = (.25, 1); .93 w + .07.
    losses = rule.losses(logits_of(1.0, 0.5), LABELS)
    torch.testing.assert_close(losses, torch.tensor([0.3025, 0.5]))


def test_weights_follow_the_running_mean():
    rule = make_rule('adaloss', trunk(2), update_every=3, momentum=0.5, gamma=0.2, last_extra=0.5)
    seen = [(1.0, 2.0), (3.0, 1.0), (2.0, 4.0)]
    for losses in seen:
        rule.losses(logits_of(*losses), LABELS)
    # Means: (1, 2), (2, 1.5), (2, 2.75). Weights: (1, 2/2.75); last + .5; / that; .8 w + .2.
    last = 2 / 2.75 + 0.5
    expected = torch.tensor([0.8 / last + 0.2, 1.0])
    given = rule.losses(logits_of(1.0, 1.0), LABELS)
    torch.testing.assert_close(given, expected)


def test_a_loss_of_nothing_gives_finite_weights():
    rule = make_rule('adaloss', trunk(2), update_every=1)
    sure = (torch.tensor([[0.0, -200.0]]),) * 2
    rule.losses(sure, LABELS)
    assert rule.losses(logits_of(1.0, 1.0), LABELS).isfinite().all()


def test_scoring_teaches_it_nothing():
    rule = make_rule('adaloss', trunk(2), update_every=1)
    with torch.no_grad():
        rule.losses(logits_of(1.0, 0.1), LABELS)
    assert rule.state_dict()['step'] == 0
    torch.testing.assert_close(rule.losses(logits_of(1.0, 0.1), LABELS), torch.tensor([1.0, 0.1]))


def test_resumed_it_goes_on_to_the_bit(tmp_path):
    whole, broken = (make_rule('adaloss', trunk(2), update_every=4) for _ in range(2))
    batches = [logits_of(*losses) for losses in (torch.rand(10, 2) + 0.1).tolist()]
    expected = [whole.losses(batch, LABELS) for batch in batches]
    given = [broken.losses(batch, LABELS) for batch in batches[:6]]
    torch.save(broken.state_dict(), tmp_path / 'state.pt')
    resumed = make_rule('adaloss', trunk(2), update_every=4)
    resumed.load_state_dict(torch.load(tmp_path / 'state.pt', weights_only=True))
    given += [resumed.losses(batch, LABELS) for batch in batches[6:]]
    assert torch.equal(torch.stack(given), torch.stack(expected))
    assert not torch.equal(expected[3], expected[4])


def test_a_state_is_a_copy():
    rule = make_rule('adaloss', trunk(2), update_every=1)
    rule.losses(logits_of(1.0, 0.5), LABELS)
    state = rule.state_dict()
    before = state['weights'].clone()
    rule.losses(logits_of(0.1, 0.5), LABELS)
    assert torch.equal(state['weights'], before)


def test_the_state_of_a_net_with_other_exits_is_refused():
    state = make_rule('adaloss', trunk(4)).state_dict()
    with pytest.raises(ConfigurationError, match='weighs 4 exits and the net has 2'):
        make_rule('adaloss', trunk(2)).load_state_dict(state)
