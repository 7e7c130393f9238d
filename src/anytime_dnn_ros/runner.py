"""One frame against one deadline: newest-frame slot, worker thread, publish timer, cancel."""

from __future__ import annotations

import threading
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isnan
from time import monotonic
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import CancelToken, StageCancelledError
from anytime_dnn_ros.errors import EngineError, ImageError, MissingDependencyError
from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.frame_fit import ColorOrder
from anytime_dnn_ros.planner import Goals, NextStage, StopReason, plan
from anytime_dnn_ros.quality.judge import Judgement
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.timing.slowdown import SlowdownEstimator

# Share by which one observation moves the running estimate of what publishing takes.
PUBLISH_SMOOTHING = 0.1
FIRST_PUBLISH_GUESS_S = 0.001


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
    answer: Answer
    num_stages: int
    is_final: bool
    stop_reason: StopReason
    expected_accuracy: float
    expected_gain: float
    elapsed_s: float
    age_s: float
    slack_s: float


@dataclass(frozen=True)
class FrameSummary:
    """What became of one frame; times in seconds."""

    frame: Frame
    image: NDArray[np.uint8]
    color_order: ColorOrder
    answer: Answer
    stages_run: int
    stop_reason: StopReason
    queue_s: float
    preprocess_s: float
    infer_s: float
    publish_s: float
    total_s: float
    age_s: float
    slack_s: float
    deadline_missed: bool
    slowdown: float
    margin: float


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
    """Frames since the runner was made."""

    received: int = 0
    answered: int = 0
    missed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def dropped_total(self) -> int:
        """Frames that got no answer, for whatever reason."""
        return sum(self.dropped.values())


@dataclass
class _Flight:
    """The frame being served."""

    frame: Frame
    started_s: float
    answer: Answer | None = None
    judgement: Judgement | None = None
    token: CancelToken | None = None
    finished: bool = False
    answered: bool = False
    stop_reason: StopReason = StopReason.NONE
    preprocess_s: float = 0.0
    infer_s: float = 0.0
    publish_s: float = 0.0
    finished_s: float = 0.0


