"""Whether an answer is good enough to leave with, before the deadline asks for it.

Three published rules, each a sum over what the answer says of itself, so that one line decides:

- `entropy`: low enough (Teerapittayanon et al., "BranchyNet", ICPR 2016);
- `max_softmax`: the largest probability is high enough (Huang et al., "Multi-scale dense
  networks", ICLR 2018);
- `learned`: a classifier per exit (Bolukbasi et al., "Adaptive neural networks for efficient
  inference", ICML 2017).

Each exists for several mean costs; `exit_fitting.py` finds their numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.manifest import ExitRule

FloatArray = NDArray[np.float64]
# Keeps 0 log 0 at 0.
TINY = np.float32(np.finfo(np.float32).tiny)


def answer_features(probabilities: NDArray[np.float32]) -> FloatArray:
    """What an answer says of itself.

    Args:
        probabilities: [..., classes], two classes or more, summing to 1.

    Returns:
        Largest probability, its margin over the second, and entropy as a share of the most that
        so many classes can have: [..., 3], each 0..1.
    """
    classes = probabilities.shape[-1]
    best = np.partition(probabilities, classes - 2, axis=-1)[..., -2:]
    logs = np.log(np.maximum(probabilities, TINY))
    features = np.empty((*probabilities.shape[:-1], 3))
    features[..., 0] = best[..., 1]
    features[..., 1] = best[..., 1] - best[..., 0]
    features[..., 2] = -(probabilities * logs).sum(-1) / np.log(classes)
    return features


def good_enough(weights: Sequence[float], features: FloatArray) -> NDArray[np.bool_]:
    """Whether to leave one exit with answers of these features, [..., 3] to bool [...]."""
    constant, *slopes = weights
    decided: NDArray[np.bool_] = np.dot(features, slopes) >= -constant
    return decided


def leaves(rule: ExitRule, stage: int, probabilities: NDArray[np.float32]) -> bool:
    """Whether to stop after a stage. The last stage always is the end.

    Args:
        rule: Of the bundle that runs.
        stage: 0-based.
        probabilities: The combined answer at its temperature, [classes].
    """
    return stage >= len(rule.weights) or bool(
        good_enough(rule.weights[stage], answer_features(probabilities))
    )


def simulate(
    weights: Sequence[Sequence[float]],
    features: NDArray[np.float64],
    right: NDArray[np.bool_],
    macs: Sequence[float],
) -> tuple[float, float]:
    """What an exit rule would cost and give on labelled answers.

    Args:
        weights: A row per stage but the last, as in `ExitRule`.
        features: `answer_features` of the answers at their temperatures, [N, stages, features].
        right: Whether each answer names the true class, [N, stages].
        macs: Of each stage alone.

    Returns:
        Mean multiply-accumulates per image, all stages up to its exit counted; and the share of
        right answers.
    """
    left = np.ones(right.shape, bool)
    for k, row in enumerate(weights):
        left[:, k] = good_enough(row, features[:, k])
    exits = left.argmax(1)
    return float(np.cumsum(macs)[exits].mean()), float(right[np.arange(len(right)), exits].mean())


def choose_rule(rules: Sequence[ExitRule], name: str, mean_macs: float = 0.0) -> ExitRule:
    """The stored rule of a name that costs most but no more than allowed.

    Args:
        rules: The bundle's.
        name: `entropy`, `max_softmax` or `learned`.
        mean_macs: Most multiply-accumulates per image, on average; 0 for no limit.

    Raises:
        ConfigurationError: The bundle has no such rule, or none so cheap.
    """
    stored = [rule for rule in rules if rule.rule == name]
    if not stored:
        raise ConfigurationError(
            f'the bundle has no exit rule {name!r}; calibrate it on held-out data with '
            '`anytime-dnn calibrate`, or set exit_rule to none'
        )
    affordable = [rule for rule in stored if not mean_macs or rule.mean_macs <= mean_macs]
    if not affordable:
        least = min(rule.mean_macs for rule in stored)
        raise ConfigurationError(
            f'the bundle has no exit rule {name!r} for {mean_macs / 1e6:g} MMAC per image; the '
            f'cheapest takes {least / 1e6:.3g} MMAC, 0 takes the most accurate'
        )
    return max(affordable, key=lambda rule: rule.mean_macs)
