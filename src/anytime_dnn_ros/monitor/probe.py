"""A probe reads one thing of the machine; readings of many probes make one sample."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

Reading: TypeAlias = dict[str, Any]
"""Some of the fields of a LoadSample, by name."""


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


def read_number(path: Path) -> float:
    """Read the one number a sysfs file holds.

    Raises:
        OSError: The file is gone or cannot be read now.
        ValueError: It holds something else.
    """
    return float(path.read_text(encoding='ascii'))
