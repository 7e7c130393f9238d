"""What the bench sees of the machine beside the runs: load, energy, whether it is at rest."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from types import TracebackType

import psutil

from anytime_dnn_ros.monitor.monitor import Monitor, find_probes
from anytime_dnn_ros.monitor.regime import LoadJudge, Thresholds
from anytime_dnn_ros.timing.load import LoadSignal, OwnShare
from anytime_dnn_ros.timing.realtime import take_realtime_priority, take_timer_priority
from anytime_dnn_ros.timing.reference import core_seconds, load_percent

MONITOR_PERIOD_S = 0.1
# Other processes that take more than this of all cores make a run another run.
AT_REST_PERCENT = 10.0
REST_LOOK_S = 0.4
POWERCAP = Path('/sys/class/powercap')
MICRO = 1e-6


class LoadWatch:
    """A monitor as monitor_node is one, in this process; it tells what it sees ten times a second.

    Args:
        tell: Called with the monotonic time and the load, from a thread of its own.
        report: Told in one sentence of what should be here but does not work.
        realtime_priority: As for `Runner`; the monitor shares the interpreter with its threads.
    """

    def __init__(
        self,
        tell: Callable[[float, LoadSignal], None],
        report: Callable[[str], None],
        realtime_priority: int = 0,
    ) -> None:
        self._tell = tell
        self._priority = realtime_priority
        self._monitor = Monitor(find_probes('auto', report=report), report)
        self._judge = LoadJudge(Thresholds())
        self._own = OwnShare(time.monotonic(), time.process_time())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name='bench-monitor', daemon=True)

    def __enter__(self) -> LoadWatch:
        """Starts to watch."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        take_realtime_priority(self._priority)
        while not self._stop.wait(MONITOR_PERIOD_S):
            now_s = time.monotonic()
            sample = self._monitor.sample(now_s)
            regime = self._judge.update(sample, now_s)
            signal = LoadSignal(
                regime=int(regime),
                cpu_percent=sample.cpu_percent,
                own_cores=self._own.cores(now_s, time.process_time()),
                num_cores=psutil.cpu_count() or 1,
                freq_ratio=sample.cpu_freq_ratio,
                throttled=sample.throttled,
            )
            self._tell(now_s, signal)


class TimerLateness:
    """A thread that waits for one moment after the other and notes how late it woke.

    As the runner's timer waits: on a condition, while its worker computes.

    Args:
        realtime_priority: As for `Runner`, which tells of a refusal.
    """

    def __init__(self, realtime_priority: int = 0) -> None:
        self._priority = realtime_priority
        self._changed = threading.Condition()
        self._instant_s: float | None = None
        self._late_s = 0.0
        self._ends = False
        self._thread = threading.Thread(target=self._wait, name='bench-timer', daemon=True)

    def __enter__(self) -> TimerLateness:
        """Starts the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._thread.join()

    def arm(self, instant_s: float) -> None:
        """Waits for a moment of the monotonic clock."""
        with self._changed:
            self._instant_s = instant_s
            self._changed.notify_all()

    def late_s(self) -> float:
        """How late the thread woke for the moment that it was armed with, seconds; blocks."""
        with self._changed:
            self._changed.wait_for(lambda: self._instant_s is None)
            return self._late_s

    def _wait(self) -> None:
        take_timer_priority(self._priority)
        with self._changed:
            while not self._ends:
                if self._instant_s is None:
                    self._changed.wait()
                    continue
                left_s = self._instant_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                self._late_s, self._instant_s = -left_s, None
                self._changed.notify_all()


@dataclass(frozen=True)
class EnergyCounter:
    """A counter of joules that the kernel keeps for one processor package (RAPL)."""

    file: Path
    range_uj: int

    def read_uj(self) -> int:
        """Microjoules since some moment, modulo the range."""
        return int(self.file.read_text(encoding='ascii'))


def energy_counters(root: Path = POWERCAP) -> list[EnergyCounter]:
    """The packages whose counters this process may read; most systems keep them for root."""
    counters = []
    for zone in sorted(root.glob('intel-rapl:*')):
        # A second colon is a part of a package, which the package counts already.
        if zone.name.count(':') != 1:
            continue
        with suppress(OSError, ValueError):
            most = int((zone / 'max_energy_range_uj').read_text(encoding='ascii'))
            counter = EnergyCounter(zone / 'energy_uj', most)
            counter.read_uj()
            counters.append(counter)
    return counters


class EnergyMeter:
    """Joules of all packages since it was made."""

    def __init__(self, counters: list[EnergyCounter]) -> None:
        self._counters = counters
        self._begin_uj = [counter.read_uj() for counter in counters]

    def joules(self) -> float | None:
        """None where nothing can be read."""
        if not self._counters:
            return None
        used_uj = (
            (counter.read_uj() - begin) % (counter.range_uj + 1)
            for counter, begin in zip(self._counters, self._begin_uj, strict=True)
        )
        return MICRO * sum(used_uj)


def load_by_others_percent(look_s: float = REST_LOOK_S) -> float:
    """Load of all cores while we wait and our workers are quiet, 0..100."""
    before, begun = core_seconds(), time.process_time()
    time.sleep(look_s)
    percent = load_percent(before, core_seconds())
    own_percent = 100 * (time.process_time() - begun) / (look_s * (os.cpu_count() or 1))
    # Not told, or no tick between: nothing that a run could be warned of.
    return 0.0 if isnan(percent) else max(0.0, percent - own_percent)
