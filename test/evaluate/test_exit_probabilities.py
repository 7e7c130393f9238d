"""Confidence, likelihood and reliability of exits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.evaluate.exit_probabilities import ExitProbabilities, reliability
from anytime_dnn_ros.quality.temperature import expected_calibration_error


def test_probabilities_are_those_of_the_softmax_at_each_exits_temperature():
    scores = np.log(np.array([[[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]]], np.float32))
    answers = ExitProbabilities.of(scores, np.array([2]), [1.0, 0.5])
    assert answers.confidence[0] == pytest.approx([0.5, 0.64 / 0.66])
    assert answers.true[0] == pytest.approx([0.2, 0.01 / 0.66])
    assert answers.nll(0) == pytest.approx(-np.log(0.2))


def test_a_certain_and_wrong_answer_has_a_likelihood_that_can_be_counted():
    scores = np.array([[[0.0, -87.0]]], np.float32)
    answers = ExitProbabilities.of(scores, np.array([1]), [0.1])
    assert np.isfinite(answers.nll(0))
    assert answers.nll(0) > 80


@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_reliability_bins_are_those_of_the_calibration_error(answers):
    confidence = np.array([c for c, _ in answers], np.float32)
    right = np.array([r for _, r in answers], bool)
    bins = reliability(confidence, right)
    assert bins.share.sum() == pytest.approx(1)
    assert (bins.share * np.abs(bins.accuracy - bins.confidence)).sum() == pytest.approx(
        expected_calibration_error(confidence, right, bins=15), abs=1e-6
    )
