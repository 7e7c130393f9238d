"""What the load was over the last seconds: mean, median, 95th percentile and maximum."""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.monitor.sample import QUANTITIES, LoadSample


@dataclass(frozen=True)
class LoadStatistics:
    """A window of samples, quantity by quantity; NaN where no sample of the window knew it.

    Attributes:
        samples: Number of samples in the window.
        mean: Mean of each quantity.
        p50: Median of each quantity.
        p95: 95th percentile of each quantity, interpolated linearly.
        max: Maximum of each quantity.
    """

    samples: int
    mean: LoadSample
    p50: LoadSample
    p95: LoadSample
    max: LoadSample


class LoadWindow:
    """Holds the samples of the last seconds."""

    def __init__(self, window_s: float) -> None:
        """Start empty; `window_s` is the length of the window in seconds."""
        self._window_s = window_s
        self._rows: deque[tuple[float, LoadSample]] = deque()

    def add(self, now_s: float, sample: LoadSample) -> None:
        """Take in a sample of the monotonic time `now_s` and forget those before the window."""
        self._rows.append((now_s, sample))
        while self._rows[0][0] <= now_s - self._window_s:
            self._rows.popleft()

    def statistics(self) -> LoadStatistics:
        """Return the statistics of the window; an empty one knows nothing."""
        samples = [sample for _, sample in self._rows]
        if not samples:
            return LoadStatistics(0, *(LoadSample(),) * 4)
        source = samples[-1].source
        table = _table(samples)
        # What nobody knows stays NaN; numpy would warn of it each time.
        is_known = ~np.isnan(table).all(axis=0)
        known = table[:, is_known]
        rows = np.full((4, table.shape[1]), np.nan)
        rows[0, is_known] = np.nanmean(known, axis=0)
        rows[1:, is_known] = np.nanquantile(known, (0.5, 0.95, 1.0), axis=0)
        return LoadStatistics(len(samples), *(_from_row(row, source) for row in rows))


def _table(samples: list[LoadSample]) -> NDArray[np.float64]:
    """Return (samples, quantities + cores); cores that were offline are NaN."""
    cores = max(len(sample.cpu_percent_per_core) for sample in samples)
    table = np.full((len(samples), len(QUANTITIES) + cores), np.nan)
    for row, sample in zip(table, samples, strict=True):
        per_core = sample.cpu_percent_per_core
        row[: len(QUANTITIES)] = [getattr(sample, name) for name in QUANTITIES]
        row[len(QUANTITIES) : len(QUANTITIES) + len(per_core)] = per_core
    return table


def _from_row(row: NDArray[np.float64], source: str) -> LoadSample:
    values = row.tolist()
    numbers = dict(zip(QUANTITIES, values, strict=False))
    return LoadSample(
        **numbers, cpu_percent_per_core=tuple(values[len(QUANTITIES) :]), source=source
    )
