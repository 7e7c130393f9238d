import errno
import json
import math
import os
import stat
from dataclasses import replace

import numpy as np
import pytest

import anytime_dnn_ros
from anytime_dnn_ros import whole_file
from anytime_dnn_ros.engines.base import EngineInfo, StageInfo
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.bundle import read_bundle
from anytime_dnn_ros.timing import profile_cache
from anytime_dnn_ros.timing.profile_cache import (
    BEYOND_ANY_LOAD,
    CHECK_RUNS,
    CLEARLY_FASTER,
    NO_CACHE,
    PROFILE_RUNS,
    cache_folder,
    cached_reference_times,
    profile_file,
    profile_key,
    store_reference_times,
)
from anytime_dnn_ros.timing.reference import ReferenceTimes
from ladders import make_ladder

ENGINE = EngineInfo(
    library='onnxruntime',
    version='1.0',
    device='cpu',
    threads=1,
    can_cancel=True,
    stages=tuple(StageInfo(f'exit{i}', 'float32', '') for i in (1, 2, 3)),
)
FRAME = (480, 640, 3)
STAGES_S = np.array([0.001, 0.002, 0.003])


class Machine:
    """Measures the same times again and again, as slowly as it is told to be."""

    def __init__(self):
        self.slowdown = 1.0
        self.asked = []

    def measure(self, runs):
        self.asked.append(runs)
        return ReferenceTimes(np.tile(self.slowdown * STAGES_S, (runs, 1)), 40.0)


@pytest.fixture
def machine():
    return Machine()


@pytest.fixture
def said():
    return []


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('cached') / 'colours')


@pytest.fixture(scope='module')
def key(bundle):
    return profile_key(bundle, ENGINE, FRAME)


@pytest.fixture
def start(machine, key, tmp_path, said):
    """One start of the node, with what it would warn of left in `said`."""

    def start(folder=tmp_path / 'cache', **options):
        return cached_reference_times(machine.measure, key, folder, say=said.append, **options)

    return start


def test_the_second_start_takes_what_the_first_measured(start, machine, said):
    first, kept = start()
    assert not kept
    second, kept = start()
    assert kept
    np.testing.assert_array_equal(first.samples_s, second.samples_s)
    assert second.cpu_percent == first.cpu_percent == 40
    assert machine.asked == [PROFILE_RUNS, CHECK_RUNS]
    assert said == []


def test_an_unknown_load_stays_unknown(key, tmp_path, machine, said):
    times = replace(machine.measure(3), cpu_percent=math.nan)
    store_reference_times(times, key, tmp_path, say=said.append)
    again, kept = cached_reference_times(machine.measure, key, tmp_path, say=said.append)
    assert kept
    assert math.isnan(again.cpu_percent)


def test_nothing_is_kept_where_nobody_wants_it(start, machine, said, tmp_path):
    for _ in range(2):
        assert start(folder=None)[1] is False
    assert machine.asked == [PROFILE_RUNS] * 2
    assert list(tmp_path.iterdir()) == said == []


