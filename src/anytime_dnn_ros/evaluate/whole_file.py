"""A result written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from anytime_dnn_ros.errors import ConfigurationError

READABLE_BY_ALL = 0o644


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
    """Writes a file so that nobody ever sees half of it.

    Args:
        path: Replaced if it is there.
        content: All of it.

    Raises:
        ConfigurationError: The disk refuses; a file that was there is left as it was.
    """
    draft: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f'.{path.name}-', dir=path.parent)
        draft = Path(name)
        with os.fdopen(handle, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(READABLE_BY_ALL)
        draft.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f'cannot write {path}: {error.strerror}; make room or choose another place'
        ) from error
    finally:
        if draft is not None:
            draft.unlink(missing_ok=True)
