"""What TensorRT says: it returns None where others raise, and its logger has the reason."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from anytime_dnn_ros.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

LOG = logging.getLogger(__name__)
KEPT_ERRORS = 20
# What TensorRT says where memory is wanting: the GPU's own, and what `workspace_mib` leaves.
MEMORY_MENDS = (
    (
        re.compile('out ?of ?memory|enough free memory', re.IGNORECASE),
        'the GPU is out of memory: end other programs on it, or take a smaller bundle',
    ),
    (
        re.compile('insufficient workspace', re.IGNORECASE),
        'allow more with workspace_mib, or leave it at 0',
    ),
)


@lru_cache
def tensorrt_log(trt_: Any) -> Any:
    """The one logger of a TensorRT module; builders and runtimes of a process share one anyway.

    Args:
        trt_: `TensorRT.module`.

    Returns:
        A `trt.ILogger`, with what `last_errors` reads.
    """

    # The base class exists only once the module has been imported.
    class Log(trt_.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt_.ILogger.__init__(self)
            self.errors: deque[str] = deque(maxlen=KEPT_ERRORS)
            error, warning = trt_.ILogger.ERROR, trt_.ILogger.WARNING
            self._levels = {
                trt_.ILogger.INTERNAL_ERROR: logging.ERROR,
                error: logging.ERROR,
                warning: logging.WARNING,
            }

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            level = self._levels.get(severity, logging.DEBUG)
            if level == logging.ERROR:
                self.errors.append(msg)
            # Whoever asked gets errors raised; the rest is for whoever turns logging on.
            LOG.debug('%s: %s', logging.getLevelName(level), msg)

    return Log()


def start(kind: Callable[[Any], Any], log: Any, what: str) -> Any:
    """Makes a `trt.Builder` or `trt.Runtime`, which begin to use CUDA.

    Args:
        kind: Which.
        log: From `tensorrt_log`.
        what: Cannot be done without it, for the message.

    Raises:
        EngineError: TensorRT cannot use the driver or the GPU.
    """
    try:
        return kind(log)
    except TypeError as error:
        # How pybind11 says that the constructor gave nothing.
        raise EngineError(f'{what}: {last_errors(log)}') from error


def last_errors(log: Any) -> str:
    """What went wrong since the last call, one sentence after the other; then forgotten."""
    text = '; '.join(dict.fromkeys(log.errors))
    log.errors.clear()
    return text or 'it gave no reason'


def memory_mend(said: str) -> str:
    """What to do where TensorRT lacks memory, to append to its words; else empty."""
    return ''.join(f'; {mend}' for pattern, mend in MEMORY_MENDS if pattern.search(said))