class Runner:
    """Serves the newest frame, refines until its deadline, and always answers.

    Args:
        path: The loaded ladder.
        reference: Its stage times on this machine.
        sink: Where results go.
        goals: What the planner is asked for; may be replaced at any time.
        max_frame_age_s: Frames older than this when their turn comes are dropped.
        publish_intermediate: Whether answers that are not final go to the sink.
    """

    def __init__(
        self,
        path: ServingPath,
        reference: ReferenceTimes,
        sink: Sink,
        *,
        goals: Goals | None = None,
        max_frame_age_s: float = 1.0,
        publish_intermediate: bool = True,
    ) -> None:
        self.goals = goals or Goals()
        self.max_frame_age_s = max_frame_age_s
        self.publish_intermediate = publish_intermediate
        self.counters = Counters()
        self.slowdown = SlowdownEstimator(reference.ratios)
        self._path = path
        self._reference_s = [float(t) for t in reference.median_s]
        self._sink = sink
        self._publish_s = FIRST_PUBLISH_GUESS_S
        self._stopping = False
        self._slot: Frame | None = None
        self._slot_filled = threading.Condition()
        self._flight: _Flight | None = None
        # Guards the flight and the order of what is published.
        self._flight_changed = threading.Condition()
        self._threads = [
            threading.Thread(target=self._work, name='anytime-worker', daemon=True),
            threading.Thread(target=self._keep_deadlines, name='anytime-deadline', daemon=True),
        ]

    def start(self) -> None:
        """Starts the worker and the publish timer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Cancels the frame in flight, publishes its best answer, and ends both threads."""
        with self._slot_filled:
            self._stopping = True
            self._slot_filled.notify_all()
        with self._flight_changed:
            if self._flight is not None:
                self._finish_early(self._flight, StopReason.CANCELLED)
            self._flight_changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def next_seq(self) -> int:
        """Counts a received frame and gives its number."""
        self.counters.received += 1
        return self.counters.received

    def submit(self, frame: Frame) -> None:
        """Puts a frame into the slot; one that still waits there is replaced and counted."""
        with self._slot_filled:
            replaced = self._slot is not None
            self._slot = frame
            self._slot_filled.notify()
        if replaced:
            # Expected whenever the camera is faster than the ladder: counted, not reported.
            self.counters.dropped['replaced'] += 1

    def drop(self, kind: str, message: str) -> None:
        """Counts a frame that cannot be served and tells the sink."""
        self.counters.dropped[kind] += 1
        self._sink.on_fault(kind, message)

    def expected_stage_s(self, stage: int) -> float:
        """Time that stage `stage` (0-based) is expected to take now, without margin; seconds."""
        return self._reference_s[stage] * self.slowdown.slowdown

    def _work(self) -> None:
        while True:
            with self._slot_filled:
                self._slot_filled.wait_for(lambda: self._stopping or self._slot is not None)
                if self._stopping or self._slot is None:
                    return
                frame, self._slot = self._slot, None
            try:
                self._serve(frame)
            except ImageError as error:
                self.drop(error.kind, str(error))
            except EngineError as error:
                self.drop('engine_error', str(error))
            except MissingDependencyError as error:
                self.drop('missing_dependency', str(error))
            except Exception:  # noqa: BLE001 - the worker must outlive any one frame
                self.drop('internal_error', traceback.format_exc())
            finally:
                with self._flight_changed:
                    self._flight = None

    def _serve(self, frame: Frame) -> None:
        flight = _Flight(frame, started_s=monotonic())
        age_s = frame.age_at_receipt_s + flight.started_s - frame.received_s
        waited_s = flight.started_s - frame.received_s
        # The age is NaN where the stamp says nothing; the wait is always known.
        if age_s > self.max_frame_age_s or waited_s > self.max_frame_age_s:
            old = '' if isnan(age_s) else f'was {age_s:.3f} s old and '
            self.drop(
                'stale',
                f'when its turn came the frame {old}had waited {waited_s:.3f} s, more than the '
                f'{self.max_frame_age_s:.3f} s of '
                'max_frame_age_ms: lower deadline_ms, so that frames wait less, or raise it',
            )
            return
        image, color_order = frame.decode()
        self._path.begin(image, color_order)
        self._path.fit(0)
        flight.preprocess_s = monotonic() - flight.started_s
        with self._flight_changed:
            if self._stopping:
                self.counters.dropped['cancelled'] += 1
                return
            self._flight = flight
        margin = self.slowdown.margin(self.goals.miss_rate_target)
        for stage in range(self._path.num_stages):
            if not self._run_stage(flight, stage, margin):
                break
        if flight.answer is None:
            # Only a stop cuts the mandatory first stage: nobody is there to be told.
            self.counters.dropped['cancelled'] += 1
            return
        if not flight.answered:
            # Its answer could not be published; it was counted where that failed.
            return
        try:
            self._sink.on_frame(self._summary(flight, image, color_order, margin))
        except Exception:  # noqa: BLE001 - the frame is answered; its report is not worth a thread
            self._sink.on_fault('internal_error', traceback.format_exc())

    def _run_stage(self, flight: _Flight, stage: int, margin: float) -> bool:
        """Runs one stage and publishes its answer; True if the next one is to follow."""
        with self._flight_changed:
            if flight.finished:
                return False
            token = flight.token = self._path.engine.new_token()
        start_s = monotonic()
        try:
            judgement = self._path.run_stage(stage, token)
        except StageCancelledError:
            cut_s = monotonic() - start_s
            flight.infer_s += cut_s
            self.slowdown.observe_at_least(cut_s / self._reference_s[stage])
            return False
        except Exception as error:
            if flight.answer is None:
                raise
            # The stages before have answered: that answer stands, and the fault is told.
            if isinstance(error, EngineError):
                self._sink.on_fault('engine_error', str(error))
            else:
                self._sink.on_fault('internal_error', traceback.format_exc())
            with self._flight_changed:
                self._finish_early(flight, StopReason.CANCELLED)
            return False
        end_s = monotonic()
        flight.infer_s += end_s - start_s
        self.slowdown.observe((end_s - start_s) / self._reference_s[stage])
        last = stage + 1 == self._path.num_stages
        reason = plan(
            NextStage(
                answer=judgement.newest,
                num_stages=self._path.num_stages,
                time_left_s=flight.frame.due_s - end_s - self._publish_s,
                expected_s=0.0 if last else self.expected_stage_s(stage + 1) * margin,
            ),
            self.goals,
        )
        with self._flight_changed:
            if flight.finished:
                return False
            is_first = flight.answer is None
            flight.judgement, flight.answer = judgement, judgement.answer
            if reason is StopReason.NONE:
                try:
                    self._publish(flight, StopReason.NONE)
                except Exception:  # noqa: BLE001 - the next stage or the final answer may get out
                    self._sink.on_fault('internal_error', traceback.format_exc())
                if is_first:
                    # The timer starts with the first answer; later ones do not move the deadline.
                    self._flight_changed.notify_all()
                return True
            self._finish(flight, reason)
            return False

    def _keep_deadlines(self) -> None:
        """Publishes the best answer so far when the deadline comes while a stage still runs."""
        with self._flight_changed:
            while not self._stopping:
                flight = self._flight
                if flight is None or flight.finished or flight.answer is None:
                    self._flight_changed.wait()
                    continue
                left_s = flight.frame.due_s - self._publish_s - monotonic()
                if left_s > 0:
                    self._flight_changed.wait(left_s)
                else:
                    self._finish_early(flight, StopReason.DEADLINE)

    def _finish_early(self, flight: _Flight, reason: StopReason) -> None:
        """Ends a flight from outside the worker. The first stage is mandatory except at a stop."""
        if flight.finished:
            return
        flight.finished = True
        try:
            if flight.answer is not None:
                self._finish(flight, reason)
        except Exception:  # noqa: BLE001 - timer, worker and stop must outlive any one frame
            self.drop('internal_error', traceback.format_exc())
        finally:
            # Only now: the worker sums the frame up as soon as its stage is cancelled.
            if flight.token is not None:
                flight.token.cancel()

    def _finish(self, flight: _Flight, reason: StopReason) -> None:
        flight.finished = True
        flight.stop_reason = reason
        try:
            self._publish(flight, reason)
            flight.answered = True
            self.counters.answered += 1
        finally:
            flight.finished_s = monotonic()
            self.counters.missed += flight.finished_s > flight.frame.due_s

    def _publish(self, flight: _Flight, reason: StopReason) -> None:
        is_final = reason is not StopReason.NONE
        judgement = flight.judgement
        if judgement is None or not (is_final or self.publish_intermediate):
            return
        frame = flight.frame
        start_s = monotonic()
        accuracy = judgement.expected_accuracy
        after = judgement.expected_later[0] if judgement.expected_later else accuracy
        self._sink.on_prediction(
            Prediction(
                frame=frame,
                answer=judgement.answer,
                num_stages=self._path.num_stages,
                is_final=is_final,
                stop_reason=reason,
                expected_accuracy=accuracy,
                expected_gain=after - accuracy,
                elapsed_s=start_s - frame.received_s,
                age_s=frame.age_at_receipt_s + start_s - frame.received_s,
                slack_s=frame.due_s - start_s,
            )
        )
        took_s = monotonic() - start_s
        flight.publish_s += took_s
        self._publish_s += PUBLISH_SMOOTHING * (took_s - self._publish_s)

    def _summary(
        self, flight: _Flight, image: NDArray[np.uint8], color_order: ColorOrder, margin: float
    ) -> FrameSummary:
        frame = flight.frame
        assert flight.answer is not None
        return FrameSummary(
            frame=frame,
            image=image,
            color_order=color_order,
            answer=flight.answer,
            stages_run=flight.answer.stage,
            stop_reason=flight.stop_reason,
            queue_s=flight.started_s - frame.received_s,
            preprocess_s=flight.preprocess_s,
            infer_s=flight.infer_s,
            publish_s=flight.publish_s,
            total_s=flight.finished_s - frame.received_s,
            age_s=frame.age_at_receipt_s + flight.finished_s - frame.received_s,
            slack_s=frame.due_s - flight.finished_s,
            deadline_missed=flight.finished_s > frame.due_s,
            slowdown=self.slowdown.slowdown,
            margin=margin,
        )
