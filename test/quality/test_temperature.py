import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.quality import CalibrationError
from anytime_dnn_ros.quality.temperature import (
    LEAST_TEMPERATURE,
    MOST_TEMPERATURE,
    expected_calibration_error,
    fit_temperature,
)

CLASSES = 5


def honest(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities, and labels drawn from exactly those probabilities."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 2, (count, CLASSES))
    labels = (scores + rng.gumbel(size=scores.shape)).argmax(1)
    return scores.astype(np.float32), labels


def nll(scores: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    scaled = scores / temperature
    over_true = scaled - scaled[np.arange(len(labels)), labels][:, None]
    return float(np.mean(np.logaddexp.reduce(over_true, 1)))


@pytest.mark.parametrize('exaggeration', [0.3, 1.0, 4.0])
def test_the_temperature_takes_an_exaggeration_back(exaggeration):
    scores, labels = honest(20_000)
    assert fit_temperature(exaggeration * scores, labels) == pytest.approx(exaggeration, rel=0.05)


@given(seed=st.integers(0, 1000), other=st.floats(LEAST_TEMPERATURE, MOST_TEMPERATURE))
def test_no_temperature_is_more_likely(seed, other):
    scores, labels = honest(40, seed)
    fitted = fit_temperature(scores, labels)
    assert nll(scores, labels, fitted) <= nll(scores, labels, other) + 1e-5


def test_a_constant_added_to_an_image_changes_nothing():
    scores, labels = honest(200)
    shifted = scores + np.linspace(-30, 30, 200, dtype=np.float32)[:, None]
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(scores, labels), 1e-4)


def test_scores_that_are_always_right_end_at_the_bound():
    labels = np.arange(10) % CLASSES
    scores = 0.3 * np.eye(CLASSES, dtype=np.float32)[labels]
    assert fit_temperature(scores, labels) == pytest.approx(LEAST_TEMPERATURE, rel=1e-3)
    assert fit_temperature(-scores, labels) == pytest.approx(MOST_TEMPERATURE, rel=1e-3)


def test_calibration_error_of_hand_counted_bins():
    # In (0.4, 0.6]: mean confidence 0.5, one of two right. In (0.8, 1]: 0.9 against none right.
    confidence = np.array([0.45, 0.55, 0.9])
    correct = np.array([True, False, False])
    assert expected_calibration_error(confidence, correct, bins=5) == pytest.approx(0.9 / 3)


def test_calibration_error_of_honest_scores_is_small_and_of_boastful_ones_is_not():
    scores, labels = honest(20_000)
    errors = []
    for factor in (1, 4):
        powers = np.exp(factor * scores)
        probabilities = powers / powers.sum(1, keepdims=True)
        correct = probabilities.argmax(1) == labels
        errors.append(expected_calibration_error(probabilities.max(1), correct))
    assert errors[0] < 0.015 < 0.1 < errors[1]


def test_certain_and_right_is_no_error():
    assert expected_calibration_error(np.ones(4), np.ones(4, bool)) == 0


@pytest.mark.parametrize(
    ('scores', 'labels', 'match'),
    [
        (np.zeros((3, CLASSES)), np.zeros(2, int), 'do not belong together'),
        (np.zeros((0, CLASSES)), np.zeros(0, int), 'at least one image'),
        (np.zeros((2, CLASSES)), np.array([0, CLASSES]), 'from 0 to 5'),
        (np.zeros((2, CLASSES)), np.array([-1, 0]), 'from -1 to 0'),
        (np.full((2, CLASSES), np.nan), np.array([1, 0]), 'not finite'),
    ],
)
def test_what_cannot_be_fitted_is_refused(scores, labels, match):
    with pytest.raises(CalibrationError, match=match):
        fit_temperature(scores, labels)


def test_outcomes_of_other_images_are_refused():
    with pytest.raises(CalibrationError, match='one of each'):
        expected_calibration_error(np.ones(3), np.ones(2, bool))
