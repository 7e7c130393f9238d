"""A probe reads one thing of the machine; readings of many probes make one sample."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from anytime_dnn_ros.errors import AnytimeError

Reading: TypeAlias = dict[str, Any]
"""Some of the fields of a LoadSample, by name."""

Report: TypeAlias = Callable[[str], None]
"""Told in one sentence of something that does not work."""


@dataclass(frozen=True)
class Probe:
    """One thing that can be read, and that can fail alone.

    Attributes:
        source: Where it comes from, e.g. `psutil`; part of the sample's source.
        name: What it reads, for messages, e.g. `GPU load`.
        read: Gives the reading at a monotonic time in seconds; any exception means it cannot
            tell now.
        every_s: Shortest time between two reads, in seconds; between them the last one holds.
    """

    source: str
    name: str
    read: Callable[[float], Reading]
    every_s: float = 0.0


def found(what: str, find: Callable[[], list[Probe]], report: Report) -> list[Probe]:
    """Return the probes that `find` finds; none, and one report, where the search itself fails.

    Args:
        what: What is looked for, e.g. `processor clock`.
        find: Looks for it; may fail in any way of a driver or of a library.
        report: Told of such a failure.

    Raises:
        AnytimeError: `find` says so: it was asked for by name and is not here.
    """
    try:
        return find()
    except AnytimeError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever a driver does, the monitor lives)
        report(f'no probe for {what}: {error!r}; it counts as unknown.')
        return []


def read_number(path: Path) -> float:
    """Read the one number a sysfs file holds.

    Raises:
        OSError: The file is gone or cannot be read now.
        ValueError: It holds something else.
    """
    return float(path.read_text(encoding='ascii'))
