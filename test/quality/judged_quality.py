"""Quality data of a made-up ladder, counted as `anytime-dnn calibrate` counts them."""

import numpy as np

from anytime_dnn_ros.ladder.manifest import Quality, StageQuality
from anytime_dnn_ros.quality.label_sets import choose_coverage, stage_coverages
from anytime_dnn_ros.quality.performance_profile import count_profiles
from anytime_dnn_ros.quality.temperature import fit_temperature, probabilities_at
from quality.graded_answers import SHARPNESS, scores_and_labels

STAGES = len(SHARPNESS)


def counted_quality(images: int = 4000, seed: int = 0, *, held_out: bool = True) -> Quality:
    """Half of the images to fit on, half to count on."""
    scores, labels = scores_and_labels(images, seed)
    fit, count = np.arange(0, images, 2), np.arange(1, images, 2)
    temperatures = [fit_temperature(scores[fit, k], labels[fit]) for k in range(STAGES)]
    accuracy = (scores[count].argmax(2) == labels[count, None]).mean(0)
    coverages = stage_coverages(choose_coverage(accuracy.max(), len(fit)), STAGES)
    profiles = count_profiles(
        probabilities_at(scores, temperatures), labels, fit, count, coverages
    )
    return Quality(
        data='made up',
        held_out=held_out,
        stages=tuple(
            StageQuality(*row) for row in zip(temperatures, accuracy.tolist(), strict=True)
        ),
        label_coverage=coverages,
        profiles=profiles,
    )
