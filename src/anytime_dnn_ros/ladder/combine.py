"""How the answers of stages 1..k become answer k.

All rules work on log-probabilities. `product` is the normalised weighted product of the members'
probabilities and `average` their weighted mean (Kittler et al., "On combining classifiers",
PAMI 1998); `stack` is `product` with weights fitted on data, one row per prefix (a logistic
stacker with one weight per member, Wolpert 1992); `last` keeps the newest answer alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.manifest import CombineSpec

FloatArray = NDArray[np.float32]


def log_softmax(logits: FloatArray) -> FloatArray:
    """Log-probabilities of one vector of logits, both float32 [classes]."""
    shifted = logits - logits.max()
    result: FloatArray = shifted - np.log(np.exp(shifted).sum())
    return result


class Combiner:
    """The running combination of one frame's answers.

    Args:
        spec: The bundle's rule and weights.
    """

    def __init__(self, spec: CombineSpec) -> None:
        self._spec = spec
        self._members: list[FloatArray] = []

    def reset(self) -> None:
        """Forgets the frame before."""
        self._members.clear()

    def add(self, logits: FloatArray) -> FloatArray:
        """Takes the next stage's logits, float32 [classes].

        Returns:
            Log-probabilities of the combined answer, float32 [classes].
        """
        newest = log_softmax(logits)
        if self._spec.rule == 'last':
            return newest
        self._members.append(newest)
        count = len(self._members)
        weights = np.asarray(
            self._spec.weights[count - 1] if self._spec.weights else [1.0] * count, np.float32
        )
        members = np.stack(self._members)
        if self._spec.rule == 'average':
            mean = weights @ np.exp(members) / weights.sum()
            result: FloatArray = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
            return result
        return log_softmax(weights @ members)
