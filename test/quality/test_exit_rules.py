import numpy as np
import pytest

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.quality.exit_rules import answer_features, choose_rule, leaves, simulate

SURE = np.array([0.9, 0.1, 0.0], np.float32)
TORN = np.array([0.5, 0.5, 0.0], np.float32)


def rule(*weights, name='max_softmax', mmac=1.0, accuracy=0.5):
    return ExitRule(name, 1e6 * mmac, accuracy, weights)


def test_features_of_known_answers():
    even = np.full(4, 0.25, np.float32)
    np.testing.assert_allclose(answer_features(even), [0.25, 0, 1], atol=1e-6)
    np.testing.assert_allclose(answer_features(np.eye(4, dtype=np.float32)[2]), [1, 1, 0])
    entropy = -(0.9 * np.log(0.9) + 0.1 * np.log(0.1)) / np.log(3)
    np.testing.assert_allclose(answer_features(SURE), [0.9, 0.8, entropy], rtol=1e-6)


def test_many_answers_at_once_are_as_one_by_one():
    answers = np.random.default_rng(0).dirichlet(np.ones(7), (5, 3)).astype(np.float32)
    together = answer_features(answers)
    assert together.shape == (5, 3, 3)
    np.testing.assert_allclose(together[4, 1], answer_features(answers[4, 1]), rtol=1e-6)


@pytest.mark.parametrize(
    ('weights', 'sure', 'torn'),
    [
        ((-float(SURE[0]), 1.0, 0.0, 0.0), True, False),  # at the threshold is enough
        ((-0.95, 1.0, 0.0, 0.0), False, False),
        ((0.4, 0.0, 0.0, -1.0), True, False),
        ((-0.5, 0.0, 1.0, 0.0), True, False),
        ((1.0, -1.0, -1.0, 0.0), False, True),
    ],
)
def test_each_exit_decides_by_its_own_row(weights, sure, torn):
    never = (-1.0, 0.0, 0.0, 0.0)
    assert leaves(rule(never, weights), 1, SURE) is sure
    assert leaves(rule(never, weights), 1, TORN) is torn
    assert not leaves(rule(never, weights), 0, SURE)


def test_the_last_stage_always_leaves():
    assert leaves(rule((-2.0, 1.0, 0.0, 0.0)), 1, TORN)


def test_simulation_counts_every_stage_up_to_the_exit():
    answers = np.stack([np.stack([SURE, TORN]), np.stack([TORN, SURE]), np.stack([TORN, TORN])])
    right = answers.argmax(2) == np.array([[0], [0], [2]])
    weights = ((-0.8, 1.0, 0.0, 0.0),)
    mean_macs, accuracy = simulate(weights, answer_features(answers), right, (1, 4))
    assert mean_macs == pytest.approx((1 + 5 + 5) / 3)
    assert accuracy == pytest.approx(2 / 3)


RULES = [
    rule((-0.1, 1.0, 0.0, 0.0), mmac=2.0),
    rule((-0.2, 1.0, 0.0, 0.0), mmac=5.0),
    rule((-0.3, 1.0, 0.0, 0.0), mmac=9.0),
    rule((0.3, 0.0, 0.0, -1.0), mmac=1.0, name='entropy'),
]


@pytest.mark.parametrize(
    ('budget', 'chosen'), [(0, 2), (100, 2), (9, 2), (8.9, 1), (5, 1), (2, 0)]
)
def test_the_budget_takes_the_nearest_rule_not_above_it(budget, chosen):
    assert choose_rule(RULES, 'max_softmax', 1e6 * budget) is RULES[chosen]


def test_a_budget_below_every_rule_names_the_cheapest():
    with pytest.raises(ConfigurationError, match=r'1\.5 MMAC.*cheapest takes 2 MMAC'):
        choose_rule(RULES, 'max_softmax', 1.5e6)


def test_a_bundle_without_the_rule_names_the_mend():
    with pytest.raises(ConfigurationError, match=r"no exit rule 'learned'.*anytime-dnn calibrate"):
        choose_rule(RULES, 'learned')
