"""A file written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from anytime_dnn_ros.errors import ConfigurationError

READABLE_BY_ALL, OWNER_ONLY = 0o644, 0o600
OWNER_ONLY_FOLDER = 0o700


def check_can_write(path: Path) -> None:
    """Makes the folder of a file that is to be written after long work.

    Raises:
        ConfigurationError: A file cannot be made there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise ConfigurationError(
            f'cannot write {path}: {error.strerror}; choose another file'
        ) from error
    if path.is_dir():
        raise ConfigurationError(f'{path} is a folder: name a file in it')


def write_whole(path: Path, content: bytes) -> None:
    """Writes a result so that nobody ever sees half of it, not even after a power cut.

    Args:
        path: Replaced if it is there.
        content: All of it.

    Raises:
        ConfigurationError: The disk refuses; a file that was there is left as it was.
    """
    try:
        _replace(path, [content], READABLE_BY_ALL, to_disk=True)
    except OSError as error:
        raise ConfigurationError(
            f'cannot write {path}: {error.strerror}; make room or choose another place'
        ) from error


def keep_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Writes what a cache keeps, for this user alone; makes its folder.

    Not forced to the disk: what a power cut leaves is for the reader to find out.

    Raises:
        OSError: The folder cannot be written or the disk is full; a file that was there is left
            as it was.
    """
    path.parent.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
    _replace(path, parts, OWNER_ONLY, to_disk=False)


def _replace(path: Path, parts: Iterable[bytes], mode: int, *, to_disk: bool) -> None:
    # A long name with what mkstemp adds would be too long for a folder.
    handle, name = tempfile.mkstemp(prefix=f'.{path.name[:40]}-', dir=path.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, 'wb') as stream:
            for part in parts:
                stream.write(part)
            if to_disk:
                stream.flush()
                os.fsync(stream.fileno())
        draft.chmod(mode)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
