"""A recorded run: every frame through all stages with no deadline, to be replayed by any policy.

The file is JSON lines: a header, then one line per frame and per load signal, in order of time.
`recording.schema.json` says what stands in a line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib import resources
from math import isnan, nan
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import numpy as np

from anytime_dnn_ros.bench.policies import Ladder
from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.whole_file import write_whole

FORMAT = 'anytime_dnn_ros recorded run'
VERSION = 1
# A file beyond this is damage or malice, not a run.
MAX_BYTES = 512 * 2**20
MEND = 'record it again with `anytime-dnn bench --record FILE`'


class RecordingError(AnytimeError):
    """A recorded run is missing, damaged or contradicts itself."""


@dataclass(frozen=True)
class Judged:
    """What was said of a frame after one stage.

    Attributes:
        named: Class of the answer to be published, index.
        confidence: Of that answer, 0..1.
        newest_named: Class of this stage's own answer.
        newest_confidence: Of that one, 0..1.
        expected_accuracy: Declared for the answer, 0..1; NaN if none may be.
        expected_later: Likewise after each later stage.
    """

    named: int
    confidence: float
    newest_named: int
    newest_confidence: float
    expected_accuracy: float
    expected_later: tuple[float, ...]


@dataclass(frozen=True)
class FrameTrace:
    """One frame; times in seconds.

    Attributes:
        arrival_s: From the start of the run, rising.
        fit_s: Decoding and resizing.
        stage_s: Each stage.
        publish_s: One answer.
        timer_late_s: How late a thread woke that waited for a moment of this frame.
        label: Index of the true class.
        judged: After each stage.
    """

    arrival_s: float
    fit_s: float
    stage_s: tuple[float, ...]
    publish_s: float
    timer_late_s: float
    label: int
    judged: tuple[Judged, ...]


@dataclass(frozen=True)
class Recording:
    """A run.

    Attributes:
        bundle: Name of the ladder.
        num_classes: Of the ladder.
        load: Name of the load.
        onset_s: When load first came on, seconds from the start; None if never.
        loaded_s: From when to when there was load, likewise.
        rate_hz: Of the camera.
        ladder: What policies know from the start.
        frames: In order of arrival; at least one.
        loads: When the monitor said what, seconds from the start; None = it was silent.
        note: What made the file, for people.
    """

    bundle: str
    num_classes: int
    load: str
    onset_s: float | None
    loaded_s: tuple[tuple[float, float], ...]
    rate_hz: float
    ladder: Ladder
    frames: tuple[FrameTrace, ...]
    loads: tuple[tuple[float, LoadSignal | None], ...] = ()
    note: str = ''


def write_recording(path: Path, recording: Recording) -> None:
    """Writes a run, whole or not at all.

    Raises:
        ConfigurationError: The disk refuses.
    """
    write_whole(path, '\n'.join([*_lines(recording), '']).encode())


def read_recording(path: Path) -> Recording:
    """Reads a run and checks every line.

    Raises:
        RecordingError: It cannot be read, or is no such file; the message names the line.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise RecordingError(f'{path} is over {MAX_BYTES >> 20} MiB: no recorded run; {MEND}')
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise RecordingError(
            f'the recorded run {path} cannot be read ({error}); {MEND}'
        ) from error
    frames: list[FrameTrace] = []
    loads: list[tuple[float, LoadSignal | None]] = []
    recording: Recording | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        where = f'{path}, line {number}'
        if recording is None:
            recording = _header(_checked(line, 'header', where))
        elif '"frame"' in line[:10]:
            frames.append(_frame(_checked(line, 'frame', where)['frame'], recording, where))
            if len(frames) > 1 and frames[-2].arrival_s >= frames[-1].arrival_s:
                raise RecordingError(f'{where}: arrival_s must rise; {MEND}')
        else:
            document = _checked(line, 'load', where)
            signal = document['load']
            loads.append((document['at_s'], None if signal is None else _signal(signal)))
    if recording is None or not frames:
        raise RecordingError(f'{path} holds no frames; {MEND}')
    return replace(recording, frames=tuple(frames), loads=tuple(sorted(loads, key=_when)))


def _when(load: tuple[float, LoadSignal | None]) -> float:
    return load[0]


