"""Kept engines: whole, of just this key and of this user, or built anew; one builder at a time."""

import errno
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anytime_dnn_ros import whole_file
from anytime_dnn_ros.engines import engine_cache
from anytime_dnn_ros.engines.engine_cache import (
    MAGIC,
    cached_engine,
    engine_file,
    engine_key,
    read_engine_file,
    store_engine,
)
from anytime_dnn_ros.engines.tensorrt_builder import BuildOptions
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.ladder.manifest import InputSpec, StageSpec, TensorSpec

STAGE = StageSpec(
    name='wide',
    file='stages/wide.onnx',
    inputs=(InputSpec('image', 'uint8', (1, 32, 32, 3), 'image'),),
    outputs=(TensorSpec('logits', 'float32', (1, 10)),),
    answer='logits',
    macs=1.0,
    parameters=1,
    precision='float32',
    sha256='0' * 64,
)
LIBRARY = TensorRT(None, 'tensorrt', '10.3.0')
DEVICE = Device('Orin', '8.7', 0, 2**33)
OPTIONS = BuildOptions('fp16')
KEY = engine_key(STAGE, LIBRARY, DEVICE, OPTIONS)
ENGINE = bytes(range(256)) * 4


class Shelf:
    """A cache folder, and what was built and said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.builds = 0
        self.is_kept = None
        self.said = []

    def get(self, key=KEY):
        """Whether the engine was there without being built."""
        before = self.builds

        def build():
            self.builds += 1
            return ENGINE

        engine, self.is_kept = cached_engine(build, key, self.folder, say=self.said.append)
        assert engine == ENGINE
        return self.builds == before

    @property
    def file(self):
        return engine_file(KEY, self.folder)


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / 'deep' / 'cache')


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_engine_is_built_once_and_then_kept_for_its_owner_alone(shelf):
    assert not shelf.get()
    assert shelf.is_kept
    assert [shelf.get(), shelf.get()] == [True, True]
    assert shelf.is_kept
    assert (shelf.builds, shelf.said) == (1, [])
    assert (mode(shelf.file), mode(shelf.folder)) == (0o600, 0o700)
    assert sorted(p.suffix for p in shelf.folder.iterdir()) == ['.lock', '.plan']
    header, engine = read_engine_file(shelf.file)
    assert (header['key'], engine) == (KEY, ENGINE)


def test_no_folder_keeps_nothing(shelf, tmp_path):
    shelf.folder = None
    assert [shelf.get(), shelf.get()] == [False, False]
    assert not shelf.is_kept
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    'key',
    [
        engine_key(replace(STAGE, sha256='1' * 64), LIBRARY, DEVICE, OPTIONS),
        engine_key(replace(STAGE, inputs=()), LIBRARY, DEVICE, OPTIONS),
        engine_key(STAGE, replace(LIBRARY, flavour='tensorrt_rtx'), DEVICE, OPTIONS),
        engine_key(STAGE, replace(LIBRARY, version='10.3.1'), DEVICE, OPTIONS),
        engine_key(STAGE, LIBRARY, replace(DEVICE, name='Orin Nano'), OPTIONS),
        engine_key(STAGE, LIBRARY, replace(DEVICE, compute_capability='8.6'), OPTIONS),
        engine_key(STAGE, LIBRARY, DEVICE, BuildOptions('fp32')),
        engine_key(STAGE, LIBRARY, DEVICE, replace(OPTIONS, workspace_bytes=2**20)),
        engine_key(STAGE, LIBRARY, DEVICE, replace(OPTIONS, dla_core=0)),
        engine_key(STAGE, LIBRARY, DEVICE, replace(OPTIONS, target='8.6')),
        engine_key(STAGE, LIBRARY, DEVICE, OPTIONS, builder='torch2trt'),
    ],
)
def test_whatever_an_engine_depends_on_has_another_one_built(shelf, key):
    assert not shelf.get()
    assert not shelf.get(key)
    assert shelf.get(key)


def test_where_the_memory_and_the_number_of_the_gpu_lie_does_not_matter(shelf):
    shelf.get()
    assert shelf.get(engine_key(STAGE, LIBRARY, Device('Orin', '8.7', 1, 7), OPTIONS))


def test_an_update_of_the_library_replaces_the_engine(shelf):
    shelf.get()
    newer = engine_key(STAGE, replace(LIBRARY, version='10.7.0'), DEVICE, OPTIONS)
    assert not shelf.get(newer)
    assert shelf.get(newer)
    assert len(list(shelf.folder.glob('*.plan'))) == 1
    assert len(shelf.said) == 1
    assert "version '10.3.0' instead of '10.7.0'" in shelf.said[0]


def test_of_a_file_cut_at_any_place_nothing_is_believed(shelf):
    shelf.get()
    whole = shelf.file.read_bytes()
    for length in [*range(0, len(whole) - len(ENGINE) + 2, 7), len(whole) - 1]:
        shelf.file.write_bytes(whole[:length])
        assert not shelf.get(), length
        assert shelf.file.read_bytes() == whole
    assert shelf.builds == len(shelf.said) + 1


def test_of_a_file_with_a_flipped_bit_nothing_is_believed(shelf):
    shelf.get()
    whole = shelf.file.read_bytes()
    header_end = len(whole) - len(ENGINE)
    for place in [*range(0, header_end, 5), header_end, len(whole) - 1]:
        shelf.file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert not shelf.get(), place


@pytest.mark.parametrize(
    'content',
    [
        b'',
        ENGINE,
        MAGIC + b'\xff\xff\xff\xff',
        MAGIC + b'\x02\x00\x00\x00[]',
        MAGIC + b'\x0a\x00\x00\x00{"key": 3}',
        MAGIC + b'\x03\x00\x00\x00{{{' + ENGINE,
    ],
)
def test_a_foreign_file_is_replaced(shelf, content):
    shelf.folder.mkdir(parents=True)
    shelf.file.write_bytes(content)
    assert not shelf.get()
    assert 'built anew' in shelf.said[0]
    assert shelf.get()


def test_what_others_may_write_is_not_believed(shelf):
    shelf.get()
    shelf.file.chmod(0o620)
    assert not shelf.get()
    assert 'another user can write it' in shelf.said[0]
    assert mode(shelf.file) == 0o600


def test_what_belongs_to_another_user_is_not_believed(shelf, monkeypatch):
    shelf.get()
    owner = shelf.file.stat().st_uid
    real = os.fstat
    monkeypatch.setattr(
        engine_cache.os,
        'fstat',
        lambda fd: os.stat_result([*real(fd)[:4], owner + 1, *real(fd)[5:10]]),
    )
    assert not shelf.get()
    assert 'another user can write it' in shelf.said[0]


def test_a_pipe_or_a_folder_in_its_place_does_not_hold_the_start_up(shelf):
    shelf.folder.mkdir(parents=True)
    os.mkfifo(shelf.file)
    assert not shelf.get()
    shelf.file.unlink()
    shelf.file.mkdir()
    assert not shelf.get()
    assert not shelf.get()


@pytest.mark.parametrize(
    ('number', 'mend'), [(errno.EROFS, 'make the folder writable'), (errno.EACCES, 'cache_dir')]
)
def test_a_folder_that_cannot_be_written_costs_a_warning(shelf, monkeypatch, number, mend):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(whole_file.tempfile, 'mkstemp', refuse)
    monkeypatch.setattr(engine_cache.os, 'open', refuse)
    assert [shelf.get(), shelf.get()] == [False, False]
    assert not shelf.is_kept
    # Once for each engine: that it cannot be read, and that it cannot be kept.
    assert all(os.strerror(number) in sentence for sentence in shelf.said)
    assert mend in shelf.said[-1]


def test_engines_in_a_folder_that_became_read_only_still_serve(shelf, monkeypatch):
    shelf.get()
    real = os.open

    def read_only(path, flags, *rest, **more):
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(engine_cache.os, 'open', read_only)
    assert shelf.get()
    assert shelf.said == []


def test_a_file_in_the_place_of_the_folder_costs_a_warning(shelf):
    shelf.folder.parent.mkdir()
    shelf.folder.write_text('a file')
    assert not shelf.get()
    assert 'cannot be kept' in shelf.said[-1]


# A limit on the size of files is what a full disk is to who writes.
FULL_DISK = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from test_engine_cache import Shelf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))
shelf = Shelf(Path(sys.argv[1]))
assert not shelf.get()
assert not shelf.get()
assert not shelf.is_kept
assert 'make room' in shelf.said[0], shelf.said
assert [p.suffix for p in shelf.folder.iterdir()] == ['.lock'], 'a part of an engine is left'
"""


