"""Which rule goes with which net, and what all rules have in common."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import shared, single, trunk, whole  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.rules import RULES, make_rule, sensible_rules  # noqa: E402
from anytime_dnn_ros.ladder.combine import Combiner  # noqa: E402

ANY_NET = ['sum', 'snapshot']
TWO_EXITS = ['sum', 'weighted', 'adaloss', 'snapshot', 'ladder_distill']
SHARED = [*TWO_EXITS, 'orthogonal_layer', 'orthogonal_global']
SENSIBLE = {single: ANY_NET, whole: TWO_EXITS, shared: SHARED, trunk: list(RULES)}
PAIRS = [(name, make) for make in SENSIBLE for name in RULES]
SENSIBLE_PAIRS = [(name, make) for name, make in PAIRS if name in SENSIBLE[make]]


@pytest.mark.parametrize('make', SENSIBLE)
def test_each_kind_of_net_has_its_rules(make):
    assert sorted(sensible_rules(make())) == sorted(SENSIBLE[make])


@pytest.mark.parametrize(('name', 'make'), PAIRS)
def test_a_rule_is_made_or_says_what_else_to_give(name, make):
    net = make()
    if name in SENSIBLE[make]:
        rule = make_rule(name, net)
        assert rule.name == name
        assert (rule.cycles > 1) is (name == 'snapshot')
        return
    with pytest.raises(ConfigurationError, match='makes no sense') as caught:
        make_rule(name, net)
    assert f'rule {name} ' in str(caught.value)
    assert ', '.join(sensible_rules(net)) in str(caught.value)


def test_frozen_weights_are_not_shared():
    net = shared()
    net.stages[0].body.requires_grad_(False)
    with pytest.raises(ConfigurationError, match='no two of its exits share'):
        make_rule('orthogonal_layer', net)


@pytest.mark.parametrize('name', ['imta', 'boost'])
def test_equilibrium_can_be_left_out_where_there_is_no_trunk(name):
    with pytest.raises(ConfigurationError, match='equilibrium=false'):
        make_rule(name, whole())
    assert not make_rule(name, whole(), equilibrium=False).equilibrium
    with pytest.raises(ConfigurationError, match='one exit only'):
        make_rule(name, single(), equilibrium=False)


@pytest.mark.parametrize(
    ('name', 'options', 'said'),
    [
        ('nothing', {}, 'give one of sum'),
        ('sum', {'weights': [1, 1, 1]}, 'has no option weights; it has label_smoothing'),
        ('sum', {'label_smoothing': 1.5}, 'label_smoothing is 1.5; give from 0 to 1'),
        ('sum', {'label_smoothing': float('nan')}, 'label_smoothing is nan'),
        ('sum', {'label_smoothing': 'much'}, "label_smoothing is 'much'"),
        ('weighted', {'weights': [1, 2]}, 'one number per exit'),
        ('weighted', {'weights': 1}, 'one number per exit'),
        ('weighted', {'weights': [1, -1, 1]}, 'a weight is -1; give from 0 up'),
        ('weighted', {'weights': [0, 0, 0]}, 'all weights are 0'),
        ('adaloss', {'momentum': 2}, 'momentum is 2'),
        ('adaloss', {'update_every': 0}, 'update_every is 0; give from 1 up'),
        ('adaloss', {'update_every': 2.5}, 'give a whole number'),
        ('imta', {'gamma': -0.1}, 'gamma is -0.1'),
        ('imta', {'temperature': 0}, 'temperature is 0'),
        ('imta', {'temperature': float('inf')}, 'temperature is inf'),
        ('imta', {'equilibrium': 'no'}, "equilibrium is 'no'; give true or false"),
        ('ladder_distill', {'equilibrium': 'no'}, "equilibrium is 'no'; give true or false"),
        ('ladder_distill', {'alpha': True}, 'alpha is True'),
        ('boost', {'decay': 3}, 'decay is 3'),
        ('boost', {'equilibrium': 1}, 'equilibrium is 1; give true or false'),
        ('orthogonal_layer', {'priority': 'last'}, 'give earlier or later'),
        ('snapshot', {'cycles': 1}, 'cycles is 1; give from 2 up'),
        ('snapshot', {'cycles': 2.5}, 'give a whole number'),
    ],
)
def test_what_cannot_be_used_is_said_with_the_mend(name, options, said):
    with pytest.raises(ConfigurationError) as caught:
        make_rule(name, trunk(), **options)
    assert said in str(caught.value)


@pytest.mark.parametrize(('name', 'make'), SENSIBLE_PAIRS)
def test_bfloat16_logits_give_float32_losses_and_gradients_everywhere(name, make, image, labels):
    net = make()
    rule = make_rule(name, net)
    with torch.autocast('cpu', torch.bfloat16):
        logits = net(image, equilibrium=rule.equilibrium)
    assert logits[0].dtype == torch.bfloat16
    losses = rule.losses(logits, labels)
    assert losses.dtype == torch.float32
    assert losses.shape == (len(net),)
    in_float32 = rule.losses(tuple(given.float() for given in logits), labels)
    assert torch.equal(losses, in_float32)
    rule.backward(net, losses)
    assert all(p.grad.isfinite().all() and p.grad.any() for p in net.parameters())


@pytest.mark.parametrize(('name', 'make'), SENSIBLE_PAIRS)
def test_gradients_add_to_those_before(name, make, image, labels):
    net = make()
    rule = make_rule(name, net)
    for _ in range(2):
        logits = net(image, equilibrium=rule.equilibrium)
        rule.backward(net, rule.losses(logits, labels))
    twice = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    logits = net(image, equilibrium=rule.equilibrium)
    rule.backward(net, 2 * rule.losses(logits, labels))
    for parameter, expected in zip(net.parameters(), twice, strict=True):
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(('name', 'make'), SENSIBLE_PAIRS)
def test_a_step_along_the_gradient_makes_a_net_better(name, make, image, labels):
    net = make()
    rule = make_rule(name, net)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.3)
    measured = make_rule('sum', net)
    with torch.no_grad():
        before = measured.losses(rule.answers(net(image)), labels)
    for _ in range(50):
        optimiser.zero_grad()
        logits = net(image, equilibrium=rule.equilibrium)
        rule.backward(net, rule.losses(logits, labels))
        optimiser.step()
    with torch.no_grad():
        after = measured.losses(rule.answers(net(image)), labels)
    assert (after < before).all()


@pytest.mark.parametrize(('name', 'make'), SENSIBLE_PAIRS)
def test_what_is_scored_in_training_is_what_the_bundle_answers(name, make, image):
    net = make()
    rule = make_rule(name, net)
    with torch.no_grad():
        logits = net(image)
    answers = [torch.softmax(given, 1).numpy() for given in rule.answers(logits)]
    combiner = Combiner(rule.combine(len(net)))
    for row in range(len(image)):
        combiner.reset()
        for stage, given in enumerate(logits):
            scores = combiner.add(given[row].numpy())
            probabilities = np.exp(scores - scores.max())
            expected = probabilities / probabilities.sum()
            np.testing.assert_allclose(answers[stage][row], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', RULES)
def test_every_rule_smooths_labels(name, image, labels):
    net = trunk()
    logits = tuple(given.detach() for given in net(image))
    plain = make_rule(name, net).losses(logits, labels)
    smoothed = make_rule(name, net, label_smoothing=0.2).losses(logits, labels)
    assert (plain != smoothed).all()


@pytest.mark.parametrize('name', RULES)
def test_only_the_rule_that_wrote_a_state_takes_it_up(name, image, labels):
    net = trunk()
    rule, other = make_rule(name, net), make_rule('adaloss' if name != 'adaloss' else 'sum', net)
    rule.losses(net(image), labels)
    fresh = make_rule(name, net)
    fresh.load_state_dict(rule.state_dict())
    assert str(fresh.state_dict()) == str(rule.state_dict())
    with pytest.raises(ConfigurationError, match='resume with the rule that wrote it'):
        rule.load_state_dict(other.state_dict())


def test_the_names_of_the_rules_are_there_without_torch():
    code = (
        'import sys; from anytime_dnn_ros.forge.rules import RULES; '
        'print(len(RULES), "torch" in sys.modules)'
    )
    done = subprocess.run(
        [sys.executable, '-c', code],
        env={'PYTHONPATH': ':'.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(len(RULES)), 'False']
