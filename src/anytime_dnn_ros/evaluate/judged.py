"""What a ladder says of labelled images through the judge, and how true that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.evaluate.monotone import monotone_violations
from anytime_dnn_ros.ladder.answer import make_answer
from anytime_dnn_ros.ladder.manifest import Quality
from anytime_dnn_ros.ladder.profile import Monotone
from anytime_dnn_ros.quality.judge import DEFAULT_MONOTONE, Judge
from anytime_dnn_ros.quality.temperature import expected_calibration_error


@dataclass(frozen=True)
class JudgedExit:
    """The answers published after one exit. Shares are 0..1.

    Attributes:
        accuracy: Share of right answers.
        declared_accuracy: Mean of what was declared; None if nothing may be.
        ece: Expected calibration error of the published confidence.
        coverage: Share of label sets that hold the true class; None without label sets.
        label_set_size: Mean number of classes in a label set; None likewise.
    """

    accuracy: float
    declared_accuracy: float | None
    ece: float
    coverage: float | None
    label_set_size: float | None


@dataclass(frozen=True)
class Judged:
    """All exits under one guard.

    Attributes:
        monotone: The guard.
        monotone_violations: Of the published answers; see `monotone_violations`.
        declared_violations: Share of images of which less is declared at some exit than before;
            None if nothing may be declared.
    """

    monotone: Monotone
    exits: tuple[JudgedExit, ...]
    monotone_violations: dict[str, float]
    declared_violations: float | None


def judged(
    quality: Quality | None,
    scores: NDArray[np.float32],
    labels: NDArray[np.int64],
    monotone: Monotone = DEFAULT_MONOTONE,
) -> Judged:
    """Judges every answer as the serving path does.

    Args:
        quality: The bundle's.
        scores: From `stage_scores`, float32 [images, stages, classes].
        labels: True classes, int64 [images].
        monotone: The guard in use.
    """
    images, stages, _ = scores.shape
    judge = Judge(quality, stages, monotone)
    temperatures = [s.temperature for s in quality.stages] if quality else [1.0] * stages
    shape = (images, stages)
    confidence, true = np.empty(shape, np.float32), np.empty(shape, np.float32)
    right, covered = np.empty(shape, bool), np.empty(shape, bool)
    declared, sizes = np.empty(shape), np.empty(shape)
    for i, label in enumerate(labels.tolist()):
        judge.reset()
        for k in range(stages):
            judgement = judge.judge(make_answer(k + 1, scores[i, k], temperatures[k]))
            answer = judgement.answer
            confidence[i, k], true[i, k] = answer.confidence, answer.probabilities[label]
            right[i, k] = answer.probabilities.argmax() == label
            declared[i, k] = judgement.expected_accuracy
            covered[i, k] = label in judgement.label_set
            sizes[i, k] = len(judgement.label_set)
    # A stage without an accuracy declares NaN of every image.
    declares = ~np.isnan(declared[0])
    has_sets = sizes[0, 0] > 0
    exits = tuple(
        JudgedExit(
            accuracy=float(right[:, k].mean()),
            declared_accuracy=float(declared[:, k].mean()) if declares[k] else None,
            ece=expected_calibration_error(confidence[:, k], right[:, k]),
            coverage=float(covered[:, k].mean()) if has_sets else None,
            label_set_size=float(sizes[:, k].mean()) if has_sets else None,
        )
        for k in range(stages)
    )
    falls = (np.diff(declared[:, declares], axis=1) < 0).any(1)
    return Judged(
        monotone=monotone,
        exits=exits,
        monotone_violations=monotone_violations(true, right),
        declared_violations=float(falls.mean()) if declares.any() else None,
    )


def percent(share: float | None) -> str:
    """A share for a table, in percent; a dash if there is none."""
    return '-' if share is None else f'{100 * share:.2f}'
