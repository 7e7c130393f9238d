"""How much slower the machine's load makes a stage, before the stage has shown it."""

from __future__ import annotations

from dataclasses import dataclass
from math import isnan

# Beyond this a monitor is wrong, or nothing fits anyway.
MOST_SLOWDOWN = 8.0
# Chosen: what a throttled board loses where it does not tell its clock.
THROTTLED_SLOWDOWN = 1.5


@dataclass(frozen=True)
class LoadSignal:
    """What the monitor says of this moment; NaN where the machine cannot tell.

    Attributes:
        regime: Number of the load regime; see `LoadProfile.regime`.
        cpu_percent: All cores together, 0..100, this process included.
        own_cores: Cores that this process itself kept busy meanwhile.
        num_cores: How many there are.
        freq_ratio: Present over maximum clock, 0..1.
        throttled: 1 where heat or power hold the clocks down, else 0.
    """

    regime: int
    cpu_percent: float = float('nan')
    own_cores: float = 0.0
    num_cores: int = 1
    freq_ratio: float = float('nan')
    throttled: float = float('nan')


def absurdity(cpu_percent: float, freq_ratio: float) -> str:
    """What no machine can say of itself, in words; empty if all is well. NaN is not absurd."""
    if cpu_percent < 0 or cpu_percent > 100:
        return f'cpu_percent = {cpu_percent:g}'
    if freq_ratio < 0 or freq_ratio > 1:
        return f'cpu_freq_ratio = {freq_ratio:g}'
    return ''


def predicted_slowdown(load: LoadSignal, threads: int = 1) -> float:
    """What a stage should take now over what it takes on an idle machine at its full clock.

    Runnable threads share the cores evenly: `threads` of ours beside the busy cores of others.
    The filter learns by how much this is wrong; it is only to move with the load at once.

    Args:
        load: Numbers out of their range are taken as unknown.
        threads: Of the engine.

    Returns:
        1 to `MOST_SLOWDOWN`.
    """
    slowdown = 1.0
    if 0 <= load.cpu_percent <= 100:
        others = max(0.0, load.cpu_percent / 100 * load.num_cores - load.own_cores)
        slowdown = max(1.0, (others + threads) / load.num_cores)
    if 0 < load.freq_ratio <= 1:
        slowdown /= load.freq_ratio
    elif isnan(load.freq_ratio) and load.throttled == 1:
        slowdown *= THROTTLED_SLOWDOWN
    return min(slowdown, MOST_SLOWDOWN)


class OwnShare:
    """How many cores this process has kept busy since it was last asked."""

    def __init__(self, now_s: float, used_s: float) -> None:
        self._now_s, self._used_s = now_s, used_s
        self._cores = 0.0

    def cores(self, now_s: float, used_s: float) -> float:
        """The mean since the call before.

        Args:
            now_s: Monotonic clock.
            used_s: Processor time of this process, as `time.process_time` gives it.
        """
        passed_s = now_s - self._now_s
        # Two messages at once tell nothing new.
        if passed_s > 0.01:
            self._cores = max(0.0, (used_s - self._used_s) / passed_s)
            self._now_s, self._used_s = now_s, used_s
        return self._cores
