"""How likely an answer is right now and after each later stage, given what can be seen of it.

Zilberstein's dynamic performance profile ("Using anytime algorithms in intelligent systems", AI
Magazine 1996): counted on held-out images, per confidence of the published answer and whether the
newest stage named the same class as the one before. What is declared of a frame must never fall,
and a running maximum of honest numbers claims too much. So a stage may raise it only to what its
cell says less `held_back`, the least for which the mean declared is the accuracy after that stage.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.manifest import Quality
from anytime_dnn_ros.ladder.profile import Monotone, Profile, ProfileStage
from anytime_dnn_ros.quality import CalibrationError, check_scores
from anytime_dnn_ros.quality.guard import guarded_probabilities
from anytime_dnn_ros.quality.label_sets import fit_thresholds
from anytime_dnn_ros.quality.temperature import fit_temperature, probabilities_at

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
BINS = 10
# A cell counts as if it had so many images more, of the accuracy of its bin, and a bin likewise
# of its stage's: few images say little.
SMOOTHING = 5.0
# Halvings of 0..1 for `held_back`; edges of bins have as many decimals as this resolves.
STEPS, DECIMALS = 20, 6


@dataclass(frozen=True)
class StageTable:
    """A profile's stage, ready to be looked up.

    Attributes:
        edges: Between one bin of confidence and the next, [bins - 1].
        chances: That the answer published after this stage and after each later one is right,
            [stages left, cells].
        held_back: See `ProfileStage`.
        accuracy: Share of right answers after this stage, 0..1.
    """

    edges: tuple[float, ...]
    chances: tuple[tuple[float, ...], ...]
    held_back: float
    accuracy: float

    def cell(self, confidence: float, *, agrees: bool) -> int:
        """The cell of an answer of so much confidence."""
        return 2 * bisect_right(self.edges, confidence) + agrees


def find_profile(quality: Quality | None, monotone: Monotone) -> Profile | None:
    """What was counted for a guard; None if nothing was."""
    profiles = () if quality is None else quality.profiles
    return next((p for p in profiles if p.monotone == monotone), None)


def stage_tables(
    quality: Quality | None, num_stages: int, monotone: Monotone
) -> tuple[StageTable, ...]:
    """Tables of what may be declared: NaN throughout if nothing may.

    Quality data without a profile of that guard give the accuracy of the stages.
    """
    if quality is None or not quality.held_out:
        accuracies = [nan] * num_stages
    else:
        profile = find_profile(quality, monotone)
        if profile is not None:
            return tuple(_table(stage) for stage in profile.stages)
        accuracies = [nan if s.accuracy is None else s.accuracy for s in quality.stages]
    return tuple(
        StageTable((), tuple((a, a) for a in accuracies[k:]), 0.0, accuracies[k])
        for k in range(num_stages)
    )


def _table(stage: ProfileStage) -> StageTable:
    images, right = np.array(stage.images), np.array(stage.right)
    chances = tuple(map(tuple, _chances(images, right).tolist()))
    return StageTable(stage.edges, chances, stage.held_back, float(right[0].sum() / images.sum()))


def _chances(images: NDArray[np.int_], right: NDArray[np.int_]) -> FloatArray:
    """Smoothed shares from counts [cells] and [stages left, cells], of the latter's shape."""
    in_cell, right_in_cell = images.reshape(-1, 2), right.reshape(len(right), -1, 2)
    overall = (right_in_cell.sum((1, 2)) + 1) / (in_cell.sum() + 2)
    in_bin, right_in_bin = in_cell.sum(1), right_in_cell.sum(2)
    of_bin = (right_in_bin + SMOOTHING * overall[:, None]) / (in_bin + SMOOTHING)
    of_cell = (right_in_cell + SMOOTHING * of_bin[..., None]) / (in_cell + SMOOTHING)
    result: FloatArray = of_cell.reshape(right.shape)
    return result