def _lines(recording: Recording) -> Iterator[str]:
    ladder = recording.ladder
    yield _text(
        {
            'format': FORMAT,
            'version': VERSION,
            'bundle': recording.bundle,
            'num_classes': recording.num_classes,
            'load': recording.load,
            'onset_s': recording.onset_s,
            'loaded_s': recording.loaded_s,
            'rate_hz': recording.rate_hz,
            'macs': ladder.macs,
            'can_cut': ladder.can_cut,
            'threads': ladder.threads,
            'reference_s': ladder.reference.samples_s.tolist(),
            'timer_late_s': ladder.timer_late_s,
            'note': recording.note,
        }
    )
    for at_s, signal in recording.loads:
        yield _text({'load': None if signal is None else asdict(signal), 'at_s': at_s})
    for frame in recording.frames:
        yield _text({'frame': asdict(frame)})


def _text(document: dict[str, Any]) -> str:
    return json.dumps(_without_nan(document), separators=(',', ':'), allow_nan=False)


def _without_nan(value: Any) -> Any:
    """JSON has no NaN: it is written as null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and isnan(value) else value


def _checked(line: str, kind: str, where: str) -> dict[str, Any]:
    """One line that fits the part `kind` of the schema."""
    try:
        document: dict[str, Any] = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise RecordingError(f'{where} is not valid JSON ({error}); {MEND}') from error
    fault = next(iter(_validator(kind).iter_errors(document)), None)
    if fault is not None:
        raise RecordingError(
            f'{where} is no {kind} of a recorded run, at {fault.json_path}: '
            f'{fault.message[:200]}; {MEND}'
        )
    return document


def _no_number(word: str) -> NoReturn:
    raise ValueError(f'{word} is no number of JSON')


@cache
def _validator(kind: str) -> Any:
    folder = resources.files('anytime_dnn_ros.bench')
    schema = json.loads((folder / 'recording.schema.json').read_text(encoding='utf-8'))
    return jsonschema.Draft202012Validator({**schema, '$ref': f'#/$defs/{kind}'})


def _header(doc: dict[str, Any]) -> Recording:
    if {len(row) for row in doc['reference_s']} != {len(doc['macs'])}:
        raise RecordingError(
            f'the header says {len(doc["macs"])} stages in macs, and other numbers of them in '
            f'reference_s; {MEND}'
        )
    return Recording(
        bundle=doc['bundle'],
        num_classes=doc['num_classes'],
        load=doc['load'],
        onset_s=doc['onset_s'],
        loaded_s=tuple((begin_s, end_s) for begin_s, end_s in doc['loaded_s']),
        rate_hz=doc['rate_hz'],
        ladder=Ladder(
            ReferenceTimes(np.array(doc['reference_s'], np.float64)),
            tuple(doc['macs']),
            doc['can_cut'],
            doc['threads'],
            tuple(doc.get('timer_late_s', ())),
        ),
        frames=(),
        note=doc['note'],
    )


def _frame(doc: dict[str, Any], recording: Recording, where: str) -> FrameTrace:
    stages = recording.ladder.num_stages
    judged = tuple(
        Judged(
            **{
                **item,
                'expected_accuracy': _number(item['expected_accuracy']),
                'expected_later': tuple(map(_number, item['expected_later'])),
            }
        )
        for item in doc['judged']
    )
    later = [len(item.expected_later) for item in judged]
    if len(doc['stage_s']) != stages or later != list(range(stages - 1, -1, -1)):
        raise RecordingError(
            f'{where}: the ladder has {stages} stages, this frame another number; {MEND}'
        )
    classes = [doc['label'], *(c for item in judged for c in (item.named, item.newest_named))]
    if max(classes) >= recording.num_classes:
        raise RecordingError(
            f'{where}: class {max(classes)} does not exist, there are {recording.num_classes}, '
            f'counted from 0; {MEND}'
        )
    return FrameTrace(**{**doc, 'stage_s': tuple(doc['stage_s']), 'judged': judged})


def _signal(doc: dict[str, Any]) -> LoadSignal:
    return LoadSignal(**{name: _number(value) for name, value in doc.items()})


def _number(value: Any) -> Any:
    return nan if value is None else value
