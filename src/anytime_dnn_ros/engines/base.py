"""The engine interface: what the runner needs of ONNX Runtime, TensorRT or any other library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import AnytimeError


class StageCancelledError(AnytimeError):
    """A stage was stopped by its `CancelToken`; its output buffers hold no answer."""


class CancelToken(Protocol):
    """Stops the one stage run it is given to; safe to call from any thread, at any time."""

    def cancel(self) -> None:
        """Asks the stage to stop; one that has not begun then never begins."""


@dataclass(frozen=True)
class StageInfo:
    """How one stage was loaded."""

    name: str
    precision: str
    detail: str


@dataclass(frozen=True)
class EngineInfo:
    """What runs the stages, for logs and diagnostics.

    Attributes:
        can_cancel: Whether a stage can be stopped in the middle. If not, the longest stage bounds
            how far a deadline can be overrun.
        reason: Why just this library serves, where there is something to tell.
        is_degraded: Whether it serves because the one that was wanted failed.
    """

    library: str
    version: str
    device: str
    threads: int
    can_cancel: bool
    stages: tuple[StageInfo, ...]
    reason: str = ''
    is_degraded: bool = False


class Engine(Protocol):
    """All stages of one bundle, loaded on one device.

    One thread at a time may write images and run stages; tokens may be cancelled from any.
    """

    @property
    def num_stages(self) -> int:
        """How many stages there are."""

    def image_buffer(self, stage: int) -> NDArray[np.uint8] | None:
        """The tensor, uint8 [H, W, C], that the frame is resized into before a stage runs.

        Stages that read the same size share one buffer. None for a stage that reads only the
        features of earlier ones.

        Args:
            stage: 0-based.
        """

    def new_token(self) -> CancelToken:
        """A token for one call of `run_stage`."""

    def run_stage(self, stage: int, token: CancelToken) -> NDArray[np.float32]:
        """Runs one stage on its bound buffers, blocking.

        Args:
            stage: 0-based; the stages it reads from must have run on this frame.
            token: From `new_token`, used for this run only.

        Returns:
            The logits, float32 [classes]: a view that the stage's next run overwrites.

        Raises:
            StageCancelledError: The token was cancelled.
            EngineError: The library failed.
        """

    def info(self) -> EngineInfo:
        """What was loaded and how."""

    def close(self) -> None:
        """Frees the stages and their memory; the engine cannot be used afterwards."""
