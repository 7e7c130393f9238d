"""One answer of a ladder, and the classes it names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Answer:
    """What the ladder says after stage `stage`.

    Attributes:
        stage: 1-based; the combined answer of stages 1..stage.
        probabilities: float32 [classes], summing to 1, at the stage's temperature.
        confidence: Probability of the most likely class, 0..1.
    """

    stage: int
    probabilities: NDArray[np.float32]
    confidence: float

    @property
    def is_finite(self) -> bool:
        """False if a network gave NaN or infinity."""
        return bool(np.isfinite(self.confidence))


def make_answer(stage: int, scores: NDArray[np.float32], temperature: float = 1.0) -> Answer:
    """The answer of a stage from its combined scores.

    Args:
        stage: 1-based stage number.
        scores: Combined log-probabilities up to a constant, float32 [classes].
        temperature: Divides the scores (Guo et al., "On calibration of modern neural
            networks", ICML 2017).
    """
    scaled = scores / np.float32(temperature)
    powers = np.exp(scaled - scaled.max())
    probabilities = (powers / powers.sum()).astype(np.float32)
    return Answer(stage, probabilities, float(probabilities.max()))


def top_classes(answer: Answer, count: int) -> list[tuple[int, float]]:
    """Index and probability of the `count` most likely classes, best first."""
    p = answer.probabilities
    count = min(count, p.size)
    best = np.argpartition(p, p.size - count)[p.size - count :]
    best = best[np.argsort(-p[best], kind='stable')]
    return [(int(i), float(p[i])) for i in best]