def test_only_this_user_may_read_it(start, key, tmp_path):
    start()
    folder = tmp_path / 'cache'
    file = profile_file(key, folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(folder.iterdir()) == [file], 'no draft stays behind'


def test_a_profile_measured_under_load_is_measured_anew_at_rest(start, machine, said):
    machine.slowdown = 1.02 / CLEARLY_FASTER
    start()
    machine.slowdown = 1.0
    times, kept = start()
    assert not kept
    np.testing.assert_allclose(times.median_s, STAGES_S)
    assert len(said) == 1
    assert 'under load' in said[0]
    assert start()[1], 'the new one is kept in its place'
    assert len(said) == 1


@pytest.mark.parametrize('slowdown', [0.98 / CLEARLY_FASTER, 1.0, 8.0, 0.98 * BEYOND_ANY_LOAD])
def test_being_slower_now_is_load_and_no_reason_to_forget(start, machine, said, slowdown):
    machine.slowdown = 0.98 / CLEARLY_FASTER
    first, _ = start()
    machine.slowdown = slowdown
    times, kept = start()
    assert kept
    np.testing.assert_array_equal(times.samples_s, first.samples_s)
    assert said == []


def test_times_that_no_load_explains_are_not_believed(start, machine, said):
    machine.slowdown = 0.98 / BEYOND_ANY_LOAD
    start()
    machine.slowdown = 1.0
    times, kept = start()
    assert not kept
    np.testing.assert_allclose(times.median_s, STAGES_S)
    assert 'too short' in said[0]


def test_more_rounds_than_were_kept_are_measured(start, machine, said):
    start(runs=10)
    times, kept = start(runs=30, least_runs=30)
    assert not kept
    assert len(times.samples_s) == 30
    assert start(least_runs=30)[1]
    assert said == []


def absurd(change):
    """The text of a file with one thing wrong."""

    def text(document):
        change(document)
        return json.dumps(document)

    return text


def set_sample(value):
    return absurd(lambda d: d['samples_s'][1].__setitem__(2, value))


UNUSABLE = {
    'empty': lambda d: '',
    'truncated': lambda d: json.dumps(d)[:-40],
    'no JSON': lambda d: 'stage times',
    'no object': lambda d: json.dumps([d]),
    'too deep': lambda d: '[' * 200_000,
    'another bundle': absurd(lambda d: d['key'].update(bundle_sha256='0' * 64)),
    'another machine': absurd(lambda d: d['key'].update(cpu='another')),
    'no key': absurd(lambda d: d.pop('key')),
    'NaN': set_sample(math.nan),
    'infinity': set_sample(math.inf),
    'zero': set_sample(0.0),
    'negative': set_sample(-0.001),
    'hours': set_sample(7200.0),
    'huge': set_sample(10**400),
    'text': set_sample('0.001'),
    'null': set_sample(None),
    'ragged': absurd(lambda d: d['samples_s'][0].pop()),
    'another stage count': absurd(lambda d: [row.pop() for row in d['samples_s']]),
    'whole seconds': absurd(lambda d: d.update(samples_s=[[1, 1, 1]] * 9)),
    'flags': absurd(lambda d: d.update(samples_s=[[True] * 3] * 9)),
    'one round': absurd(lambda d: d.update(samples_s=d['samples_s'][:1])),
    'no rounds': absurd(lambda d: d.update(samples_s=[])),
    'no samples': absurd(lambda d: d.pop('samples_s')),
    'load': absurd(lambda d: d.update(cpu_percent=180)),
    'load NaN': absurd(lambda d: d.update(cpu_percent=math.nan)),
    'load flag': absurd(lambda d: d.update(cpu_percent=True)),
    'load text': absurd(lambda d: d.update(cpu_percent='40')),
}


@pytest.mark.parametrize('name', UNUSABLE)
def test_a_file_that_cannot_be_believed_is_measured_anew_and_replaced(
    name, start, key, tmp_path, machine, said
):
    start()
    file = profile_file(key, tmp_path / 'cache')
    file.write_text(UNUSABLE[name](json.loads(file.read_text())))
    times, kept = start()
    assert not kept
    np.testing.assert_allclose(times.median_s, STAGES_S)
    assert machine.asked == [PROFILE_RUNS] * 2, 'nothing is checked that cannot be true'
    assert len(said) == 1
    assert str(file) in said[0]
    assert 'measured anew' in said[0]
    assert start()[1]
    assert len(said) == 1, 'said once'


def test_bytes_that_are_no_text_are_measured_anew(start, key, tmp_path, said):
    start()
    profile_file(key, tmp_path / 'cache').write_bytes(b'\xff\xfe{')
    assert not start()[1]
    assert len(said) == 1
    assert start()[1]


def test_a_pipe_in_the_place_of_the_file_does_not_hold_up_the_start(start, key, tmp_path, said):
    folder = tmp_path / 'cache'
    folder.mkdir()
    os.mkfifo(profile_file(key, folder))
    assert not start()[1]
    assert len(said) == 1
    assert start()[1]


def test_a_file_beyond_all_measure_is_not_read(start, key, tmp_path, monkeypatch, said):
    start()
    monkeypatch.setattr(profile_cache, 'MAX_FILE_BYTES', 10)
    assert not start()[1]
    assert 'no file of ours' in said[0]


def refuse(number):
    """A function that fails as a system call does."""

    def call(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize('number', [errno.EROFS, errno.EACCES])
def test_a_folder_that_nobody_may_write_costs_a_warning(
    number, start, tmp_path, monkeypatch, said
):
    # Not by its mode: the tests may run as root, who may write everything.
    monkeypatch.setattr(whole_file.tempfile, 'mkstemp', refuse(number))
    times, kept = start()
    assert not kept
    assert len(times.samples_s) == PROFILE_RUNS
    assert len(said) == 1
    assert str(tmp_path / 'cache') in said[0]
    assert os.strerror(number) in said[0]
    assert 'cache_dir' in said[0]


def test_a_file_in_the_place_of_the_folder_costs_a_warning(start, tmp_path, said):
    (tmp_path / 'cache').write_text('')
    times, _ = start()
    assert len(times.samples_s) == PROFILE_RUNS
    assert len(said) == 1
    assert 'cannot be kept' in said[0]


def test_a_folder_in_the_place_of_the_file_costs_warnings(start, key, tmp_path, said):
    profile_file(key, tmp_path / 'cache').mkdir(parents=True)
    times, _ = start()
    assert len(times.samples_s) == PROFILE_RUNS
    assert ['cannot be used' in said[0], 'cannot be kept' in said[1]] == [True, True]


def test_a_full_disk_costs_a_warning_and_the_old_file_stays(
    start, key, tmp_path, machine, monkeypatch, said
):
    machine.slowdown = 3.0
    start()
    machine.slowdown = 1.0
    file = profile_file(key, tmp_path / 'cache')
    old = file.read_bytes()
    monkeypatch.setattr(whole_file.Path, 'replace', refuse(errno.ENOSPC))
    times, _ = start()
    np.testing.assert_allclose(times.median_s, STAGES_S)
    assert 'No space left' in said[-1]
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == old


def test_whatever_times_depend_on_is_in_the_key(bundle, key, tmp_path, monkeypatch):
    stages = tuple(replace(s, detail='2 tensors s8 to u8') for s in ENGINE.stages)
    stretched = replace(bundle.manifest.image, resize='stretch')
    other_stage = make_ladder(tmp_path / 'colours', convolutions=(1, 1, 2))
    others = [
        profile_key(bundle, replace(ENGINE, version='1.1'), FRAME),
        profile_key(bundle, replace(ENGINE, library='tensorrt'), FRAME),
        profile_key(bundle, replace(ENGINE, device='cuda'), FRAME),
        profile_key(bundle, replace(ENGINE, threads=2), FRAME),
        profile_key(bundle, replace(ENGINE, stages=stages), FRAME),
        profile_key(bundle, ENGINE, (720, 1280, 3)),
        profile_key(replace(bundle, quality=None), ENGINE, FRAME),
        profile_key(
            replace(bundle, manifest=replace(bundle.manifest, image=stretched)), ENGINE, FRAME
        ),
        profile_key(other_stage, ENGINE, FRAME),
    ]
    monkeypatch.setattr(anytime_dnn_ros, '__version__', '99')
    others.append(profile_key(bundle, ENGINE, FRAME))
    monkeypatch.undo()
    monkeypatch.setattr(os, 'cpu_count', lambda: 1000)
    others.append(profile_key(bundle, ENGINE, FRAME))
    monkeypatch.undo()
    monkeypatch.setattr(profile_cache, '_cpu_model', lambda: 'another')
    others.append(profile_key(bundle, ENGINE, FRAME))
    monkeypatch.undo()
    files = {profile_file(k, tmp_path) for k in [key, *others]}
    assert len(files) == 1 + len(others)
    # And on nothing else, such as where the bundle lies.
    assert profile_key(read_bundle(bundle.path), ENGINE, FRAME) == key


@pytest.mark.parametrize(
    ('lines', 'model'),
    [
        ('processor\t: 0\nmodel\t\t: 85\nmodel name\t: Fast CPU\n' * 4, 'Fast CPU'),
        (
            'CPU implementer\t: 0x41\nCPU part\t: 0xd42\n',
            'CPU implementer 0x41, CPU part 0xd42',
        ),
    ],
)
def test_the_processor_is_named_in_the_words_of_the_kernel(lines, model, monkeypatch, tmp_path):
    (tmp_path / 'cpuinfo').write_text(lines)
    monkeypatch.setattr(profile_cache, 'CPU_INFO', tmp_path / 'cpuinfo')
    assert profile_cache._cpu_model() == model
    monkeypatch.setattr(profile_cache, 'CPU_INFO', tmp_path / 'gone')
    assert profile_cache._cpu_model()


def test_the_usual_place_is_that_of_the_xdg_specification(tmp_path, monkeypatch, said):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
    assert cache_folder('', said.append) == tmp_path / 'xdg' / 'anytime_dnn_ros'
    for unset in ('', 'relative/folder'):
        monkeypatch.setenv('XDG_CACHE_HOME', unset)
        assert cache_folder('', said.append) == tmp_path / '.cache' / 'anytime_dnn_ros'
    monkeypatch.delenv('XDG_CACHE_HOME')
    assert cache_folder('', said.append) == tmp_path / '.cache' / 'anytime_dnn_ros'
    assert cache_folder('~/profiles', said.append) == tmp_path / 'profiles'
    assert cache_folder(NO_CACHE, said.append) is None
    assert list(tmp_path.iterdir()) == said == []


def test_a_user_without_a_home_starts_all_the_same(monkeypatch, said):
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)

    def homeless(cls):
        raise RuntimeError('Could not determine home directory.')

    monkeypatch.setattr(profile_cache.Path, 'home', classmethod(homeless))
    assert cache_folder('', said.append) is None
    assert 'cache_dir' in said[0]


def test_the_home_of_nobody_is_an_error_that_names_the_option(said):
    with pytest.raises(ConfigurationError, match=r"cache_dir = '~no_such_user_here/x'"):
        cache_folder('~no_such_user_here/x', said.append)
