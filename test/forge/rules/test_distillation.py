"""Distillation inside a ladder, against the formulas written out in numpy."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import trunk, whole  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.rules import make_rule  # noqa: E402


@pytest.fixture
def logits():
    return tuple(3 * torch.randn(7, 3) for _ in range(3))


def probabilities(logits, temperature=1.0):
    powers = np.exp(np.asarray(logits, np.float64) / temperature)
    return powers / powers.sum(1, keepdims=True)


def entropy(logits, labels):
    return -np.log(probabilities(logits)[np.arange(len(labels)), labels]).mean()


def divergence(teacher, student, temperature):
    p, q = probabilities(teacher, temperature), probabilities(student, temperature)
    return temperature**2 * (p * np.log(p / q)).sum(1).mean()


@pytest.mark.parametrize(('gamma', 'temperature'), [(0.1, 1.0), (0.5, 3.0)])
def test_imta(logits, labels, gamma, temperature):
    rule = make_rule('imta', trunk(), gamma=gamma, temperature=temperature)
    by_hand = [
        (1 - gamma) * entropy(early, labels) + gamma * divergence(logits[-1], early, temperature)
        for early in logits[:-1]
    ]
    by_hand.append(entropy(logits[-1], labels))
    np.testing.assert_allclose(rule.losses(logits, labels), by_hand, rtol=1e-5)
    assert rule.equilibrium


def test_imta_without_distillation_is_equilibrium(image, labels):
    net = trunk()
    rules = make_rule('imta', net, gamma=0), make_rule('equilibrium', net)
    gradients = []
    for rule in rules:
        net.zero_grad()
        logits = net(image, equilibrium=rule.equilibrium)
        rule.backward(net, rule.losses(logits, labels))
        gradients.append([p.grad.clone() for p in net.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(('alpha', 'temperature'), [(0.3, 2.0), (0.8, 1.0)])
def test_ladder_distill(logits, labels, alpha, temperature):
    rule = make_rule('ladder_distill', trunk(), alpha=alpha, temperature=temperature)
    teacher = sum(i * np.log(probabilities(given)) for i, given in enumerate(logits, 1)) / 6
    by_hand = [
        (1 - alpha) * entropy(given, labels) + alpha * divergence(teacher, given, temperature)
        for given in logits
    ]
    np.testing.assert_allclose(rule.losses(logits, labels), by_hand, rtol=1e-5)


def test_exits_of_one_mind_have_nothing_to_teach(logits, labels):
    rule = make_rule('ladder_distill', trunk(), alpha=1)
    losses = rule.losses((logits[0],) * 3, labels)
    torch.testing.assert_close(losses, torch.zeros(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize(('name', 'options'), [('imta', {}), ('ladder_distill', {'alpha': 1})])
def test_a_teacher_hears_nothing_of_its_pupils(name, options, logits, labels):
    free = tuple(given.clone().requires_grad_() for given in logits)
    losses = make_rule(name, trunk(), **options).losses(free, labels)
    for i, loss in enumerate(losses):
        heard = torch.autograd.grad(
            loss, free, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        assert [bool(gradient.any()) for gradient in heard] == [i == j for j in range(3)]


def test_ladder_distill_equalises_where_there_is_a_trunk():
    assert make_rule('ladder_distill', trunk()).equilibrium
    assert not make_rule('ladder_distill', trunk(), equilibrium=False).equilibrium
    assert not make_rule('ladder_distill', whole()).equilibrium
    with pytest.raises(ConfigurationError, match='no trunk to equalise'):
        make_rule('ladder_distill', whole(), equilibrium=True)