def count_profiles(
    probabilities: NDArray[np.float32],
    labels: NDArray[np.integer],
    fit: NDArray[np.intp],
    count: NDArray[np.intp],
    coverages: Sequence[float] = (),
) -> tuple[Profile, ...]:
    """Counts a profile for every guard.

    Args:
        probabilities: Of each stage's own answer at its temperature, [images, stages, classes].
        labels: [images].
        fit: Images to fit temperatures and thresholds of the guarded answers on.
        count: Images to count on.
        coverages: To be stated for the label sets of each stage; none for no label sets.

    Raises:
        CalibrationError: Too few images, or shapes that differ.
    """
    check_scores(probabilities, labels)
    named = probabilities[count].argmax(2)
    agrees = np.ones(named.shape, bool)
    agrees[:, 1:] = named[:, 1:] == named[:, :-1]
    profiles = []
    for monotone in get_args(Monotone):
        plain = [1.0] * named.shape[1]
        published = guarded_probabilities(probabilities, monotone, plain)
        logs = np.log(np.maximum(published, np.finfo(np.float32).tiny))
        # At the first stage, and without a guard, the answers have their temperature already.
        temperatures = plain
        if monotone != 'none':
            fitted = [fit_temperature(logs[fit, k], labels[fit]) for k in range(1, len(plain))]
            temperatures = [1.0, *fitted]
            published = probabilities_at(logs, temperatures)
        profiles.append(
            count_profile(
                monotone,
                published[count].max(2),
                agrees,
                published[count].argmax(2) == labels[count, None],
                temperatures=temperatures,
                label_thresholds=fit_thresholds(published[fit], labels[fit], coverages)
                if coverages
                else None,
            )
        )
    return tuple(profiles)


def count_profile(
    monotone: Monotone,
    confidence: NDArray[np.floating],
    agrees: BoolArray,
    right: BoolArray,
    *,
    temperatures: Sequence[float],
    label_thresholds: Sequence[float] | None = None,
    bins: int = BINS,
) -> Profile:
    """Counts a profile.

    Args:
        monotone: The guard whose published answers these are.
        confidence: Of the published answers, 0..1, [images, stages].
        agrees: Whether each stage's own answer names the class that the one before named; true
            at the first stage, [images, stages].
        right: Whether the published answers are right, [images, stages].
        temperatures: Of the guarded answers, as for `Guard`.
        label_thresholds: As `fit_thresholds` gives them; None = no label sets.
        bins: How many of equal count a stage's confidences are parted into; fewer where some are
            the same.

    Raises:
        CalibrationError: Nothing to count, or shapes that differ.
    """
    if not confidence.size or not confidence.shape == agrees.shape == right.shape:
        raise CalibrationError(
            f'confidences {list(confidence.shape)}, agreements {list(agrees.shape)} and outcomes '
            f'{list(right.shape)} do not belong together; give one of each per image and stage'
        )
    stages = []
    declared = np.zeros(len(right))
    for k in range(right.shape[1]):
        shares = np.arange(1, bins) / bins
        edges = np.unique(np.round(np.quantile(confidence[:, k], shares), DECIMALS))
        cell = 2 * np.searchsorted(edges, confidence[:, k], side='right') + agrees[:, k]
        cells = 2 * (len(edges) + 1)
        images = np.bincount(cell, minlength=cells)
        counts = np.array([np.bincount(cell[now], minlength=cells) for now in right[:, k:].T])
        chance = _chances(images, counts)[0][cell]
        held_back = _held_back(declared, chance, float(right[:, k].mean())) if k else 0.0
        declared = np.maximum(declared, chance - held_back)
        stages.append(
            ProfileStage(
                temperature=float(temperatures[k]),
                held_back=held_back,
                label_threshold=None if label_thresholds is None else label_thresholds[k],
                edges=tuple(edges.tolist()),
                images=tuple(images.tolist()),
                right=tuple(map(tuple, counts.tolist())),
            )
        )
    return Profile(monotone, tuple(stages))


def _held_back(declared: FloatArray, chance: FloatArray, accuracy: float) -> float:
    """The least that keeps the mean declared from exceeding the accuracy; 1 if nothing does."""
    low, high = 0.0, 1.0
    if np.maximum(declared, chance).mean() <= accuracy:
        return low
    for _ in range(STEPS):
        middle = (low + high) / 2
        if np.maximum(declared, chance - middle).mean() > accuracy:
            low = middle
        else:
            high = middle
    return high
