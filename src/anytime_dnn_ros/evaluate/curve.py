"""The anytime curve: how right each exit is against what it costs, and one number for it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.exit_probabilities import (
    ExitProbabilities,
    Reliability,
    reliability,
)
from anytime_dnn_ros.evaluate.judged import Judged, judged
from anytime_dnn_ros.evaluate.monotone import monotone_violations
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.quality.exit_rules import answer_features, simulate
from anytime_dnn_ros.quality.temperature import expected_calibration_error, probabilities_at
from anytime_dnn_ros.timing.reference import ReferenceTimes

# Fields of `Exit` that a curve can be drawn against.
Cost = Literal['macs_sequential', 'time_ms']


@dataclass(frozen=True)
class Budget:
    """A range of costs that an anytime curve is averaged over, each cost counting the same.

    Attributes:
        low: Least cost, multiply-accumulates or milliseconds.
        high: Greatest cost, same unit.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high < float('inf'):
            raise ConfigurationError(
                f'a budget from {self.low:g} to {self.high:g} is empty or endless: give LO,HI '
                'with 0 <= LO < HI'
            )


@dataclass(frozen=True)
class Exit:
    """One exit of a ladder, measured. Shares are 0..1.

    Attributes:
        macs_sequential: Multiply-accumulates of all stages up to this one: what was spent when
            its answer is out.
        time_ms: Median over images of the time for all stages up to this one.
        time_p99_ms: 99th percentile of the same.
        top1: Share of right answers.
        nll: Mean of -log p(true class) at temperature 1, nats.
        ece: Expected calibration error at temperature 1.
        temperature: The bundle's, None where it has no quality data.
        nll_calibrated: As `nll`, at the bundle's temperature.
        ece_calibrated: As `ece`, at the bundle's temperature.
    """

    name: str
    macs_sequential: float
    time_ms: float
    time_p99_ms: float
    top1: float
    nll: float
    ece: float
    temperature: float | None
    nll_calibrated: float | None
    ece_calibrated: float | None


@dataclass(frozen=True)
class RulePoint:
    """What one of the bundle's exit rules costs and gives on these images.

    Attributes:
        rule: Its name.
        mean_macs: Multiply-accumulates per image, all stages up to its exit counted.
        top1: Share of right answers, 0..1.
    """

    rule: str
    mean_macs: float
    top1: float


@dataclass(frozen=True)
class LadderCurve:
    """A ladder measured on one set of images.

    Attributes:
        path: The bundle's folder.
        quality_data: What the bundle says that its temperatures and exit rules are from.
        chance: Share of right answers of blind guessing: what counts before the first exit.
        monotone_violations: See `monotone_violations`, at temperature 1.
        monotone_violations_calibrated: The same at the bundle's temperatures, if it has them.
        reliability: One per exit, at temperature 1.
        reliability_calibrated: One per exit, at the bundle's temperatures, if it has them.
        exit_rules: Each of the bundle's exit rules; none where it has none.
        judged: What is published after each exit, by the guard in use.
        label_coverage: What the bundle states for the label sets of each exit; empty without.
    """

    name: str
    kind: Literal['interruptible', 'contract']
    path: str
    quality_data: str | None
    chance: float
    exits: tuple[Exit, ...]
    monotone_violations: dict[str, float]
    monotone_violations_calibrated: dict[str, float] | None
    reliability: tuple[Reliability, ...]
    reliability_calibrated: tuple[Reliability, ...] | None
    exit_rules: tuple[RulePoint, ...]
    judged: Judged
    label_coverage: tuple[float, ...]

    def area(self, budget: Budget, cost: Cost) -> float:
        """Mean accuracy over a budget, 0..1; see `area_under_curve`."""
        costs = [getattr(exit_, cost) for exit_ in self.exits]
        return area_under_curve(costs, [e.top1 for e in self.exits], budget, self.chance)


