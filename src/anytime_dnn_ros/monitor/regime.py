"""Which regime the load is in, and what an operator should be warned of.

Each quantity has levels with hysteresis and debounce, so that a regime is a state of the
machine and not of one sample.
"""

import enum
import math
from collections.abc import Sequence
from dataclasses import dataclass

from anytime_dnn_ros.monitor.sample import LoadSample

# Chosen: from here on another task's demand is felt in ours.
BUSY_PERCENT = 40.0
# Chosen: a task with a deadline feels it when every tenth moment goes into waiting for memory.
MEMORY_STALL_PERCENT = 10.0
_HYSTERESIS = 5.0


class Regime(enum.IntEnum):
    """The machine's load in one word; a later one hides the earlier ones."""

    UNKNOWN = 0
    IDLE = 1
    BUSY = 2
    SATURATED = 3
    MEMORY_PRESSURE = 4
    THROTTLED = 5


@dataclass(frozen=True)
class Thresholds:
    """Where the levels are.

    Attributes:
        cpu_warn_percent: Processor or GPU load from which the machine is saturated, 0..100.
        memory_warn_percent: Memory in use from which there is memory pressure, 0..100.
        temperature_warn_c: Temperature from which to warn, degrees Celsius.
        debounce_s: How long a change must hold before it counts, seconds.
    """

    cpu_warn_percent: float = 90.0
    memory_warn_percent: float = 90.0
    temperature_warn_c: float = 85.0
    debounce_s: float = 2.0


class Level:
    """How many of its thresholds a quantity has passed, and for long enough.

    A level goes up (down) when every value of the last `debounce_s` asked for a higher (lower)
    one, and then to the nearest of those asked for: a load that swings between two higher levels
    does not hold the change up. NaN changes nothing.
    """

    def __init__(
        self, thresholds: Sequence[float], debounce_s: float, hysteresis: float = _HYSTERESIS
    ) -> None:
        """Start with nothing known.

        Args:
            thresholds: Rising thresholds; reaching the n-th asks for level n.
            debounce_s: How long a change must hold, seconds.
            hysteresis: How far below its threshold a value must fall to ask for less.
        """
        self._thresholds = tuple(thresholds)
        self._debounce_s = debounce_s
        self._hysteresis = hysteresis
        self._since_s = math.nan
        self._nearest = 0
        self.now: int | None = None

    def update(self, value: float, now_s: float) -> None:
        """Take in a value of the monotonic time `now_s`; the first one counts at once."""
        if math.isnan(value):
            return
        asked = self._asked(value)
        if self.now is None:
            self.now = self._nearest = asked
        goes_on = (asked - self.now) * (self._nearest - self.now) > 0
        if not goes_on:
            self._nearest, self._since_s = asked, now_s
        elif abs(asked - self.now) < abs(self._nearest - self.now):
            self._nearest = asked
        if now_s - self._since_s >= self._debounce_s:
            self.now = self._nearest

    def _asked(self, value: float) -> int:
        passed = 0
        for index, threshold in enumerate(self._thresholds):
            is_above = self.now is not None and self.now > index
            passed += value >= threshold - (self._hysteresis if is_above else 0.0)
        return passed


class LoadJudge:
    """Follows the samples and says in which regime the machine is."""

    def __init__(self, thresholds: Thresholds) -> None:
        """Start with nothing known."""
        t = thresholds
        self._thresholds = t
        busy = min(BUSY_PERCENT, t.cpu_warn_percent)
        self._cpu = Level((busy, t.cpu_warn_percent), t.debounce_s)
        self._gpu = Level((busy, t.cpu_warn_percent), t.debounce_s)
        self._memory = Level((t.memory_warn_percent,), t.debounce_s)
        self._stall = Level((MEMORY_STALL_PERCENT,), t.debounce_s)
        self._temperature = Level((t.temperature_warn_c,), t.debounce_s)
        self._throttled = Level((1.0,), t.debounce_s, hysteresis=0.0)

    def update(self, sample: LoadSample, now_s: float) -> Regime:
        """Take in a sample of the monotonic time `now_s` and return the regime."""
        self._cpu.update(sample.cpu_percent, now_s)
        self._gpu.update(sample.gpu_percent, now_s)
        self._memory.update(sample.memory_percent, now_s)
        self._stall.update(sample.psi_memory_some10, now_s)
        self._temperature.update(sample.temperature_c, now_s)
        self._throttled.update(sample.throttled, now_s)
        return self.regime

    @property
    def regime(self) -> Regime:
        """Return the regime after the last sample."""
        if self._throttled.now:
            return Regime.THROTTLED
        if self._memory.now or self._stall.now:
            return Regime.MEMORY_PRESSURE
        loads = [level.now for level in (self._cpu, self._gpu) if level.now is not None]
        return Regime(Regime.IDLE + max(loads)) if loads else Regime.UNKNOWN

    @property
    def warnings(self) -> tuple[str, ...]:
        """Return what an operator should know now, one phrase each."""
        t = self._thresholds
        found = (
            (self._cpu.now == 2, f'processor load over {t.cpu_warn_percent:g} %'),
            (self._memory.now, f'memory over {t.memory_warn_percent:g} %'),
            (
                self._stall.now,
                f'tasks wait for memory over {MEMORY_STALL_PERCENT:g} % of the time',
            ),
            (self._temperature.now, f'temperature over {t.temperature_warn_c:g} °C'),
            (self._throttled.now, 'clocks throttled by heat or power'),
        )
        return tuple(phrase for holds, phrase in found if holds)
