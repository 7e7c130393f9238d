"""One number per exit that makes its confidence mean what it says, and how far off it is."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.quality import CalibrationError, check_scores

# A fitted temperature outside these means that the data cannot tell, not that it is so.
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.05, 20.0
# Golden section on log T: each step leaves 0.618 of the interval, 40 steps 3e-8 of it.
STEPS = 40
GOLDEN = (sqrt(5) - 1) / 2


def fit_temperature(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """The temperature with the least negative log-likelihood on held-out data.

    Scores are divided by it before the softmax (Guo et al., "On calibration of modern neural
    networks", ICML 2017). The loss is convex in 1/T, so that it has one minimum in log T too.

    Args:
        scores: Log-probabilities up to a constant, [N, classes].
        labels: [N].

    Returns:
        Between `LEAST_TEMPERATURE` and `MOST_TEMPERATURE`; a bound where the data want more.

    Raises:
        CalibrationError: Nothing can be fitted to these.
    """
    check_scores(scores, labels)
    # The loss is then one log-sum-exp per image.
    over_true = scores - np.take_along_axis(scores, labels[:, None], 1)
    shift = over_true.max(1, keepdims=True)

    def loss(log_temperature: float) -> float:
        cold = exp(-log_temperature)
        sums = np.exp(cold * (over_true - shift)).sum(1)
        return float(np.mean(cold * shift[:, 0] + np.log(sums)))

    low, high = log(LEAST_TEMPERATURE), log(MOST_TEMPERATURE)
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = loss(left), loss(right)
    for _ in range(STEPS):
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = loss(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = loss(right)
    return exp((low + high) / 2)


def probabilities_at(
    scores: NDArray[np.float32], temperatures: Sequence[float]
) -> NDArray[np.float32]:
    """Softmax of scores [N, stages, classes] at one temperature per stage."""
    scaled = scores / np.asarray(temperatures, np.float32)[:, None]
    powers = np.exp(scaled - scaled.max(-1, keepdims=True))
    result: NDArray[np.float32] = powers / powers.sum(-1, keepdims=True)
    return result


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[Any], bins: int = 15
) -> float:
    """Mean distance of confidence from accuracy, over bins of equal width, weighted by count.

    Args:
        confidence: Probability of the class named, [N], 0..1.
        correct: Whether that class is the true one, [N], of bool or 0 and 1.
        bins: How many bins part 0..1 (Naeini et al., AAAI 2015; 15 as Guo et al. 2017).

    Raises:
        CalibrationError: Nothing to count, or shapes that differ.
    """
    if confidence.shape != correct.shape or confidence.ndim != 1 or not confidence.size:
        raise CalibrationError(
            f'confidences {list(confidence.shape)} and outcomes {list(correct.shape)} do not '
            'belong together; give one of each per image, and at least one image'
        )
    # A bin holds its upper end, as in Guo et al.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    surplus = np.bincount(index, confidence - correct.astype(np.float64), minlength=bins)
    return float(np.abs(surplus).sum() / confidence.size)
