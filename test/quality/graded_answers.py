"""Answers of a ladder that grows surer and righter from stage to stage, and is honest about it."""

import numpy as np

CLASSES, MACS = 10, (3e6, 4e6, 4e6, 9e6)
SHARPNESS = (2.0, 3.5, 4.5, 5.0)


def scores_and_labels(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [count, stages, classes]: some images are easy, some stay hard."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    ease = 1 / (0.5 + rng.exponential(1, count))
    scores, sum_of_stages = [], np.zeros((count, CLASSES))
    for sharpness in SHARPNESS:
        stage = rng.normal(0, 1, (count, CLASSES))
        stage[np.arange(count), labels] += sharpness * ease
        sum_of_stages = 0.5 * sum_of_stages + stage
        scores.append(sum_of_stages)
    return np.stack(scores, 1).astype(np.float32), labels
