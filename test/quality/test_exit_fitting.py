from itertools import pairwise

import numpy as np
import pytest
from graded_answers import MACS, scores_and_labels

from anytime_dnn_ros.quality import CalibrationError
from anytime_dnn_ros.quality.exit_fitting import fit_exit_rules
from anytime_dnn_ros.quality.exit_rules import answer_features, good_enough, simulate
from anytime_dnn_ros.quality.temperature import probabilities_at

STAGES = len(MACS)
TEMPERATURES = (1.0,) * STAGES
NAMES = ('entropy', 'learned', 'max_softmax')


@pytest.fixture(scope='module')
def held_out():
    return scores_and_labels(1500, seed=1)


@pytest.fixture(scope='module')
def fresh():
    scores, labels = scores_and_labels(4000, seed=2)
    probabilities = probabilities_at(scores, TEMPERATURES)
    return answer_features(probabilities), probabilities.argmax(2) == labels[:, None]


@pytest.fixture(scope='module')
def rules(held_out):
    return fit_exit_rules(*held_out, MACS, TEMPERATURES)


@pytest.mark.parametrize('name', NAMES)
def test_each_rule_comes_for_rising_costs_and_rising_accuracy(rules, name):
    mine = [rule for rule in rules if rule.rule == name]
    assert len(mine) >= 5
    for cheap, dear in pairwise(mine):
        assert cheap.mean_macs < dear.mean_macs
        assert cheap.accuracy < dear.accuracy
    assert mine[0].mean_macs < 0.3 * sum(MACS)
    assert all(len(rule.weights) == STAGES - 1 for rule in mine)


@pytest.mark.parametrize('name', NAMES)
def test_the_promised_cost_and_accuracy_hold_on_fresh_images(rules, fresh, name):
    for rule in (rule for rule in rules if rule.rule == name):
        mean_macs, accuracy = simulate(rule.weights, *fresh, MACS)
        assert mean_macs == pytest.approx(rule.mean_macs, rel=0.1)
        assert accuracy == pytest.approx(rule.accuracy, abs=0.03)


@pytest.mark.parametrize('name', NAMES)
def test_leaving_early_is_nearly_as_good_at_a_fraction_of_the_cost(rules, fresh, name):
    _, right = fresh
    last = right[:, -1].mean()
    figures = [simulate(r.weights, *fresh, MACS) for r in rules if r.rule == name]
    assert max(acc for macs, acc in figures if macs < 0.6 * sum(MACS)) > last - 0.01


@pytest.mark.parametrize('name', NAMES)
def test_a_rule_beats_leaving_at_random_at_equal_cost(rules, fresh, name):
    _, right = fresh
    accuracy = right.mean(0)
    cost = np.cumsum(MACS)
    compared = [r for r in rules if r.rule == name and 4e6 < r.mean_macs < 15e6]
    assert compared
    for rule in compared:
        mean_macs, simulated = simulate(rule.weights, *fresh, MACS)
        assert simulated > np.interp(mean_macs, cost, accuracy) + 0.01


def test_max_softmax_sends_out_shares_that_grow_by_a_common_ratio(held_out, rules):
    scores, labels = held_out
    features = answer_features(probabilities_at(scores, TEMPERATURES))
    seen = 0
    for rule in (r for r in rules if r.rule == 'max_softmax'):
        staying, shares = np.ones(len(labels), bool), []
        for k, row in enumerate(rule.weights):
            out = staying & good_enough(row, features[:, k])
            shares.append(out.sum())
            staying &= ~out
        shares.append(staying.sum())
        if min(shares) >= 30:
            ratios = np.divide(shares[1:], shares[:-1])
            np.testing.assert_allclose(ratios, ratios.mean(), rtol=0.1)
            seen += 1
    assert seen >= 4


def test_the_best_entropy_threshold_is_found():
    # Stage 1 is right where it is sure, and the second costs 3: only the torn should go on.
    sure, torn = [4.0, 0.0, 0.0], [0.2, 0.1, 0.0]
    scores = np.array([[sure, sure]] * 6 + [[torn, [0.0, 4.0, 0.0]]] * 4, np.float32)
    labels = np.array([0] * 6 + [1] * 4)
    rules = fit_exit_rules(scores, labels, (1.0, 3.0), (1.0, 1.0))
    best = [rule for rule in rules if rule.rule == 'entropy'][-1]
    assert best.accuracy == 1
    assert best.mean_macs == pytest.approx(0.6 * 1 + 0.4 * 4)


def test_the_learned_rule_sees_what_one_number_does_not():
    # An answer with a wide margin is right, one with a narrow margin is wrong, and the largest
    # probability is 0.5 in both.
    wide, narrow = [0.5, 0.25, 0.25, 0.0], [0.5, 0.49, 0.01, 0.0]
    right_later = [0.0, 1.0, 0.0, 0.0]
    answers = np.array([[wide, wide]] * 50 + [[narrow, right_later]] * 50)
    scores = np.log(np.maximum(answers, 1e-6)).astype(np.float32)
    labels = np.array([0] * 50 + [1] * 50)
    rules = fit_exit_rules(scores, labels, (1.0, 9.0), (1.0, 1.0))
    best = {name: [r for r in rules if r.rule == name][-1] for name in NAMES}
    assert (best['learned'].accuracy, best['learned'].mean_macs) == (1, pytest.approx(5.5))
    assert best['max_softmax'].accuracy < 1


def test_a_ladder_of_one_stage_has_no_exits(held_out):
    scores, labels = held_out
    assert fit_exit_rules(scores[:, :1], labels, MACS[:1], (1.0,)) == ()


def test_answers_that_are_all_alike_still_give_rules_that_run():
    scores, labels = np.zeros((20, 3, 4), np.float32), np.zeros(20, int)
    for rule in fit_exit_rules(scores, labels, (1, 1, 1), (1, 1, 1)):
        assert np.isfinite(rule.weights).all()
        assert rule.accuracy == 1


def test_temperatures_or_costs_of_another_ladder_are_refused(held_out):
    with pytest.raises(CalibrationError, match='3 costs and 4 temperatures'):
        fit_exit_rules(*held_out, MACS[:3], TEMPERATURES)
