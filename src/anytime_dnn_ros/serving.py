"""The serving path: one image through the stages of a loaded ladder, judged after each."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from time import sleep

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import CancelToken, Engine
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.ladder.answer import make_answer
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.ladder.combine import Combiner
from anytime_dnn_ros.ladder.frame_fit import ColorOrder, fit_frame
from anytime_dnn_ros.ladder.profile import Monotone
from anytime_dnn_ros.quality.judge import DEFAULT_MONOTONE, Judge, Judgement
from anytime_dnn_ros.timing.reference import ReferenceTimes, measure_reference_times

# The camera most robots carry; the resize for a later stage is part of its reference time.
REFERENCE_FRAME_SHAPE = (480, 640, 3)
PAUSE_S = 0.005


class ServingPath:
    """A bundle and the engine that runs it. For one thread at a time.

    Args:
        bundle: A checked bundle.
        engine: That bundle, loaded.
        monotone: What keeps a later answer from being worse than an earlier one.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, monotone: Monotone = DEFAULT_MONOTONE
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self._judge = Judge(bundle.quality, len(bundle.manifest.stages), monotone)
        self._combiner = Combiner(bundle.manifest.combine)
        self._image: NDArray[np.uint8] = np.zeros((1, 1, 3), np.uint8)
        self._color_order: ColorOrder = 'rgb'
        self._fitted: set[int] = set()

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return self.engine.num_stages

    def begin(self, image: NDArray[np.uint8], color_order: ColorOrder) -> None:
        """Takes the next frame.

        Args:
            image: uint8 [H, W, 3] or [H, W]; read until the next `begin`.
            color_order: Of `image`.
        """
        self._image, self._color_order = image, color_order
        self._fitted.clear()
        self._combiner.reset()
        self._judge.reset()

    def fit(self, stage: int) -> None:
        """Resizes the frame into the tensor that a stage reads, unless an earlier stage did.

        Args:
            stage: 0-based.
        """
        buffer = self.engine.image_buffer(stage)
        if buffer is None or buffer.ctypes.data in self._fitted:
            return
        fit_frame(self._image, self._color_order, buffer, self.bundle.manifest.image)
        self._fitted.add(buffer.ctypes.data)

    def run_stage(self, stage: int, token: CancelToken) -> Judgement:
        """Runs the next stage on the frame.

        Args:
            stage: 0-based; stages run in order.
            token: From the engine's `new_token`.

        Returns:
            What may be said now, from the combined answer of all stages so far.

        Raises:
            StageCancelledError: The token was cancelled.
            EngineError: The engine failed, or the network gave a number that is not finite.
        """
        self.fit(stage)
        logits = self.engine.run_stage(stage, token)
        quality = self.bundle.quality
        temperature = 1.0 if quality is None else quality.stages[stage].temperature
        answer = make_answer(stage + 1, self._combiner.add(logits), temperature)
        if not answer.is_finite:
            name = self.bundle.manifest.stages[stage].name
            raise EngineError(
                f'stage {name!r} gave a number that is not finite; check the bundle with '
                '`anytime-dnn inspect`'
            )
        return self._judge.judge(answer)

    def expected_accuracy(self, stages_run: int) -> float:
        """Share of right answers published after so many stages; NaN if none may be declared."""
        return self._judge.accuracy(stages_run - 1) if stages_run else float('nan')

    def measure_reference_times(
        self,
        runs: int = 20,
        *,
        budget_s: float = 2.0,
        progress: Callable[[int, int], object] = lambda done, of: None,
    ) -> ReferenceTimes:
        """Times each stage on a synthetic frame, with combination and later stages' resize.

        Args:
            runs: As for `timing.reference.measure_reference_times`.
            budget_s: Likewise.
            progress: Called before each round, not timed, with how many are done and `runs`.
        """
        image = np.random.default_rng(0).integers(0, 256, REFERENCE_FRAME_SHAPE, np.uint8)
        done = count()

        def begin() -> None:
            progress(next(done), runs)
            # Frames come with pauses, and other work takes the caches meanwhile.
            sleep(PAUSE_S)
            self.begin(image, 'bgr')
            self.fit(0)

        def run(stage: int) -> None:
            self.run_stage(stage, self.engine.new_token())

        return measure_reference_times(
            run, self.num_stages, begin=begin, runs=runs, budget_s=budget_s
        )
