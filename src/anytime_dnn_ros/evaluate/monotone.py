"""How often later is worse: what an anytime answer must not do, counted on labelled images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# By how much the probability of the true class may fall before it counts.
FALLS = (0.01, 0.05, 0.1, 0.2, 0.5)


def monotone_violations(
    true_probabilities: NDArray[np.float32], right: NDArray[np.bool_]
) -> dict[str, float]:
    """Both readings of "a later answer is no worse", as shares 0..1 of violations.

    Per image: `p_true_falls_over_<d>`, the images for which p(true class) falls by more than d
    from some exit to some later one, not only the next (Jazbec et al., "Towards anytime
    classification in early-exit architectures by enforcing conditional monotonicity", NeurIPS
    2023), and `right_then_wrong`, those answered right at some exit and wrong at a later one.
    Of the whole profile, which Zilberstein ("Using anytime algorithms in intelligent systems",
    AI Magazine 1996) wants to rise with time: `exits_below_an_earlier`, the share of exits after
    the first whose accuracy is below that of an earlier exit.

    Args:
        true_probabilities: p(true class) after each exit, [images, exits].
        right: Whether the answer is right, [images, exits].
    """
    p = true_probabilities.astype(np.float64)
    largest_fall = (np.maximum.accumulate(p, axis=1) - p).max(axis=1)
    was_right = np.logical_or.accumulate(right, axis=1)
    accuracy = right.mean(axis=0)
    below = (accuracy < np.maximum.accumulate(accuracy))[1:]
    return {
        **{f'p_true_falls_over_{d:g}': float((largest_fall > d).mean()) for d in FALLS},
        'right_then_wrong': float((was_right & ~right).any(axis=1).mean()),
        'exits_below_an_earlier': float(below.mean()) if below.size else 0.0,
    }
