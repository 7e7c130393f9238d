"""Built engines kept on the machine they were built on, from one start to the next.

Building takes minutes on a robot, so an engine is kept in a file under everything it depends on.
Deserialising one runs its code, so a file is believed only if it is this user's, whole, and of
just that key; anything else is built anew. Of several nodes that want the same engine one builds
and the others wait.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from anytime_dnn_ros.engines.tensorrt_builder import BuildOptions
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from anytime_dnn_ros.ladder.manifest import StageSpec
from anytime_dnn_ros.whole_file import keep_whole

Say = Callable[[str], object]
MAGIC = b'anytime_dnn_ros engine 1\n'
# How long the JSON header is, in bytes, little end first.
LENGTH_BYTES = 4
MAX_HEADER_BYTES = 2**20
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def engine_key(
    stage: StageSpec,
    library: TensorRT,
    device: Device,
    options: BuildOptions,
    builder: str = 'onnx',
) -> dict[str, Any]:
    """Everything that an engine depends on, in values that JSON gives back as they were.

    Args:
        stage: By its sha256 and the shapes of its tensors.
        library: Its flavour and version.
        device: The GPU that the engine is for, by name and compute capability.
        options: How it is built.
        builder: What built it.
    """
    key = {
        'stage': stage.name,
        'stage_sha256': stage.sha256,
        'shapes': {t.name: [t.dtype, *t.shape] for t in (*stage.inputs, *stage.outputs)},
        'flavour': library.flavour,
        'version': library.version,
        'device': device.name,
        'compute_capability': device.compute_capability,
        'builder': builder,
        'options': asdict(options),
    }
    return dict(json.loads(json.dumps(key)))


def engine_file(key: Mapping[str, Any], folder: Path) -> Path:
    """Where the engine of a key is kept; that of another library version in the same place.

    So an update of TensorRT does not leave a second set of engines on a robot's disk.
    """
    lasting = {name: value for name, value in key.items() if name != 'version'}
    digest = hashlib.sha256(json.dumps(lasting, sort_keys=True).encode()).hexdigest()
    return folder / f'engine_{digest[:32]}.plan'


def cached_engine(
    build: Callable[[], bytes], key: Mapping[str, Any], folder: Path | None, *, say: Say
) -> tuple[bytes, bool]:
    """The engine kept under a key if it can be believed, else a newly built one, then kept.

    Args:
        build: Builds it.
        key: From `engine_key`.
        folder: From `timing.profile_cache.cache_folder`; None builds always and keeps nothing.
        say: Takes a warning, or that another process is being waited for. Nothing here fails
            because of the cache.

    Returns:
        The engine, and whether it is kept: the next start need not build it.

    Raises:
        EngineError: From `build`.
    """
    if folder is None:
        return build(), False
    file = engine_file(key, folder)
    with _alone(file, say):
        kept = read_engine(file, key, say=say)
        if kept is not None:
            return kept, True
        engine = build()
        return engine, store_engine(engine, key, folder, say=say)


def store_engine(engine: bytes, key: Mapping[str, Any], folder: Path, *, say: Say) -> bool:
    """Keeps an engine under its key, whole or not at all; says so where the disk refuses.

    Returns:
        Whether it is kept.
    """
    header = json.dumps(
        {'key': dict(key), 'sha256': hashlib.sha256(engine).hexdigest()}, sort_keys=True
    ).encode()
    length = len(header).to_bytes(LENGTH_BYTES, 'little')
    try:
        keep_whole(engine_file(key, folder), (MAGIC, length, header, engine))
    except OSError as error:
        say(
            f'the engine of stage {key["stage"]!r} cannot be kept in {folder} '
            f'({error.strerror}), so each start builds it; make the folder writable or make '
            'room, or name another with cache_dir'
        )
        return False
    return True


def read_engine(
    file: Path, key: Mapping[str, Any], *, say: Say, instead: str = 'it is built anew'
) -> bytes | None:
    """The engine in a file; None where there is none, or none that can be believed.

    Args:
        file: From `engine_file`.
        key: What it must be of.
        say: Takes why it cannot be believed.
        instead: What then happens, for that sentence.
    """
    try:
        header, engine = read_engine_file(file)
        kept = header['key']
        changed = sorted(n for n in {*kept, *key} if kept.get(n) != key.get(n))
        if changed:
            was = ', '.join(f'{n} {kept.get(n)!r} instead of {key.get(n)!r}' for n in changed)
            raise ValueError(f'it is of {was}')
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        say(f'the engine in {file} cannot be used ({error}); {instead}')
        return None
    return engine


def read_engine_file(file: Path) -> tuple[dict[str, Any], bytes]:
    """Header and engine of a file of this cache, checked for whose it is and for being whole.

    Returns:
        The header, with `key` and `sha256`, and the engine.

    Raises:
        OSError: It cannot be read.
        ValueError: It is foreign or damaged.
    """
    # A pipe, say, would keep this waiting for a writer.
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), 'rb') as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError('it is no file')
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & OTHERS_MAY_WRITE:
            raise ValueError('another user can write it, and an engine is code')
        if stream.read(len(MAGIC)) != MAGIC:
            raise ValueError('it is no file of ours')
        length = int.from_bytes(stream.read(LENGTH_BYTES), 'little')
        if length > MAX_HEADER_BYTES:
            raise ValueError('its header is damaged')
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise ValueError('its header is damaged') from error
        engine = stream.read()
    if not isinstance(header, dict) or not isinstance(header.get('key'), dict):
        raise ValueError('its header is damaged')  # noqa: TRY004
    if hashlib.sha256(engine).hexdigest() != header.get('sha256'):
        raise ValueError('it is truncated or damaged')
    return header, engine


@contextmanager
def _alone(file: Path, say: Say) -> Iterator[None]:
    """Holds the lock of an engine's file; goes on without where there can be none."""
    lock = file.with_suffix('.lock')
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Never deleted: a lock on a deleted file keeps nobody out.
        handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError:
        # A read-only folder may hold good engines; storing says what is wrong.
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f'another process builds the engine {file.name}: waiting for it')
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            # Some network file systems have no locks: then two may build the same.
            pass
        yield
    finally:
        # Closing gives the lock back, as the end of this process would.
        os.close(handle)
