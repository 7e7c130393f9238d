import math
from dataclasses import astuple

import pytest

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.monitor.recorded import Recorder, read_recording, recorded_probes
from anytime_dnn_ros.monitor.sample import LoadSample

SAMPLES = (
    LoadSample(cpu_percent=10.5, cpu_percent_per_core=(1.0, 20.0), source='psutil+psi'),
    LoadSample(gpu_percent=99.0, throttled=1.0, source='jetson'),
    LoadSample(),
)


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / 'load.csv'
    recorder = Recorder(path)
    for index, sample in enumerate(SAMPLES):
        recorder.write(1000.0 + index / 10.0, sample)
    recorder.close()
    return path


def _comparable(sample):
    return [None if v != v else v for v in astuple(sample)]


def test_what_is_written_is_read(recording):
    read = read_recording(recording)
    assert read.times_s == (1000.0, 1000.1, 1000.2)
    assert list(map(_comparable, read.samples)) == list(map(_comparable, SAMPLES))


def test_it_plays_in_its_own_time_and_again(recording):
    (probe,) = recorded_probes(recording)
    assert probe.read(5.0)['cpu_percent'] == 10.5
    assert probe.read(5.05)['cpu_percent_per_core'] == (1.0, 20.0)
    second = probe.read(5.15)
    assert second['gpu_percent'] == 99.0
    assert 'cpu_percent' not in second
    assert 'gpu_percent' not in probe.read(5.25)
    assert probe.read(5.35)['cpu_percent'] == 10.5


def test_a_single_sample_plays_for_ever(tmp_path):
    path = tmp_path / 'one.csv'
    path.write_text('time_s,cpu_percent\n3,42\n')
    (probe,) = recorded_probes(path)
    assert [probe.read(t)['cpu_percent'] for t in (0.0, 0.5, 77.7)] == [42.0] * 3


def test_columns_may_be_few_and_cells_empty(tmp_path):
    path = tmp_path / 'few.csv'
    path.write_text('temperature_c,time_s\n,1\n50,2\n')
    first, second = read_recording(path).samples
    assert math.isnan(first.temperature_c)
    assert second.temperature_c == 50.0


@pytest.mark.parametrize(
    ('content', 'told'),
    [
        (b'', 'line 1.*time_s'),
        (b'cpu_percent\n3\n', 'line 1.*time_s'),
        (b'time_s,cpu\n1,2\n', r"unknown columns \['cpu'\]"),
        (b'time_s,cpu_percent\n', 'no samples'),
        (b'time_s,cpu_percent\n1,2\n2,many\n', 'line 3.*many'),
        (b'time_s,cpu_percent\n1,2\n1,2\n', 'line 3.*rise'),
        (b'time_s,cpu_percent\nnan,2\n', 'line 2.*finite'),
        (b'time_s,cpu_percent\n1,2,3\n', 'line 2.*more values'),
        (b'time_s,cpu_percent\n1,"2\n', 'cannot be read'),
        (b'\xff\xfe\x00', 'cannot be read'),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, content, told):
    path = tmp_path / 'bad.csv'
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=f'recorded_file.*bad.csv.*{told}'):
        read_recording(path)


def test_a_missing_file_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r'recorded_file.*none.csv.*record_to_file'):
        read_recording(tmp_path / 'none.csv')


def test_a_short_line_lacks_the_rest(tmp_path):
    path = tmp_path / 'short.csv'
    path.write_text('time_s,cpu_percent,source\n1,2\n')
    assert read_recording(path).samples[0].source == ''


def test_no_file_is_overwritten(recording):
    with pytest.raises(ConfigurationError, match=r'record_to_file.*load.csv.*new file'):
        Recorder(recording)
