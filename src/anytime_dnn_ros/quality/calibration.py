"""Everything that `quality.json` says, counted from a ladder's answers on held-out data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.manifest import Quality, StageQuality
from anytime_dnn_ros.quality import CalibrationError, check_scores
from anytime_dnn_ros.quality.exit_fitting import fit_exit_rules, probabilities_at, worthwhile
from anytime_dnn_ros.quality.exit_rules import simulate
from anytime_dnn_ros.quality.temperature import fit_temperature


def calibrate(
    scores: NDArray[np.float32],
    labels: NDArray[np.integer],
    macs: Sequence[float],
    *,
    data: str,
    seed: int = 0,
) -> Quality:
    """Fits temperatures and exit rules on one half of the images, counts figures on the other.

    Args:
        scores: Of the combined answer after each stage, [N, stages, classes], on images that no
            weight of the ladder has seen.
        labels: [N].
        macs: Of each stage alone.
        data: Name of the images.
        seed: Draws the halves.

    Returns:
        What goes into the bundle; each exit rule has the mean cost and accuracy that a report can
        plot.

    Raises:
        CalibrationError: Nothing can be counted on these.
    """
    check_scores(scores, labels)
    if len(labels) < 2:
        raise CalibrationError('one image cannot be halved; calibrate on hundreds of images')
    order = np.random.default_rng(seed).permutation(len(labels))
    fit, count = order[: len(order) // 2], order[len(order) // 2 :]
    temperatures = [fit_temperature(scores[fit, k], labels[fit]) for k in range(len(macs))]
    rules = fit_exit_rules(scores[fit], labels[fit], macs, temperatures)
    held_out, truth = probabilities_at(scores[count], temperatures), labels[count]
    counted = []
    for rule in rules:
        mean_macs, accuracy = simulate(rule.weights, held_out, truth, macs)
        counted.append(replace(rule, mean_macs=mean_macs, accuracy=accuracy))
    accuracies = (held_out.argmax(2) == truth[:, None]).mean(0)
    return Quality(
        data=f'{data}: half of it for temperatures and exit rules, the other half for the figures',
        held_out=True,
        stages=tuple(
            StageQuality(temperature, float(accuracy))
            for temperature, accuracy in zip(temperatures, accuracies, strict=True)
        ),
        exit_rules=worthwhile(counted),
    )
