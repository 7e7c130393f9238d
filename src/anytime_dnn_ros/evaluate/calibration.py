"""Quality data of a bundle, counted on images that its weights never saw."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.exit_probabilities import ExitProbabilities
from anytime_dnn_ros.evaluate.judged import Judged, judged
from anytime_dnn_ros.evaluate.stage_scores import bundle_labels, stage_scores
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.ladder.manifest import ExitRule, Quality, StageQuality
from anytime_dnn_ros.quality.exit_fitting import fit_exit_rules, worthwhile
from anytime_dnn_ros.quality.exit_rules import answer_features, simulate
from anytime_dnn_ros.quality.label_sets import (
    DEFAULT_COVERAGE,
    choose_coverage,
    stage_coverages,
)
from anytime_dnn_ros.quality.performance_profile import count_profiles
from anytime_dnn_ros.quality.temperature import (
    expected_calibration_error,
    fit_temperature,
    probabilities_at,
)

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class StageCalibration:
    """What the temperature of one stage does, on images it was not fitted on.

    Attributes:
        nll: Mean of -log p(true class), nats, at temperature 1.
        ece: Expected calibration error, 0..1, at temperature 1.
        nll_calibrated: As `nll`, at the fitted temperature.
        ece_calibrated: As `ece`, at the fitted temperature.
    """

    name: str
    temperature: float
    accuracy: float
    nll: float
    nll_calibrated: float
    ece: float
    ece_calibrated: float


@dataclass(frozen=True)
class Calibration:
    """Quality data, and what it is worth.

    Attributes:
        num_fitted: Images that temperatures, exit rules and label sets were fitted on.
        num_counted: Other images, on which everything else was counted.
        guards: What each guard publishes, judged on the images it was counted on.
        note: What the user should know of how it went; may be empty.
    """

    quality: Quality
    stages: tuple[StageCalibration, ...]
    num_fitted: int
    num_counted: int
    guards: tuple[Judged, ...]
    note: str


def halves(labels: NDArray[np.int64]) -> tuple[Indices, Indices]:
    """Splits images in two, every class by half, the same way each time.

    Args:
        labels: int64 [images].

    Returns:
        Positions to fit on and positions to count on, each sorted.

    Raises:
        ConfigurationError: Fewer than two images.
    """
    if len(labels) < 2:
        raise ConfigurationError(
            f'calibration needs validation images to fit on and others to count on, and there are '
            f'{len(labels)} in all: give more data or a larger --limit'
        )
    shuffled = np.random.default_rng(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind='stable')]
    return np.sort(by_class[::2]), np.sort(by_class[1::2])


def calibrate(
    bundle: Bundle,
    images: Images,
    note: str = '',
    *,
    held_out: bool = True,
    coverage: float | None = None,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Calibration:
    """Fits temperatures, exit rules and label sets on one half of the images, counts on the other.

    Args:
        bundle: Its own quality data, if any, is not looked at.
        images: Validation images of the bundle's classes.
        note: What a reader of the accuracies should know about the data.
        held_out: False if the weights were trained on these images; accuracy is then written
            and not declared.
        coverage: Share of label sets that hold the true class, to be stated after the last
            stage, 0..1; None = as `choose_coverage` has it.
        progress: Called with how many images are done and how many there are.

    Raises:
        ConfigurationError: Other classes than the bundle's, or too few images.
        CalibrationError: Nothing can be fitted to these answers, or they cannot keep the
            coverage.
        EngineError: A stage fails.
    """
    labels = bundle_labels(bundle, images.labels, images.class_names)
    fit, count = halves(labels)
    scores = stage_scores(bundle, images.pixels, progress)
    stages = bundle.manifest.stages
    temperatures = [fit_temperature(scores[fit, k], labels[fit]) for k in range(len(stages))]
    right = scores[count].argmax(axis=2) == labels[count, None]
    plain = ExitProbabilities.of(scores[count], labels[count], [1.0] * len(stages))
    fitted = ExitProbabilities.of(scores[count], labels[count], temperatures)
    counted = tuple(
        StageCalibration(
            name=stage.name,
            temperature=temperatures[k],
            accuracy=float(right[:, k].mean()),
            nll=plain.nll(k),
            nll_calibrated=fitted.nll(k),
            ece=expected_calibration_error(plain.confidence[:, k], right[:, k]),
            ece_calibrated=expected_calibration_error(fitted.confidence[:, k], right[:, k]),
        )
        for k, stage in enumerate(stages)
    )
    macs = [stage.macs for stage in stages]
    rules = fit_exit_rules(scores[fit], labels[fit], macs, temperatures)
    probabilities = probabilities_at(scores, temperatures)
    features = answer_features(probabilities[count])
    stated, note_on_sets = _coverage(scores[fit], labels[fit], coverage)
    quality = Quality(
        data=f'{images.name}: {len(fit)} images for temperatures, exit rules and label sets, '
        f'{len(count)} others for accuracies and profiles{note and "; "}{note}',
        held_out=held_out,
        stages=tuple(StageQuality(s.temperature, s.accuracy) for s in counted),
        # Their cost and accuracy on the images they were fitted to would flatter them.
        exit_rules=worthwhile([_recounted(rule, features, right, macs) for rule in rules]),
        label_coverage=stated,
        profiles=count_profiles(probabilities, labels, fit, count, stated),
    )
    # What they would be worth if it may not be declared is still worth knowing.
    declaring = replace(quality, held_out=True)
    guards = tuple(
        judged(declaring, scores[count], labels[count], profile.monotone)
        for profile in quality.profiles
    )
    return Calibration(quality, counted, len(fit), len(count), guards, note_on_sets)


def _coverage(
    scores: NDArray[np.float32], labels: NDArray[np.int64], wanted: float | None
) -> tuple[tuple[float, ...], str]:
    """The coverage to state for each stage, and what the user should know about it."""
    accuracy = float((scores.argmax(2) == labels[:, None]).mean(0).max())
    chosen = choose_coverage(accuracy, len(labels), wanted)
    if chosen is None:
        return (), f'{len(labels)} images are too few to fit label sets: none are stated'
    note = ''
    if wanted is None and chosen != DEFAULT_COVERAGE:
        note = (
            f'label sets of coverage {chosen:g}, not {DEFAULT_COVERAGE:g}: the likeliest class '
            f'alone is right for {accuracy:.4f} of the images'
        )
    return stage_coverages(chosen, scores.shape[1]), note


def _recounted(
    rule: ExitRule,
    features: NDArray[np.float64],
    right: NDArray[np.bool_],
    macs: list[float],
) -> ExitRule:
    mean_macs, accuracy = simulate(rule.weights, features, right, macs)
    return replace(rule, mean_macs=mean_macs, accuracy=accuracy)
