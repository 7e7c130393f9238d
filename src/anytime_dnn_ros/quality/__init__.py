"""How good is this answer: its calibration, and when it is good enough to stop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import AnytimeError


class CalibrationError(AnytimeError):
    """Scores and labels from which nothing about quality can be counted."""


def check_scores(scores: NDArray[Any], labels: NDArray[np.integer]) -> None:
    """Checks what every count here starts from.

    Args:
        scores: [N, ..., classes].
        labels: [N], 0 <= label < classes.

    Raises:
        CalibrationError: Nothing to count, shapes that differ, a class that does not exist, or a
            score that is not finite.
    """
    if labels.shape != scores.shape[:1] or not labels.size:
        raise CalibrationError(
            f'scores {list(scores.shape)} and labels {list(labels.shape)} do not belong together; '
            'give one label per image, and at least one image'
        )
    classes = scores.shape[-1]
    if labels.min() < 0 or labels.max() >= classes:
        raise CalibrationError(
            f'labels go from {labels.min()} to {labels.max()}, the scores have {classes} classes; '
            'give the data set that the ladder was made for'
        )
    if not np.isfinite(scores).all():
        raise CalibrationError(
            'some scores are not finite; check the bundle with `anytime-dnn inspect`'
        )