def python(program: str, *arguments) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, '-c', program, *map(str, arguments), *sys.path])


def test_a_full_disk_costs_a_warning_and_leaves_nothing_half_written(tmp_path):
    assert python(FULL_DISK, tmp_path / 'cache').wait(60) == 0


# Builds as slowly as the test wants: until a file appears.
SLOW_BUILD = """
import sys, time
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from anytime_dnn_ros.engines.engine_cache import cached_engine
from test_engine_cache import ENGINE, KEY
folder = Path(sys.argv[1])
def build():
    (folder / 'building').touch()
    while not (folder / 'go').exists():
        time.sleep(0.01)
    return ENGINE
assert cached_engine(build, KEY, folder / 'cache', say=print) == (ENGINE, True)
"""


@pytest.fixture
def slow_builder(tmp_path):
    builder = python(SLOW_BUILD, tmp_path)
    while not (tmp_path / 'building').exists():
        assert builder.poll() is None
    yield builder
    builder.kill()
    builder.wait()


def test_of_two_nodes_one_builds_and_the_other_waits_for_it(slow_builder, tmp_path):
    shelf = Shelf(tmp_path / 'cache')
    said = shelf.said

    def listen(sentence):
        said.append(sentence)
        (tmp_path / 'go').touch()

    engine, kept = cached_engine(pytest.fail, KEY, shelf.folder, say=listen)
    assert (engine, kept) == (ENGINE, True)
    assert len(said) == 1
    assert 'waiting' in said[0]
    assert slow_builder.wait(60) == 0


def test_one_that_dies_while_it_builds_leaves_the_work_to_the_other(slow_builder, tmp_path):
    shelf = Shelf(tmp_path / 'cache')

    def kill(_sentence):
        slow_builder.kill()

    engine, kept = cached_engine(lambda: ENGINE, KEY, shelf.folder, say=kill)
    assert (engine, kept) == (ENGINE, True)
    assert shelf.get()


def test_a_build_that_fails_keeps_nothing_and_gives_the_lock_back(shelf):
    def fail():
        raise EngineError('no')

    with pytest.raises(EngineError):
        cached_engine(fail, KEY, shelf.folder, say=shelf.said.append)
    assert not shelf.get()
    assert shelf.said == []


def test_an_engine_made_elsewhere_is_served(shelf):
    assert store_engine(ENGINE, KEY, shelf.folder, say=shelf.said.append)
    assert shelf.get()
    assert shelf.said == []


def test_the_key_is_what_json_gives_back():
    assert json.loads(json.dumps(KEY)) == KEY
