"""Recorded runs on disk: the same after reading, and one clear error for whatever is wrong."""

import json
from dataclasses import replace
from math import nan

import numpy as np
import pytest

from anytime_dnn_ros.bench.trace import RecordingError, read_recording, write_recording
from anytime_dnn_ros.timing.load import LoadSignal
from bench.small_recordings import frame, noisy_recording, recording


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'run.jsonl'
    loads = ((0.01, LoadSignal(1, 50.0, num_cores=2)), (0.2, None))
    write_recording(path, recording([frame(i) for i in range(5)], loads=loads))
    return path


def spoil(file, line, change):
    lines = file.read_text().splitlines()
    document = json.loads(lines[line])
    change(document)
    lines[line] = json.dumps(document)
    file.write_text('\n'.join(lines))


def test_what_is_written_is_read(file, tmp_path):
    original = noisy_recording(50)
    write_recording(tmp_path / 'b.jsonl', original)
    back = read_recording(tmp_path / 'b.jsonl')
    assert back.frames == original.frames
    assert [at_s for at_s, _ in back.loads] == [at_s for at_s, _ in original.loads]
    assert np.array_equal(back.ladder.reference.samples_s, original.ladder.reference.samples_s)
    assert (back.onset_s, back.load, back.note) == (original.onset_s, 'step', original.note)
    assert read_recording(file).loads[1] == (0.2, None)


def test_what_is_not_known_stays_unknown(tmp_path):
    one = frame()
    first = replace(one.judged[0], expected_accuracy=nan, expected_later=(nan, 0.5))
    made = recording([replace(one, judged=(first, *one.judged[1:]))])
    write_recording(tmp_path / 'a.jsonl', made)
    (back,) = read_recording(tmp_path / 'a.jsonl').frames
    assert np.isnan(back.judged[0].expected_accuracy)
    assert np.isnan(back.judged[0].expected_later[0])
    assert back.judged[0].expected_later[1] == 0.5


def test_every_line_is_plain_json(file):
    for line in file.read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ('line', 'change', 'told'),
    [
        (0, lambda d: d.update(version=2), 'line 1.*version'),
        (0, lambda d: d.pop('macs'), 'line 1.*macs'),
        (0, lambda d: d.update(macs=[1.0]), 'stages'),
        (0, lambda d: d['reference_s'][0].pop(), 'stages'),
        (1, lambda d: d.update(load={'regime': 'high'}), 'line 2.*regime'),
        (3, lambda d: d['frame'].update(stage_s=[0.1]), 'line 4.*3 stages'),
        (3, lambda d: d['frame'].update(stage_s=[0.1, -1, 0.1]), 'line 4.*stage_s'),
        (3, lambda d: d['frame'].update(label=7), 'line 4: class 7'),
        (4, lambda d: d['frame'].update(arrival_s=0.0), 'line 5: arrival_s must rise'),
        (4, lambda d: d['frame'].update(fit_s=float('nan')), 'line 5.*NaN'),
        (4, lambda d: d['frame']['judged'].pop(), 'line 5.*3 stages'),
    ],
)
def test_a_spoilt_line_is_named(file, line, change, told):
    spoil(file, line, change)
    with pytest.raises(RecordingError, match=told) as error:
        read_recording(file)
    assert '--record' in str(error.value)


@pytest.mark.parametrize(
    'content',
    [b'', b'\n', b'not json', b'\xff\xfe', b'{}', b'[]', b'{"frame": {}}', 100_000 * b'['],
)
def test_another_file_is_refused(tmp_path, content):
    file = tmp_path / 'run.jsonl'
    file.write_bytes(content)
    with pytest.raises(RecordingError):
        read_recording(file)


def test_a_truncated_file_is_refused(file):
    file.write_text(file.read_text()[:-40])
    with pytest.raises(RecordingError, match='not valid JSON'):
        read_recording(file)


def test_a_header_alone_and_a_missing_file_are_refused(file, tmp_path):
    file.write_text(file.read_text().splitlines()[0])
    with pytest.raises(RecordingError, match='no frames'):
        read_recording(file)
    with pytest.raises(RecordingError, match='cannot be read'):
        read_recording(tmp_path / 'missing.jsonl')
