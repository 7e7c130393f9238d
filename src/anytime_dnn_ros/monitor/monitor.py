"""Put the probes of a machine together and take whole samples with them."""

import math
from functools import partial
from pathlib import Path

from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.monitor.host import host_probes
from anytime_dnn_ros.monitor.jetson import is_jetson, jetson_probes
from anytime_dnn_ros.monitor.jtop import jtop_probes
from anytime_dnn_ros.monitor.nvml import nvml_probes
from anytime_dnn_ros.monitor.probe import Probe, Reading, Report, found
from anytime_dnn_ros.monitor.psi import psi_probes
from anytime_dnn_ros.monitor.recorded import recorded_probes
from anytime_dnn_ros.monitor.sample import LoadSample
from anytime_dnn_ros.monitor.synthetic import synthetic_probes
from anytime_dnn_ros.monitor.throttling import throttling_probes

SOURCES = ('auto', 'psutil', 'jetson', 'nvml', 'synthetic', 'recorded')
# Of two probes the hotter sensor and the bad news count; of anything else, the first probe.
_WORST_COUNTS = frozenset({'temperature_c', 'throttled'})


def find_probes(
    source: str,
    *,
    report: Report,
    recorded_file: str = '',
    synthetic_profile: str = '',
    root: Path = Path('/'),
) -> list[Probe]:
    """Return the probes of a source, the most trusted first.

    Args:
        source: One of SOURCES; `auto` takes whatever this machine has.
        report: Told in one sentence of what should be here but does not work.
        recorded_file: CSV file for the source `recorded`.
        synthetic_profile: Profiles for the source `synthetic`.
        root: Root of the file system, for trials.

    Raises:
        ConfigurationError: The source is unknown, or this machine does not have it.
        MissingDependencyError: The source needs a package that is not installed.
    """
    if source == 'synthetic':
        return synthetic_probes(synthetic_profile)
    if source == 'recorded':
        if not recorded_file:
            raise ConfigurationError(
                'parameter recorded_file is empty: with source = recorded, set it to the CSV file '
                'to play.'
            )
        return recorded_probes(Path(recorded_file))
    if source == 'psutil':
        return _plain(report, root)
    if source == 'nvml':
        return [*_nvml(report), *_plain(report, root)]
    if source == 'jetson':
        board = _board(report, root)
        if not board:
            raise ConfigurationError(
                'parameter source = jetson: this machine is no Jetson, or its sysfs is hidden '
                'from this container; set source to auto.'
            )
        return [*board, *_around(board, report, root)]
    if source == 'auto':
        board = _board(report, root)
        own = [*board, *_around(board, report, root)] if board else _plain(report, root)
        return [*own, *_gpu_library(report), *_jtop(report)]
    raise ConfigurationError(
        f'parameter source = {source!r} is unknown: set it to one of {", ".join(SOURCES)}.'
    )


def _plain(report: Report, root: Path) -> list[Probe]:
    """Return what any machine has."""
    return [
        *host_probes(report),
        *_pressure(report, root),
        *found('throttling', partial(throttling_probes, root), report),
    ]


def _board(report: Report, root: Path) -> list[Probe]:
    """Return what a Jetson's own sysfs has; nothing where this is no Jetson."""
    return found('Jetson', lambda: jetson_probes(report, root) if is_jetson(root) else [], report)


def _around(board: list[Probe], report: Report, root: Path) -> list[Probe]:
    """Return what a Jetson has besides its own sysfs."""
    # psutil would also count the PMIC, whose sensor is a constant 100 degrees on some boards.
    hot = any(probe.name == 'temperature' for probe in board)
    return [*host_probes(report, temperature=not hot), *_pressure(report, root)]


def _pressure(report: Report, root: Path) -> list[Probe]:
    return found('pressure', partial(psi_probes, root), report)


def _nvml(report: Report) -> list[Probe]:
    return found('NVML', partial(nvml_probes, report), report)


def _gpu_library(report: Report) -> list[Probe]:
    try:
        return _nvml(report)
    except (ConfigurationError, MissingDependencyError):
        # `auto` takes what is there; who relies on NVML asks for it by name and gets the error.
        return []


def _jtop(report: Report) -> list[Probe]:
    try:
        return jtop_probes()
    except Exception as error:  # noqa: BLE001  (a plug-in's failure of any kind)
        report(f'jetson-stats is installed but gives nothing: {error!r}. Start its service jtop.')
        return []


class Monitor:
    """Takes samples; a probe that fails leaves its fields at NaN and is reported once."""

    def __init__(self, probes: list[Probe], report: Report) -> None:
        """Start with nothing read.

        Args:
            probes: What to read, the most trusted first.
            report: Told once, in one sentence, of each probe that failed.
        """
        self._probes = probes
        self._report = report
        self._due_s = [-math.inf] * len(probes)
        self._readings: list[Reading] = [{} for _ in probes]
        self._failed: list[str | None] = [None] * len(probes)
        self._reported: set[int] = set()

    @property
    def failing(self) -> tuple[str, ...]:
        """Return the probes that fail now, each as one phrase with its reason."""
        return tuple(failed for failed in self._failed if failed)

    def sample(self, now_s: float) -> LoadSample:
        """Read what is due and return all that is known.

        Args:
            now_s: Monotonic time in seconds.
        """
        merged: Reading = {}
        sources: dict[str, None] = {}
        for index, probe in enumerate(self._probes):
            if now_s >= self._due_s[index]:
                self._read(index, now_s)
            reading = self._readings[index]
            if reading:
                sources[probe.source] = None
            for name, value in reading.items():
                known = merged.get(name)
                if known is None or (name in _WORST_COUNTS and not known >= value):
                    merged[name] = value
        return LoadSample(**merged, source='+'.join(sources))

    def _read(self, index: int, now_s: float) -> None:
        probe = self._probes[index]
        self._due_s[index] = now_s + probe.every_s
        try:
            self._readings[index] = probe.read(now_s)
            self._failed[index] = None
        except Exception as error:  # noqa: BLE001  (whatever a driver does, the monitor lives)
            self._readings[index] = {}
            self._failed[index] = f'{probe.source} {probe.name}: {error!r}'
            if index not in self._reported:
                self._reported.add(index)
                self._report(f'{self._failed[index]}; it counts as unknown until it answers.')
