"""Weights that combine the answers of a ladder's stages, fitted on labelled answers.

A logistic stacker with one weight per member (Wolpert, "Stacked generalization", 1992):
p ~ prod_i p_i^w_i. One weight alone is a temperature, 1/w (Guo et al., ICML 2017), so a fitted
prefix needs no other calibration.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from anytime_dnn_ros.ladder.combine import Combiner, log_softmax
from anytime_dnn_ros.ladder.manifest import CombineSpec

FloatArray = NDArray[np.float32]
# A weight is worth no more digits than a thousand photos can tell apart.
WEIGHT_DIGITS = 3


def combined(members: Sequence[FloatArray], spec: CombineSpec) -> FloatArray:
    """Log-probabilities of the whole prefix through the run time's own `Combiner`.

    Args:
        members: Logits of stages 1..k, each [images, classes].
        spec: Rule and weights for at least k stages.

    Returns:
        Log-probabilities, float32 [images, classes].
    """
    combiner = Combiner(spec)
    rows = []
    for logits in zip(*members, strict=True):
        combiner.reset()
        rows.append(log_softmax([combiner.add(row) for row in logits][-1]))
    return np.stack(rows)


def stacked(members: Sequence[FloatArray], weights: Sequence[float]) -> FloatArray:
    """Log-probabilities of one weighted prefix, float32 [images, classes]."""
    total = np.tensordot(np.asarray(weights, np.float32), np.stack(members), 1)
    total -= total.max(1, keepdims=True)
    result: FloatArray = total - np.log(np.exp(total).sum(1, keepdims=True))
    return result


def negative_log_likelihood(log_probabilities: FloatArray, truth: NDArray[np.intp]) -> float:
    """Mean of -log p(true class), nats; `log_probabilities` [images, classes]."""
    return float(-log_probabilities[np.arange(len(truth)), truth].mean())


def fit_weights(members: Sequence[FloatArray], truth: NDArray[np.intp]) -> tuple[float, ...]:
    """Weights >= 0 of one prefix with the least negative log-likelihood; a convex problem.

    Args:
        members: Logits of stages 1..k, each [images, classes].
        truth: Right classes, [images].

    Returns:
        One weight per member.
    """
    answers = np.stack(members).astype(np.float64)
    right = answers[:, np.arange(len(truth)), truth]

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = np.tensordot(weights, answers, 1)
        powers = np.exp(total - total.max(1, keepdims=True))
        sums = powers.sum(1, keepdims=True)
        value = np.log(sums[:, 0]) + total.max(1) - weights @ right
        gradient = np.einsum('knc,nc->kn', answers, powers / sums) - right
        return float(value.mean()), gradient.mean(1)

    count = len(members)
    fitted = minimize(
        loss, np.full(count, 1 / count), jac=True, method='L-BFGS-B', bounds=[(0, None)] * count
    )
    return tuple(round(float(weight), WEIGHT_DIGITS) for weight in fitted.x)
