"""A bound that is exceeded in a wanted share of cases, whatever the distribution."""

from __future__ import annotations

import copy
import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable

# Values kept: two of them may exceed the bound at a target of 1 %.
WINDOW = 256
# Stand-ins give way to so many cases, where they are fewer.
ENOUGH = 20
# Frames after which a case is forgotten, if no newer ones push it out.
LIFETIME = 512
# How far one exceedance moves the level. At a target of 1 % it takes the bound to the largest
# value of the window, and a hundred cases without one lead back.
ADAPTATION = 0.01
# One value counts at most as this many times the present bound: a process that was stopped for
# seconds says nothing about the next frame.
MOST_PER_CASE = 4.0


class AdaptiveBound:
    """The order statistic of the last values, at a level that follows the exceedances.

    Conformal prediction gives the ⌈(W+1)(1-ε)⌉-th smallest of W values the coverage 1-ε if they
    can be exchanged; on a robot they cannot, so ε is adapted online, ε ← ε + γ(ε* - exceeded)
    (Gibbs and Candès, "Adaptive conformal inference under distribution shift", NeurIPS 2021).
    ε never rises over the target ε*; where it falls below 0, the bound leaves the window: it
    doubles with every γ.

    Args:
        values: What stands in until enough has been observed; at least one, none negative. A few,
            as a guess is, go as soon as there are `ENOUGH` cases; many go as the window moves on.
    """

    def __init__(self, values: Iterable[float]) -> None:
        self._first = tuple(values)[-WINDOW:]
        self._recent = deque(self._first)
        self._born = deque([0] * len(self._recent))
        self._sorted = sorted(self._recent)
        self._frames = 0
        self._cases = 0
        # How far ε lies below the target; the target may change at any time.
        self._below_target = 0.0

    @property
    def cases(self) -> int:
        """Cases observed since it last had only what stands in."""
        return self._cases

    def bound(self, target: float) -> float:
        """The value that the next case exceeds in a share `target` of cases.

        Args:
            target: ε*, 0..1.
        """
        level = target - self._below_target
        count = len(self._sorted)
        rank = math.ceil((count + 1) * (1 - max(level, 0.0)))
        if level >= 0:
            return self._sorted[min(rank, count) - 1]
        return self._sorted[-1] * math.pow(2.0, -level / ADAPTATION)

    def share_within(self, limit: float) -> float:
        """Share of the values that are at most `limit`, 0..1."""
        return bisect_right(self._sorted, limit) / len(self._sorted)

    def chance_beyond(self, limit: float) -> float:
        """How likely the next case is larger than `limit`; never 0, for no window has seen all."""
        count = len(self._sorted)
        return (count - bisect_right(self._sorted, limit) + 1) / (count + 1)

    def observe(self, value: float, target: float) -> None:
        """Takes one case.

        Args:
            value: Not negative.
            target: ε*, 0..1.
        """
        bound = self.bound(target)
        self._below_target += ADAPTATION * ((value > bound) - target)
        self._below_target = max(0.0, self._below_target)
        # Of nothing there is no multiple: where all took no time, the first that does is news.
        value = min(value, MOST_PER_CASE * bound) if bound else value
        if len(self._recent) == WINDOW:
            self._forget_oldest()
        self._recent.append(value)
        self._born.append(self._frames)
        insort(self._sorted, value)
        self._cases += 1
        if self._cases == ENOUGH and len(self._first) < ENOUGH:
            while len(self._recent) > ENOUGH:
                self._forget_oldest()

    def pass_frame(self, target: float) -> None:
        """A frame has passed, with a case or without one.

        A bound that is so wide that nothing is tried under it would else stay so for good.

        Args:
            target: ε*, 0..1.
        """
        self._frames += 1
        self._below_target = max(0.0, self._below_target - ADAPTATION * target)
        while self._recent and self._born[0] < self._frames - LIFETIME:
            self._forget_oldest()
        if not self._recent:
            self._recent.extend(self._first)
            self._born.extend([self._frames] * len(self._first))
            self._sorted = sorted(self._first)
            self._cases = 0

    def copy(self) -> AdaptiveBound:
        """One with the same values, to go its own way from here."""
        twin = copy.copy(self)
        # Ten times faster than a deep copy, and the frame in flight waits for it.
        grown = {k: v.copy() for k, v in vars(self).items() if isinstance(v, (deque, list))}
        vars(twin).update(grown)
        return twin

    def _forget_oldest(self) -> None:
        self._born.popleft()
        del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
