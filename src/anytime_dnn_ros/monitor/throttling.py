"""Are the clocks held down by heat or power? What PCs and Raspberry Pis tell of it.

Intel: `/sys/devices/system/cpu/cpu*/thermal_throttle/{core,package}_throttle_count` count up
(arch/x86/kernel/cpu/mce/therm_throt.c). Raspberry Pi: the firmware's `get_throttled` bits, in
hexadecimal, at `/sys/devices/platform/soc/soc:firmware/get_throttled`.
"""

from pathlib import Path

from anytime_dnn_ros.monitor.probe import Probe, Reading, read_number

_EVERY_S = 1.0
# Now: under-voltage, clock capped, throttled, soft temperature limit. Bits 16 to 19 are history.
_PI_NOW = 0xF


class Rising:
    """Tells from event counters whether an event came since the last look."""

    def __init__(self, counters: list[Path]) -> None:
        self._counters = counters
        self._last = self._total()

    def __call__(self) -> bool:
        """Return whether any counter rose since the last call (or since it was made)."""
        total = self._total()
        rose, self._last = total > self._last, total
        return rose

    def _total(self) -> float:
        return sum(read_number(path) for path in self._counters)


def throttling_probes(root: Path = Path('/')) -> list[Probe]:
    """Return the probes for what this machine tells of throttling, maybe none."""
    probes = []
    cpu = root / 'sys/devices/system/cpu'
    counters = sorted(cpu.glob('cpu[0-9]*/thermal_throttle/*_throttle_count'))
    if counters:
        rising = Rising(counters)

        def intel(_now_s: float) -> Reading:
            return {'throttled': float(rising())}

        probes.append(Probe('kernel', 'processor throttling', intel, _EVERY_S))
    bits = root / 'sys/devices/platform/soc/soc:firmware/get_throttled'
    if bits.exists():

        def raspberry_pi(_now_s: float) -> Reading:
            return {'throttled': float(bool(int(bits.read_text(encoding='ascii'), 16) & _PI_NOW))}

        probes.append(Probe('kernel', 'firmware throttling', raspberry_pi, _EVERY_S))
    return probes
