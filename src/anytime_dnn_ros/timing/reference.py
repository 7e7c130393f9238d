"""Reference stage times, measured through the serving path when a ladder is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ReferenceTimes:
    """Stage times on this machine as it was when they were measured.

    Attributes:
        samples_s: Seconds, float64 [runs, stages].
    """

    samples_s: NDArray[np.float64]

    @property
    def median_s(self) -> NDArray[np.float64]:
        """Median per stage, seconds, float64 [stages]."""
        return np.asarray(np.median(self.samples_s, axis=0), np.float64)

    @property
    def p99_s(self) -> NDArray[np.float64]:
        """99th percentile per stage, seconds, float64 [stages]."""
        return np.asarray(np.percentile(self.samples_s, 99, axis=0), np.float64)

    @property
    def ratios(self) -> NDArray[np.float64]:
        """Each sample over its stage's median, float64 [runs * stages]: the machine's noise."""
        return np.asarray((self.samples_s / self.median_s).ravel(), np.float64)


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
    begun = perf_counter()
    while len(samples) < runs and (len(samples) < 2 or perf_counter() - begun < budget_s):
        begin()
        row = []
        for stage in range(num_stages):
            start = perf_counter()
            run_stage(stage)
            row.append(perf_counter() - start)
        samples.append(row)
    return ReferenceTimes(np.array(samples))
