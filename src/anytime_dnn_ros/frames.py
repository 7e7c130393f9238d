"""What goes into the runner and what comes out: frames, predictions, summaries, counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.frame_fit import ColorOrder
from anytime_dnn_ros.planner import StopReason
from anytime_dnn_ros.quality.judge import Judgement


@dataclass(frozen=True)
class Frame:
    """One camera frame as it waits for the worker.

    Attributes:
        seq: Number of the frame since the runner was made, from 1.
        decode: Gives the pixels, uint8 [H, W, 3] or [H, W], and their order; runs in the worker.
            Raises ImageError for a frame that cannot be decoded.
        received_s: Monotonic clock at receipt.
        age_at_receipt_s: From the image's stamp to receipt; NaN where the stamp says nothing.
        budget_s: The deadline as the user gave it.
        due_s: Monotonic clock when the answer is due.
        header: The image's header, handed back with each answer.
    """

    seq: int
    decode: Callable[[], tuple[NDArray[np.uint8], ColorOrder]]
    received_s: float
    age_at_receipt_s: float
    budget_s: float
    due_s: float
    header: Any = None


@dataclass(frozen=True)
class Prediction:
    """An answer on its way to the user; times in seconds."""

    frame: Frame
    judgement: Judgement
    num_stages: int
    is_final: bool
    stop_reason: StopReason
    budget_s: float
    elapsed_s: float
    age_s: float
    slack_s: float

    @property
    def answer(self) -> Answer:
        """What the ladder says; stage 0 is a forecast."""
        return self.judgement.answer

    @property
    def expected_gain(self) -> float:
        """What the next stage should add to the expected accuracy; NaN if unknown."""
        later = self.judgement.expected_later
        return later[0] - self.judgement.expected_accuracy if later else 0.0


@dataclass(frozen=True)
class FrameSummary:
    """What became of one frame; times in seconds.

    Attributes:
        cut_to_result_s: From the instant at which timer or `stop` ended the frame until its
            answer was out; NaN where the worker ended it.
    """

    frame: Frame
    image: NDArray[np.uint8]
    color_order: ColorOrder
    judgement: Judgement
    stop_reason: StopReason
    budget_s: float
    queue_s: float
    preprocess_s: float
    infer_s: float
    publish_s: float
    total_s: float
    age_s: float
    slack_s: float
    cut_to_result_s: float
    deadline_missed: bool
    slowdown: float
    margin: float

    @property
    def answer(self) -> Answer:
        """The final one; stage 0 is a forecast."""
        return self.judgement.answer

    @property
    def stages_run(self) -> int:
        """Stages that the answer comes from."""
        return self.answer.stage

    @property
    def is_forecast(self) -> bool:
        """Whether no stage was done in time, and the answer is that to earlier frames."""
        return self.answer.stage == 0


class Sink(Protocol):
    """Where the runner's results go.

    Predictions come one at a time, from the worker, the deadline thread or the caller of `stop`;
    faults may come at the same time as anything else.
    """

    def on_prediction(self, prediction: Prediction) -> None:
        """An answer after a stage, or the final one."""

    def on_frame(self, summary: FrameSummary) -> None:
        """A frame is done and its final answer is out."""

    def on_fault(self, kind: str, message: str) -> None:
        """Something is wrong with a frame; `kind` is short and stable, `message` says the mend."""


@dataclass
class Counters:
    """Frames since the runner was made.

    Attributes:
        forecast: Answered, but only by what earlier frames said: no stage was done in time.
    """

    received: int = 0
    answered: int = 0
    forecast: int = 0
    missed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def dropped_total(self) -> int:
        """Frames that got no answer, for whatever reason."""
        return sum(self.dropped.values())
