"""How much slower than its reference a stage runs now, and how far off that guess may be."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

# An observation moves the estimate by this share: a step of load is 90 % learnt in ten stages.
SMOOTHING = 0.2
# Residuals kept per regime: two may exceed the margin at a miss rate of 1 %.
WINDOW = 256


@dataclass
class _Regime:
    slowdown: float
    residuals: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))


class SlowdownEstimator:
    """Running estimate of observed over reference time, one per load regime.

    The margin is the order statistic of the last residuals (observed over predicted), so it
    assumes no distribution.

    Args:
        noise: Ratios seen while the reference times were measured; they stand in until a regime
            has residuals of its own.
    """

    def __init__(self, noise: NDArray[np.float64]) -> None:
        self._noise = [float(ratio) for ratio in noise[-WINDOW:]]
        self._regimes: dict[int, _Regime] = {}
        self._current = self._new_regime(1.0)
        self._regimes[0] = self._current

    @property
    def slowdown(self) -> float:
        """Observed over reference time, now; 1 is the machine as it was when it was measured."""
        return self._current.slowdown

    def set_regime(self, regime: int) -> None:
        """The monitor reports another load regime; its own history is taken up again.

        Args:
            regime: The number in `LoadProfile.regime`. A new one starts from the present estimate.
        """
        if regime not in self._regimes:
            self._regimes[regime] = self._new_regime(self._current.slowdown)
        self._current = self._regimes[regime]

    def observe(self, ratio: float) -> None:
        """Takes one stage's observed over reference time."""
        regime = self._current
        regime.residuals.append(ratio / regime.slowdown)
        regime.slowdown += SMOOTHING * (ratio - regime.slowdown)

    def observe_at_least(self, ratio: float) -> None:
        """Takes a lower bound: a stage that was cancelled had run this long already."""
        if ratio > self._current.slowdown:
            self.observe(ratio)

    def margin(self, miss_rate_target: float) -> float:
        """The factor on the expected time that is exceeded in a share `miss_rate_target` of cases.

        The ⌈(W+1)(1-ε)⌉-th smallest of the last W residuals; never below 1.

        Args:
            miss_rate_target: ε, 0..1.
        """
        residuals = sorted(self._current.residuals)
        rank = math.ceil((len(residuals) + 1) * (1 - miss_rate_target))
        return max(1.0, residuals[min(rank, len(residuals)) - 1])

    def _new_regime(self, slowdown: float) -> _Regime:
        regime = _Regime(slowdown)
        regime.residuals.extend(self._noise or [1.0])
        return regime
