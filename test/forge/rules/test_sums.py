"""Fixed weights, on numbers worked by hand."""

import math

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import trunk  # noqa: E402

from anytime_dnn_ros.forge.rules import make_rule  # noqa: E402

# One image of class 0; probabilities (1/2, 1/4, 1/4), (1/4, 1/2, 1/4) and (1/3, 1/3, 1/3).
LOGITS = tuple(
    torch.tensor([row]).log() for row in ([2.0, 1.0, 1.0], [1.0, 2.0, 1.0], [1.0, 1.0, 1.0])
)
LABELS = torch.tensor([0])
ENTROPIES = torch.tensor([math.log(2), math.log(4), math.log(3)])


def test_sum():
    losses = make_rule('sum', trunk()).losses(LOGITS, LABELS)
    torch.testing.assert_close(losses, ENTROPIES)


def test_label_smoothing_spreads_the_label_evenly():
    losses = make_rule('sum', trunk(), label_smoothing=0.3).losses(LOGITS, LABELS)
    # 0.8 of the label stays, 0.1 goes to each other class.
    by_hand = [
        0.8 * math.log(2) + 0.2 * math.log(4),
        0.9 * math.log(4) + 0.1 * math.log(2),
        math.log(3),
    ]
    torch.testing.assert_close(losses, torch.tensor(by_hand))


def test_weights_fall_from_1_to_three_tenths():
    losses = make_rule('weighted', trunk()).losses(LOGITS, LABELS)
    torch.testing.assert_close(losses, torch.tensor([1.0, 0.65, 0.3]) * ENTROPIES)


def test_weights_may_be_given():
    losses = make_rule('weighted', trunk(), weights=[0, 2, 1]).losses(LOGITS, LABELS)
    torch.testing.assert_close(losses, torch.tensor([0.0, 2.0, 1.0]) * ENTROPIES)


def test_equilibrium_gives_each_body_the_mean_of_the_exits_above_it(image, labels):
    net = trunk()
    gradients = {}
    for name in ('sum', 'equilibrium'):
        rule = make_rule(name, net)
        net.zero_grad()
        logits = net(image, equilibrium=rule.equilibrium)
        rule.backward(net, rule.losses(logits, labels))
        gradients[name] = {key: p.grad.clone() for key, p in net.named_parameters()}
    for key, plain in gradients['sum'].items():
        stage, part = int(key.split('.')[1]), key.split('.')[2]
        exits_above = len(net) - stage if part == 'body' else 1
        torch.testing.assert_close(gradients['equilibrium'][key], plain / exits_above)
