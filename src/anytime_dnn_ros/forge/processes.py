"""The same work in every process of a training, and the connection between them closed after."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from torch import distributed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Result = TypeVar('Result')


def in_every_process(fabric: Fabric, work: Callable[[Fabric], Result]) -> Result:
    """Starts the fabric's processes and runs `work` in each.

    Args:
        fabric: Not launched yet.
        work: Takes the fabric; for several processes it must be importable by its name.

    Returns:
        What it gave in the first process.
    """
    result: Result = fabric.launch(partial(_work_and_close, work=work))
    return result


def _work_and_close(fabric: Fabric, work: Callable[[Fabric], Result]) -> Result:
    try:
        return work(fabric)
    finally:
        # A process that ends while gloo's threads still run now and then aborts.
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()
