import numpy as np
import pytest
from graded_answers import MACS, scores_and_labels

from anytime_dnn_ros.ladder.manifest import quality_from_json, quality_to_json
from anytime_dnn_ros.quality import CalibrationError
from anytime_dnn_ros.quality.calibration import calibrate
from anytime_dnn_ros.quality.exit_fitting import probabilities_at
from anytime_dnn_ros.quality.exit_rules import choose_rule, simulate


@pytest.fixture(scope='module')
def quality():
    return calibrate(*scores_and_labels(2000, seed=3), MACS, data='made up')


def test_figures_are_those_of_images_that_fitted_nothing(quality):
    scores, labels = scores_and_labels(2000, seed=3)
    counted = np.random.default_rng(0).permutation(2000)[1000:]
    probabilities = probabilities_at(scores[counted], [s.temperature for s in quality.stages])
    right = (probabilities.argmax(2) == labels[counted, None]).mean(0)
    assert [s.accuracy for s in quality.stages] == pytest.approx(right)
    for rule in quality.exit_rules:
        figures = simulate(rule.weights, probabilities, labels[counted], MACS)
        assert figures == (rule.mean_macs, rule.accuracy)
    assert quality.held_out
    assert 'made up' in quality.data


def test_it_survives_the_way_to_disk(quality):
    text = quality_to_json(quality)
    assert quality_from_json(text, len(MACS)) == quality
    # A row of weights is one line.
    assert len(text.splitlines()) < 20 + 12 * len(quality.exit_rules)


def test_each_rule_is_there_to_be_chosen(quality):
    for name in ('entropy', 'max_softmax', 'learned'):
        full, half = (
            choose_rule(quality.exit_rules, name),
            choose_rule(quality.exit_rules, name, 0.4 * sum(MACS)),
        )
        assert half.mean_macs <= 0.4 * sum(MACS) < full.mean_macs
        assert half.accuracy < full.accuracy


def test_one_image_is_too_few():
    scores, labels = scores_and_labels(1, seed=0)
    with pytest.raises(CalibrationError, match='hundreds'):
        calibrate(scores, labels, MACS, data='one')
