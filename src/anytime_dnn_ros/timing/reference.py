"""Reference stage times, measured through the serving path when a ladder is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from time import perf_counter

import numpy as np
import psutil
from numpy.typing import NDArray

# The kernel counts the time of its cores in ticks of 10 ms: a shorter look tells nothing.
LEAST_LOAD_S = 0.1


@dataclass(frozen=True)
class ReferenceTimes:
    """Stage times on this machine as it was when they were measured.

    Attributes:
        samples_s: Seconds, float64 [runs, stages].
        cpu_percent: Load of all cores while they were measured, the measuring itself included,
            0..100 as the monitor's `SystemLoad.cpu_percent`; NaN = unknown.
    """

    samples_s: NDArray[np.float64]
    cpu_percent: float = nan

    @property
    def median_s(self) -> NDArray[np.float64]:
        """Median per stage, seconds, float64 [stages]."""
        return np.asarray(np.median(self.samples_s, axis=0), np.float64)

    @property
    def p99_s(self) -> NDArray[np.float64]:
        """99th percentile per stage, seconds, float64 [stages]."""
        return np.asarray(np.percentile(self.samples_s, 99, axis=0), np.float64)


def measure_reference_times(
    run_stage: Callable[[int], object],
    num_stages: int,
    *,
    begin: Callable[[], object] = lambda: None,
    runs: int = 20,
    budget_s: float = 2.0,
) -> ReferenceTimes:
    """Times every stage in ladder order, several times over.

    Args:
        run_stage: Runs stage `index` (0-based) the way a live frame does.
        num_stages: How many there are.
        begin: Called before each round, not timed: what a live frame does before its first stage.
        runs: How often each stage runs, if the budget allows.
        budget_s: No new round is begun after this many seconds; two rounds always run.
    """
    samples: list[list[float]] = []
    cores_before = core_seconds()
    begun = perf_counter()
    while len(samples) < runs and (len(samples) < 2 or perf_counter() - begun < budget_s):
        begin()
        row = []
        for stage in range(num_stages):
            start = perf_counter()
            run_stage(stage)
            row.append(perf_counter() - start)
        samples.append(row)
    if perf_counter() - begun < LEAST_LOAD_S:
        return ReferenceTimes(np.array(samples))
    return ReferenceTimes(np.array(samples), load_percent(cores_before, core_seconds()))


def core_seconds() -> tuple[float, float]:
    """Seconds of all cores since the start of the machine, in all and idle; NaN = not told."""
    # Not psutil.cpu_percent(), which looks back to its last call, and that may be the monitor's.
    try:
        times = psutil.cpu_times()
    except (OSError, psutil.Error):
        return nan, nan
    # The time of guests is in the user time already; a core that waits for a disk is free.
    guests_s = getattr(times, 'guest', 0.0) + getattr(times, 'guest_nice', 0.0)
    return sum(times) - guests_s, times.idle + getattr(times, 'iowait', 0.0)


def load_percent(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Load between two looks, 0..100; NaN where one failed or no tick lies between."""
    total_s, idle_s = after[0] - before[0], after[1] - before[1]
    return min(max(100 * (1 - idle_s / total_s), 0.0), 100.0) if total_s > 0 else nan
