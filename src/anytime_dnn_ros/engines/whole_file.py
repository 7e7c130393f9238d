"""A file written whole or not at all, readable by its owner alone."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def replace_file(file: Path, parts: Iterable[bytes]) -> None:
    """Puts a new file in the place of an old one; makes its folder for this user alone.

    Not forced to the disk: what a power cut leaves is for the reader to find out.

    Raises:
        OSError: The folder cannot be written or the disk is full; the old file is as it was.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Mode 0600.
    handle, name = tempfile.mkstemp(prefix=f'.{file.name[:40]}-', dir=file.parent)
    draft = Path(name)
    try:
        with os.fdopen(handle, 'wb') as stream:
            for part in parts:
                stream.write(part)
        draft.replace(file)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
