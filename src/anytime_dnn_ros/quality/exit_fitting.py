"""The numbers of the exit rules, from answers on held-out data; see `exit_rules.py`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.manifest import ExitRule, ExitRuleName
from anytime_dnn_ros.quality import CalibrationError, check_scores
from anytime_dnn_ros.quality.exit_rules import (
    FloatArray,
    answer_features,
    good_enough,
    simulate,
)
from anytime_dnn_ros.quality.temperature import probabilities_at

Row = tuple[float, float, float, float]
# No probability and no entropy reaches these.
NEVER: Row = (-1.0, 0.0, 0.0, 0.0)
ALWAYS: Row = (0.0, 0.0, 0.0, 0.0)
# MSDNet's q, from nearly all at the first exit to nearly all at the last.
Q_RATIOS = np.geomspace(0.05, 20, 24)
# Accuracy, 0..1, that running the whole ladder has to bring to be worth it.
PRICES = (0.0, *np.geomspace(1e-3, 10, 23))
# Exits are fitted from the last to the first, each for the images that still reach it; a change
# at an early exit changes who reaches a later one.
PASSES = 3
RIDGE = 1e-4
NEWTON_STEPS, HALVINGS = 50, 10
LEAST_DECREASE = 1e-10


def fit_exit_rules(
    scores: NDArray[np.float32],
    labels: NDArray[np.integer],
    macs: Sequence[float],
    temperatures: Sequence[float],
) -> tuple[ExitRule, ...]:
    """Fits every rule for a range of mean costs.

    Args:
        scores: Of the combined answer after each stage, [N, stages, classes], as the bundle gives
            them on data that no weight has seen.
        labels: [N].
        macs: Of each stage alone.
        temperatures: Of each stage, as the bundle will have them.

    Returns:
        For each name the rules of which none is both cheaper and better than the next, cheapest
        first, with mean cost and accuracy on this data; none for a ladder of one stage.

    Raises:
        CalibrationError: Nothing can be fitted to these.
    """
    check_scores(scores, labels)
    if not scores.shape[1] == len(macs) == len(temperatures) or scores.shape[2] < 2:
        raise CalibrationError(
            f'scores {list(scores.shape)} do not fit {len(macs)} costs and {len(temperatures)} '
            'temperatures; give [N, stages, classes] of two classes or more'
        )
    if len(macs) == 1:
        return ()
    probabilities = probabilities_at(scores, temperatures)
    features = answer_features(probabilities)
    right = probabilities.argmax(2) == labels[:, None]
    cost = np.cumsum(macs) / np.sum(macs)
    fits: dict[ExitRuleName, list[list[Row]]] = {
        'entropy': [_priced(features, right, cost, price, _entropy_row) for price in PRICES],
        'max_softmax': [_shared_out(features[..., 0], q) for q in Q_RATIOS],
        'learned': [_priced(features, right, cost, price, _learned_row) for price in PRICES],
    }
    rules = [
        ExitRule(name, *simulate(rows, features, right, macs), weights=tuple(rows))
        for name, fit in fits.items()
        for rows in fit
    ]
    return worthwhile(rules)


def worthwhile(rules: Sequence[ExitRule]) -> tuple[ExitRule, ...]:
    """Of each name, the rules that no cheaper one equals in accuracy, cheapest first."""
    kept: list[ExitRule] = []
    # Of equal costs the most accurate comes first.
    for rule in sorted(rules, key=lambda r: (r.rule, r.mean_macs, -r.accuracy)):
        if not kept or kept[-1].rule != rule.rule or rule.accuracy > kept[-1].accuracy:
            kept.append(rule)
    return tuple(kept)


def _shared_out(confidence: FloatArray, q: float) -> list[Row]:
    """MSDNet's thresholds: a share of the images proportional to q^k leaves at exit k.

    Args:
        confidence: Largest probability, [N, stages].
        q: Below 1 most leave early, above 1 most leave late.
    """
    count, stages = confidence.shape
    shares = q ** np.arange(stages)
    wanted = np.round(count * shares / shares.sum()).astype(int)
    staying = np.ones(count, bool)
    rows = []
    for k in range(stages - 1):
        waiting = np.sort(confidence[staying, k])[::-1]
        leaving = min(wanted[k], len(waiting))
        if not leaving:
            rows.append(NEVER)
            continue
        rows.append((-float(waiting[leaving - 1]), 1.0, 0.0, 0.0))
        staying &= ~good_enough(rows[-1], confidence[:, k, None] * (1, 0, 0))
    return rows


def _priced(
    features: FloatArray,
    right: NDArray[np.bool_],
    cost: FloatArray,
    price: float,
    fit_row: Callable[[FloatArray, FloatArray], Row],
) -> list[Row]:
    """One row per exit but the last, for the most of accuracy less price times mean cost.

    From the last exit to the first, as Bolukbasi et al. do: what going on would bring is known
    from the later exits.

    Args:
        features: Of the answers, [N, stages, 3].
        right: Whether they are right, [N, stages].
        cost: Up to and with each stage, as a share of the whole ladder's, [stages].
        price: In accuracy per whole ladder.
        fit_row: From features [M, 3] and what leaving gains over going on, [M], to a row.
    """
    images, stages = right.shape
    rows = [NEVER] * (stages - 1)
    left = np.zeros((images, stages), bool)
    left[:, -1] = True
    for _ in range(PASSES):
        for k in reversed(range(stages - 1)):
            here = ~left[:, :k].any(1)
            if not here.any():
                continue
            later = k + 1 + left[here, k + 1 :].argmax(1)
            gain = right[here, k].astype(float) - right[here, later]
            gain += price * (cost[later] - cost[k])
            rows[k] = fit_row(features[here, k], gain)
            left[:, k] = good_enough(rows[k], features[:, k])
    return rows


def _entropy_row(features: FloatArray, gain: FloatArray) -> Row:
    """The threshold on the entropy with the largest summed gain of those who leave."""
    order = np.argsort(features[:, 2], kind='stable')
    entropy = features[order, 2]
    sums = np.concatenate([[0.0], np.cumsum(gain[order])])
    # Equal entropies cannot be parted.
    sums[1:-1][entropy[1:] == entropy[:-1]] = -np.inf
    leaving = int(sums.argmax())
    if leaving in (0, len(entropy)):
        return ALWAYS if leaving else NEVER
    return float(entropy[leaving - 1] + entropy[leaving]) / 2, 0.0, 0.0, -1.0


def _learned_row(features: FloatArray, gain: FloatArray) -> Row:
    """Logistic regression of "leaving gains", each image weighing what is at stake for it."""
    weight = np.abs(gain)
    if not weight.any():
        return NEVER
    weight /= weight.sum()
    sign = np.where(gain > 0, 1.0, -1.0)
    mean, scale = features.mean(0), np.maximum(features.std(0), 1e-6)
    inputs = np.column_stack([np.ones(len(gain)), (features - mean) / scale])

    def loss(beta: FloatArray) -> float:
        return float(weight @ np.logaddexp(0, -sign * (inputs @ beta)) + RIDGE / 2 * beta @ beta)

    beta = np.zeros(4)
    best = loss(beta)
    for _ in range(NEWTON_STEPS):
        doubt = 0.5 * (1 - np.tanh(sign * (inputs @ beta) / 2))
        gradient = RIDGE * beta - inputs.T @ (weight * sign * doubt)
        curvature = (inputs.T * (weight * doubt * (1 - doubt))) @ inputs + RIDGE * np.eye(4)
        step = np.linalg.solve(curvature, gradient)
        # A full step may overshoot far from the minimum.
        trials = [beta - step / 2**halving for halving in range(HALVINGS)]
        beta = next((trial for trial in trials if loss(trial) < best - LEAST_DECREASE), beta)
        if loss(beta) >= best:
            break
        best = loss(beta)
    slopes = beta[1:] / scale
    return (float(beta[0] - slopes @ mean), *map(float, slopes))  # type: ignore[return-value]
