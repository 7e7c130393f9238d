"""The probabilities that a ladder's exits give, and whether they can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.quality.temperature import probabilities_at

Probabilities = NDArray[np.float32]


@dataclass(frozen=True)
class ExitProbabilities:
    """What a ladder says of labelled images after each exit, at some temperatures.

    Attributes:
        confidence: Probability of the likeliest class, 0..1, [images, exits].
        true: Probability of the true class, 0..1, [images, exits].
    """

    confidence: Probabilities
    true: Probabilities

    @classmethod
    def of(
        cls,
        scores: NDArray[np.float32],
        labels: NDArray[np.int64],
        temperatures: Sequence[float],
    ) -> ExitProbabilities:
        """From scores.

        Args:
            scores: From `stage_scores`, float32 [images, exits, classes].
            labels: True classes, int64 [images].
            temperatures: One per exit, each divides that exit's scores.
        """
        confidence = np.empty(scores.shape[:2], np.float32)
        true = np.empty_like(confidence)
        rows = np.arange(len(labels))
        # Stage by stage: all probabilities at once would be as large as all scores.
        for k, temperature in enumerate(temperatures):
            probabilities = probabilities_at(scores[:, k : k + 1], [temperature])[:, 0]
            confidence[:, k] = probabilities.max(axis=1)
            true[:, k] = probabilities[rows, labels]
        return cls(confidence, true)

    def nll(self, exit_index: int) -> float:
        """Mean of -log p(true class) of an exit (0-based), nats."""
        p = np.maximum(self.true[:, exit_index], np.finfo(np.float32).tiny)
        return float(-np.log(p, dtype=np.float64).mean())


@dataclass(frozen=True)
class Reliability:
    """Accuracy against confidence, one point per bin that holds an answer.

    Attributes:
        confidence: Mean confidence in each bin, [bins].
        accuracy: Share of right answers in it, [bins].
        share: Share of all answers that are in it, [bins].
    """

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    share: NDArray[np.float64]


def reliability(
    confidence: Probabilities, right: NDArray[np.bool_], bins: int = 15
) -> Reliability:
    """Accuracy against confidence in equal bins of confidence, empty bins left out.

    Args:
        confidence: 0..1, [images].
        right: [images].
        bins: How many between 0 and 1.
    """
    # As in `expected_calibration_error`, which these bins show.
    index = np.clip(np.ceil(confidence * bins).astype(np.intp) - 1, 0, bins - 1)
    count = np.bincount(index, minlength=bins)
    used = count > 0
    return Reliability(
        confidence=np.bincount(index, confidence, bins)[used] / count[used],
        accuracy=np.bincount(index, right, bins)[used] / count[used],
        share=count[used] / len(confidence),
    )
