"""What becomes of serving when a GPU engine fails: the next frame is answered all the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import CancelToken, Engine, EngineInfo, StageCancelledError
from anytime_dnn_ros.errors import AnytimeError, EngineError

# What a failed run leads to: it is told and the same engine goes on; the engine is loaded anew;
# or ONNX Runtime takes over.
ON_ENGINE_ERROR = ('report', 'rebuild', 'fall_back')

Load = Callable[[], Engine]


class RecoveringEngine:
    """An engine that is replaced when it fails, before the next frame.

    The frame in hand is lost to it: features of the failed engine are nothing to another. So the
    failure is raised in any case, with what was done about it. An engine loaded anew that fails
    before it has run every stage gives way to ONNX Runtime, and so does one in a process that
    CUDA has given up (`CudaError.is_sticky`): nothing of CUDA can be loaded there any more.

    Args:
        engine: Serves at first.
        rebuild: Loads it anew, from the cache where it is there.
        fall_back: Loads ONNX Runtime.
        on_error: One of `ON_ENGINE_ERROR`.
    """

    def __init__(self, engine: Engine, *, rebuild: Load, fall_back: Load, on_error: str) -> None:
        # None: closed, or the last replacement failed; the next frame tries again.
        self._engine: Engine | None = engine
        self._info = engine.info()
        self._num_stages = engine.num_stages
        self._rebuild = rebuild
        self._fall_back = fall_back
        self._on_error = on_error
        self._is_new = False

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return self._num_stages

    def image_buffer(self, stage: int) -> NDArray[np.uint8] | None:
        """See `Engine`; another one after a replacement."""
        return self._serving().image_buffer(stage)

    def new_token(self) -> CancelToken:
        """A token for one call of `run_stage`."""
        return self._serving().new_token()

    def run_stage(self, stage: int, token: CancelToken) -> NDArray[np.float32]:
        """Runs one stage; see `Engine`. When it fails this takes as long as the replacement."""
        engine = self._serving()
        try:
            logits = engine.run_stage(stage, token)
        except StageCancelledError:
            raise
        except EngineError as error:
            raise EngineError(f'{error}. {self._replace(engine, error)}') from error
        if stage == self._num_stages - 1:
            self._is_new = False
        return logits

    def info(self) -> EngineInfo:
        """What serves now, and why it is not what was loaded at first."""
        return self._info

    def close(self) -> None:
        """Frees whatever serves."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _serving(self) -> Engine:
        if self._engine is None:
            self._take(self._fall_back(), self._info.reason, is_degraded=True)
        assert self._engine is not None
        return self._engine

    def _replace(self, engine: Engine, error: EngineError) -> str:
        """Does what the parameter says; gives the sentence that tells it."""
        if self._on_error == 'report' or self._info.is_degraded:
            return 'The next frame is tried on the same engine'
        failed = f'{self._info.library} failed: {error}'
        self._engine = None
        engine.close()
        if self._on_error == 'rebuild' and not self._is_new and not _is_sticky(error):
            try:
                self._take(self._rebuild(), f'loaded anew after {failed}', is_degraded=False)
            except AnytimeError as again:
                failed = f'{failed}; loading it anew failed too: {again}'
            else:
                self._is_new = True
                return 'It was loaded anew and serves the next frame'
        self._info = replace(self._info, reason=failed, is_degraded=True)
        try:
            self._serving()
        except AnytimeError as last:
            return f'ONNX Runtime cannot take over ({last}); the next frame tries again'
        return 'ONNX Runtime serves from the next frame on'

    def _take(self, engine: Engine, reason: str, *, is_degraded: bool) -> None:
        self._engine = engine
        self._info = replace(engine.info(), reason=reason, is_degraded=is_degraded)


def _is_sticky(error: EngineError) -> bool:
    return bool(getattr(error, 'is_sticky', False))