def area_under_curve(
    costs: Sequence[float], accuracies: Sequence[float], budget: Budget, chance: float
) -> float:
    """Mean accuracy of whoever stops the ladder at a cost drawn evenly from the budget.

    The answer is that of the newest finished exit, not of the best one so far; before the first
    exit it is a guess.

    Args:
        costs: Sequential cost of each exit, ascending.
        accuracies: Of each exit, 0..1.
        budget: The range of costs.
        chance: Accuracy of a guess, 0..1.

    Returns:
        0..1.
    """
    edges = np.clip([budget.low, *costs, budget.high], budget.low, budget.high)
    heights = np.array([chance, *accuracies])
    return float(heights @ np.diff(edges) / (budget.high - budget.low))


def measure_curve(
    bundle: Bundle,
    name: str,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    times: ReferenceTimes,
) -> LadderCurve:
    """All figures of one ladder.

    Args:
        bundle: The ladder.
        name: How reports call it.
        scores: From `stage_scores`, float32 [images, stages, classes].
        labels: True classes, int64 [images].
        times: From `stage_times`.
    """
    stages = bundle.manifest.stages
    right = scores.argmax(axis=2) == labels[:, None]
    plain = ExitProbabilities.of(scores, labels, [1.0] * len(stages))
    fitted = None
    if bundle.quality is not None:
        fitted = ExitProbabilities.of(
            scores, labels, [s.temperature for s in bundle.quality.stages]
        )
    macs = np.cumsum([stage.macs for stage in stages])
    # Cumulative per image first: the 99th percentile of a sum is not the sum of percentiles.
    elapsed_ms = 1e3 * np.cumsum(times.samples_s, axis=1)
    exits = tuple(
        Exit(
            name=stage.name,
            macs_sequential=float(macs[k]),
            time_ms=float(np.median(elapsed_ms[:, k])),
            time_p99_ms=float(np.percentile(elapsed_ms[:, k], 99)),
            top1=float(right[:, k].mean()),
            nll=plain.nll(k),
            ece=expected_calibration_error(plain.confidence[:, k], right[:, k]),
            temperature=bundle.quality.stages[k].temperature if bundle.quality else None,
            nll_calibrated=fitted.nll(k) if fitted else None,
            ece_calibrated=expected_calibration_error(fitted.confidence[:, k], right[:, k])
            if fitted
            else None,
        )
        for k, stage in enumerate(stages)
    )
    return LadderCurve(
        name=name,
        kind=bundle.manifest.kind,
        path=str(bundle.path),
        quality_data=bundle.quality.data if bundle.quality else None,
        chance=1 / len(bundle.labels),
        exits=exits,
        monotone_violations=monotone_violations(plain.true, right),
        monotone_violations_calibrated=monotone_violations(fitted.true, right) if fitted else None,
        reliability=_reliabilities(plain, right),
        reliability_calibrated=_reliabilities(fitted, right) if fitted else None,
        exit_rules=_rule_points(bundle, scores, labels),
        judged=judged(bundle.quality, scores, labels),
        label_coverage=bundle.quality.label_coverage if bundle.quality else (),
    )


def _rule_points(
    bundle: Bundle, scores: NDArray[np.float32], labels: NDArray[np.int64]
) -> tuple[RulePoint, ...]:
    if bundle.quality is None or not bundle.quality.exit_rules:
        return ()
    macs = [stage.macs for stage in bundle.manifest.stages]
    temperatures = [s.temperature for s in bundle.quality.stages]
    features = answer_features(probabilities_at(scores, temperatures))
    right = scores.argmax(2) == labels[:, None]
    return tuple(
        RulePoint(rule.rule, *simulate(rule.weights, features, right, macs))
        for rule in bundle.quality.exit_rules
    )


def _reliabilities(
    answers: ExitProbabilities, right: NDArray[np.bool_]
) -> tuple[Reliability, ...]:
    return tuple(reliability(answers.confidence[:, k], right[:, k]) for k in range(right.shape[1]))
