"""Whether live confidences are still those that the profile was counted on."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from math import inf, log, nan, sqrt

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import Quality

# Frames that are compared, and frames that tell how much one resembles the next.
WINDOW, HISTORY = 500, 5000
# Chance that one window of honest frames is called drifted (Massart, "The tight constant in the
# Dvoretzky-Kiefer-Wolfowitz inequality", 1990).
FALSE_ALARM = 1e-4
# A scene may last for many frames: the means of batches of these lengths show it.
# Few batches may agree by chance: their spread counts for more, by so many standard errors.
DOUBT = 3.0
TINY = 1e-12
BATCHES, LEAST_BATCHES = (5, 10, 20, 50, 100, 200, 500), 5


@dataclass(frozen=True)
class DriftState:
    """What the last frames say.

    Attributes:
        frames: How many are looked at.
        distance: Largest difference between the shares of confidences up to some value, live and
            counted (Kolmogorov's), 0..1; NaN as long as nothing can be said.
        threshold: What chance alone does not exceed for frames that resemble each other so much.
    """

    frames: int
    distance: float
    threshold: float

    @property
    def drifted(self) -> bool:
        """True if the declared quality should no longer be believed."""
        return self.distance > self.threshold


class Drift:
    """Compares the first stage's confidences, which every frame has.

    One thread observes; any may ask for the state. Scenes that last for thousands of frames look
    like a drift until several have been seen.

    Args:
        quality: The bundle's. Without held-out counts there is nothing to compare with.
    """

    def __init__(self, quality: Quality | None) -> None:
        # At the first stage every guard publishes that stage's own answer.
        profile = (
            quality.profiles[0] if quality and quality.held_out and quality.profiles else None
        )
        self._edges: tuple[float, ...] = ()
        self._counted = 0
        self._shares: NDArray[np.float64] = np.empty(0)
        if profile is not None:
            first = profile.stages[0]
            images = np.array(first.images).reshape(-1, 2).sum(1)
            self._edges, self._counted = first.edges, int(images.sum())
            self._shares = images.cumsum() / self._counted
        self._bins: deque[int] = deque(maxlen=HISTORY)

    def observe(self, answer: Answer) -> None:
        """Takes any stage's own answer; that of the first counts."""
        if answer.stage == 1:
            self._bins.append(bisect_right(self._edges, answer.confidence))

    def state(self) -> DriftState:
        """What can be said now. Takes longer than `observe`: for diagnostics, not every frame."""
        # A copy at once: another thread may observe meanwhile.
        history = np.array(self._bins.copy())
        bins = history[-WINDOW:]
        if not self._counted or len(bins) < WINDOW:
            return DriftState(len(bins), nan, inf)
        live = np.bincount(bins, minlength=len(self._shares)).cumsum() / WINDOW
        distance = float(np.abs(live - self._shares).max())
        chance = 1 / _independent_frames(history) + 1 / self._counted
        return DriftState(WINDOW, distance, sqrt(log(2 / FALSE_ALARM) / 2 * chance))


def _independent_frames(history: NDArray[np.int_]) -> float:
    """How many independent frames tell as much as a window of these, 1 or more."""
    variance = history.var()
    if not variance:
        return 1.0
    least = float(WINDOW)
    for length in BATCHES:
        batches = len(history) // length
        if batches < LEAST_BATCHES:
            break
        means = history[len(history) - batches * length :].reshape(batches, length).mean(1)
        # From one batch to the next (von Neumann, 1941), without the largest step: a drift makes
        # one, and is not to be taken for noise.
        steps = np.sort(np.square(np.diff(means)))[:-1]
        doubt = 1 + DOUBT * sqrt(2 / len(steps))
        spread = doubt * steps.mean() / 2
        least = min(least, WINDOW * variance / (length * max(spread, TINY)))
    return max(1.0, least)
