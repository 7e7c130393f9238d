"""Sets of classes that hold the true one as often as stated, and that shrink from stage to stage.

A class stays in the set while its probability reaches the stage's threshold (Sadinle et al.,
"Least ambiguous set-valued classifiers with bounded error levels", JASA 2019); whatever has left
does not come back, and the likeliest of a set never leaves it, so that none is empty. Each
threshold is an order statistic of calibration images, which needs no assumption on the answers
(Vovk et al., "Algorithmic learning in a random world", 2005), fitted to the sets that the stages
before have left.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.quality import CalibrationError

Probabilities = NDArray[np.floating]
Classes = NDArray[np.intp]
DEFAULT_COVERAGE = 0.95
# What the first stage covers beyond the last: each later one may lose its part of it.
SPARE = 0.005
DECIMALS = 4


def shrunk(classes: Classes | None, probabilities: Probabilities, threshold: float) -> Classes:
    """The set after one more stage.

    Args:
        classes: The set so far; None before the first stage.
        probabilities: Of all classes after this stage, [classes].
        threshold: Of this stage.

    Returns:
        Those that stay, likeliest first.
    """
    p = probabilities if classes is None else probabilities[classes]
    kept = np.flatnonzero(p >= min(threshold, p.max()))
    kept = kept[np.argsort(-p[kept], kind='stable')]
    return kept if classes is None else classes[kept]


def choose_coverage(accuracy: float, count: int, wanted: float | None = None) -> float | None:
    """The coverage to state after the last stage.

    Args:
        accuracy: The best stage's, 0..1. Sets of one class cover as much already.
        count: Images that thresholds will be fitted on.
        wanted: What the user asks for, 0..1; None = `DEFAULT_COVERAGE`, or half of the way from
            the accuracy to 1 where that is more.

    Returns:
        None if nothing was asked for and these images are too few to state anything.

    Raises:
        CalibrationError: What was asked for is less than sets of one class cover, or more than so
            many images can show.
    """
    chosen = wanted
    if chosen is None:
        chosen = DEFAULT_COVERAGE
        if accuracy >= chosen:
            chosen = round((1 + accuracy) / 2, DECIMALS)
    if not accuracy < chosen < 1 and wanted is not None:
        raise CalibrationError(
            f'a coverage of {wanted:g} cannot be kept: the likeliest class alone is right for '
            f'{accuracy:.4f} of the images; give one above that and below 1, or leave it out'
        )
    # The order statistic must be one of them.
    if ceil((count + 1) * stage_coverages(chosen, 2)[0]) > count:
        if wanted is not None:
            raise CalibrationError(
                f'{count} images are too few to fit label sets of coverage {wanted:g}; give more '
                'data or a lower --coverage'
            )
        return None
    return chosen


def stage_coverages(coverage: float, num_stages: int) -> tuple[float, ...]:
    """What to state for each stage: evenly down to the last from a little above it."""
    first = min(coverage + SPARE, (1 + coverage) / 2) if num_stages > 1 else coverage
    return tuple(np.round(np.linspace(first, coverage, num_stages), DECIMALS + 1).tolist())


def fit_thresholds(
    probabilities: Probabilities, labels: NDArray[np.integer], coverages: Sequence[float]
) -> tuple[float, ...]:
    """The largest threshold of each stage that keeps its coverage.

    Args:
        probabilities: Of the published answers, [images, stages, classes].
        labels: [images].
        coverages: Of each stage, not rising, 0..1.

    Raises:
        CalibrationError: A coverage that so many images cannot show.
    """
    count = len(labels)
    rows = np.arange(count)
    inside = np.ones((count, probabilities.shape[2]), bool)
    thresholds = []
    for k, coverage in enumerate(coverages):
        needed = ceil((count + 1) * coverage)
        if needed > count:
            raise CalibrationError(
                f'{count} images are too few to fit label sets of coverage {coverage:g}; give '
                'more data or a lower --coverage'
            )
        best = np.where(inside, probabilities[:, k], -1).max(1)
        # Up to this threshold the true class stays; the likeliest stays at any.
        true = probabilities[rows, k, labels].astype(np.float64)
        stays_to = np.where(true >= best, 1.0, true)
        stays_to[~inside[rows, labels]] = -1.0
        threshold = float(np.sort(stays_to)[count - needed])
        thresholds.append(threshold)
        inside &= probabilities[:, k] >= np.minimum(threshold, best)[:, None]
    return tuple(thresholds)
