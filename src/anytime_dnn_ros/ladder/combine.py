"""How the answers of stages 1..k become answer k.

A combined answer is given as scores: log-probabilities up to a constant, which the softmax of
`make_answer` takes out; for the same reason a weighted sum of logits serves for one of
log-probabilities. `product` is the weighted product of the members' probabilities and `average`
their weighted mean (Kittler et al., "On combining classifiers", PAMI 1998); `stack` is `product`
with weights fitted on data, one row per prefix (a logistic stacker with one weight per member,
Wolpert 1992); `last` keeps the newest answer alone.
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
        self._rule = spec.rule
        self._weights = [np.asarray(row, np.float32) for row in spec.weights or ()]
        self._members: list[FloatArray] = []

    def reset(self) -> None:
        """Forgets the frame before."""
        self._members.clear()

    def add(self, logits: FloatArray) -> FloatArray:
        """Takes the next stage's logits, float32 [classes], which must not change until `reset`.

        Returns:
            Scores of the combined answer, float32 [classes]: log-probabilities up to a constant.
        """
        if self._rule == 'last':
            return logits
        self._members.append(logits)
        count = len(self._members)
        weights = self._weights[count - 1] if self._weights else np.ones(count, np.float32)
        if self._rule == 'average':
            probabilities = np.exp([log_softmax(member) for member in self._members])
            mean = weights @ probabilities / weights.sum()
            result: FloatArray = np.log(np.maximum(mean, np.finfo(np.float32).tiny))
            return result
        scores: FloatArray = weights @ np.array(self._members)
        return scores
