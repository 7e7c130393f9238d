"""Load that was recorded on one machine, to be played again on any.

The file is CSV: a header line, then one line per sample. The column `time_s` (seconds, rising)
must be there; every other column is a field of LoadSample, in any order, empty where unknown.
`cpu_percent_per_core` holds one number per core with spaces between.
"""

import bisect
import csv
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TextIO

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.monitor.probe import Probe, Reading
from anytime_dnn_ros.monitor.sample import QUANTITIES, LoadSample

_TIME = 'time_s'
_CORES = 'cpu_percent_per_core'
_COLUMNS = (_TIME, *(f.name for f in fields(LoadSample)))


@dataclass(frozen=True)
class Recording:
    """Samples over time.

    Attributes:
        times_s: Time of each sample, seconds, rising.
        samples: The samples, as many as times.
    """

    times_s: tuple[float, ...]
    samples: tuple[LoadSample, ...]


class Recorder:
    """Writes samples to a CSV file, each as soon as it is known."""

    def __init__(self, path: Path) -> None:
        """Begin a new file; one that exists is never overwritten.

        Raises:
            ConfigurationError: The file exists or cannot be written.
        """
        try:
            # Line by line, so that what was recorded survives whatever ends the process.
            self._file: TextIO = path.open('x', encoding='utf-8', newline='', buffering=1)
        except OSError as error:
            raise ConfigurationError(
                f'parameter record_to_file = {str(path)!r} cannot be written ({error.strerror}); '
                'name a new file in a folder that exists.'
            ) from error
        self._writer = csv.DictWriter(self._file, _COLUMNS, lineterminator='\n')
        self._writer.writeheader()

    def write(self, time_s: float, sample: LoadSample) -> None:
        """Append one sample taken at `time_s` seconds."""
        row = {
            name: '' if isinstance(value, float) and math.isnan(value) else value
            for name, value in asdict(sample).items()
        }
        row[_CORES] = ' '.join(map(str, sample.cpu_percent_per_core))
        self._writer.writerow({_TIME: time_s, **row})

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def read_recording(path: Path) -> Recording:
    """Read a recorded file.

    Raises:
        ConfigurationError: The file is missing or not such a file; the message names the line.
    """
    try:
        with path.open(encoding='utf-8', newline='') as file:
            return _parse(path, csv.DictReader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(
            f'parameter recorded_file = {str(path)!r} cannot be read ({error}); name a CSV file '
            'that monitor_node wrote with record_to_file.'
        ) from error


def recorded_probes(path: Path) -> list[Probe]:
    """Return the probe that plays a recorded file from its start, again and again.

    Raises:
        ConfigurationError: As `read_recording`.
    """
    return [Probe('recorded', 'recording', _Play(read_recording(path)))]


class _Play:
    def __init__(self, recording: Recording) -> None:
        first_s = recording.times_s[0]
        self._offsets_s = [time_s - first_s for time_s in recording.times_s]
        self._readings = [_known(sample) for sample in recording.samples]
        # The last sample holds as long as the one before it did.
        last_held_s = self._offsets_s[-1] - self._offsets_s[-2] if len(self._offsets_s) > 1 else 1
        self._length_s = self._offsets_s[-1] + last_held_s
        self._start_s: float | None = None

    def __call__(self, now_s: float) -> Reading:
        if self._start_s is None:
            self._start_s = now_s
        offset_s = (now_s - self._start_s) % self._length_s
        return self._readings[bisect.bisect_right(self._offsets_s, offset_s) - 1]


def _known(sample: LoadSample) -> Reading:
    reading: Reading = {n: v for n in QUANTITIES if not math.isnan(v := getattr(sample, n))}
    return {**reading, _CORES: sample.cpu_percent_per_core}


def _parse(path: Path, reader: 'csv.DictReader[str]') -> Recording:
    columns = reader.fieldnames or ()
    strangers = [name for name in columns if name not in _COLUMNS]
    if _TIME not in columns or strangers:
        found = f'has the unknown columns {strangers}' if strangers else f'has no column {_TIME}'
        raise _refusal(path, 1, f'{found}; allowed are {", ".join(_COLUMNS)}')
    times_s: list[float] = []
    samples = []
    for row in reader:
        try:
            times_s.append(float(row.pop(_TIME)))
            samples.append(_sample(row))
        except (TypeError, ValueError) as error:
            raise _refusal(path, reader.line_num, str(error)) from error
        if not math.isfinite(times_s[-1]) or (len(times_s) > 1 and times_s[-2] >= times_s[-1]):
            raise _refusal(path, reader.line_num, f'{_TIME} must be finite and rise')
    if not times_s:
        raise _refusal(path, 1, 'holds no samples')
    return Recording(tuple(times_s), tuple(samples))


def _sample(row: dict[str, str]) -> LoadSample:
    if None in row:
        raise ValueError('has more values than columns')
    # A line may end early; the csv module then gives None.
    cores = tuple(float(core) for core in (row.pop(_CORES, '') or '').split())
    source = row.pop('source', '') or ''
    quantities = {name: float(value) for name, value in row.items() if value}
    return LoadSample(**quantities, cpu_percent_per_core=cores, source=source)


def _refusal(path: Path, line: int, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'parameter recorded_file = {str(path)!r}, line {line}: {why}; record it again with '
        'record_to_file or mend that line.'
    )
