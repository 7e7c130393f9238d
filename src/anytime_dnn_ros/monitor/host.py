"""Processor, memory and temperature of any machine, by psutil."""

import math
import statistics

import psutil

from anytime_dnn_ros.monitor.probe import Probe, Reading, Report, found

# These change slowly, and some machines take milliseconds to tell them.
_SLOW_S = 1.0
_MEMORY_S = 0.5
# Absent sensors read 0, -256 or 255.
_BELIEVABLE_C = (0.0, 150.0)


def host_probes(report: Report, *, temperature: bool = True) -> list[Probe]:
    """Return the probes every machine has.

    Args:
        report: Told of what should be here and fails.
        temperature: Also read the temperature; off where a probe that knows the board does it.
    """
    probes = [
        *found('processor load', _load_probes, report),
        Probe('psutil', 'memory', _memory, _MEMORY_S),
        Probe('psutil', 'swap', _swap, _SLOW_S),
        Probe('psutil', 'load average', _load_average, _SLOW_S),
    ]
    probes += found('processor clock', _clock_probes, report)
    if temperature:
        probes += found('temperature', _temperature_probes, report)
    return probes


def _load_probes() -> list[Probe]:
    return [Probe('psutil', 'processor load', _Processor())]


# Containers, virtual machines and some boards have no clocks or sensors: that is no failure.
def _clock_probes() -> list[Probe]:
    if hasattr(psutil, 'cpu_freq') and _clock(0.0):
        return [Probe('psutil', 'processor clock', _clock, _SLOW_S)]
    return []


def _temperature_probes() -> list[Probe]:
    if hasattr(psutil, 'sensors_temperatures') and _temperature(0.0):
        return [Probe('psutil', 'temperature', _temperature, _SLOW_S)]
    return []


class _Processor:
    """Measures each core between calls, from whatever threads these come.

    psutil.cpu_percent() keeps its last look per thread, and says 0 at a thread's first.
    """

    def __init__(self) -> None:
        self._last = _core_times()

    def __call__(self, _now_s: float) -> Reading:
        last, self._last = self._last, _core_times()
        if len(last) != len(self._last):
            # A core came or went, and nobody knows which: begin anew.
            return {}
        cores = tuple(map(_busy_percent, last, self._last))
        known = [core for core in cores if not math.isnan(core)]
        if not known:
            return {}
        return {'cpu_percent': statistics.fmean(known), 'cpu_percent_per_core': cores}


def _core_times() -> list[tuple[float, float]]:
    """Return for each core the seconds since the start: in all, and idle."""
    return [
        (
            # The time of guests is in the user time already.
            sum(times) - getattr(times, 'guest', 0.0) - getattr(times, 'guest_nice', 0.0),
            # A core that waits for a disk is free for others.
            times.idle + getattr(times, 'iowait', 0.0),
        )
        for times in psutil.cpu_times(percpu=True)
    ]


def _busy_percent(before: tuple[float, float], after: tuple[float, float]) -> float:
    """Return a core's load between two looks at its times; NaN where no tick lies between."""
    total_s, idle_s = after[0] - before[0], after[1] - before[1]
    if total_s <= 0.0:
        return math.nan
    return min(max(100.0 * (1.0 - idle_s / total_s), 0.0), 100.0)


def _memory(_now_s: float) -> Reading:
    return {'memory_percent': psutil.virtual_memory().percent}


def _swap(_now_s: float) -> Reading:
    return {'swap_percent': psutil.swap_memory().percent}


def _load_average(_now_s: float) -> Reading:
    return {'load_1m': psutil.getloadavg()[0]}


def _clock(_now_s: float) -> Reading:
    # A maximum of 0 is psutil's word for "the kernel does not say".
    ratios = [clock.current / clock.max for clock in psutil.cpu_freq(percpu=True) if clock.max]
    return {'cpu_freq_ratio': min(statistics.fmean(ratios), 1.0)} if ratios else {}


def _temperature(_now_s: float) -> Reading:
    low, high = _BELIEVABLE_C
    sensors = (s for chip in psutil.sensors_temperatures().values() for s in chip)
    believable = [s.current for s in sensors if low < s.current < high]
    return {'temperature_c': max(believable)} if believable else {}
