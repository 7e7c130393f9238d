"""One frame against one deadline: newest-frame slot, worker thread, publish timer, cancel."""

from __future__ import annotations

import gc
import threading
import traceback
from dataclasses import dataclass, replace
from math import inf, isnan, nan
from time import monotonic

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import CancelToken, StageCancelledError
from anytime_dnn_ros.errors import EngineError, ImageError, MissingDependencyError
from anytime_dnn_ros.frames import Counters, Frame, FrameSummary, Prediction, Sink
from anytime_dnn_ros.ladder.frame_fit import ColorOrder
from anytime_dnn_ros.planner import Policy, Situation, StopReason
from anytime_dnn_ros.quality.drift import Drift
from anytime_dnn_ros.quality.forecast import Forecaster
from anytime_dnn_ros.quality.judge import Judgement
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.realtime import (
    REFUSED_PRIORITY,
    take_realtime_priority,
    take_timer_priority,
)


@dataclass
class _Flight:
    """The frame being served.

    Attributes:
        budget_s: As the frame's; may become less while it is served.
        due_s: Likewise, when the answer is due.
        armed_s: Since when the timer can have known its present instant.
    """

    frame: Frame
    started_s: float
    budget_s: float
    due_s: float
    armed_s: float
    judgement: Judgement | None = None
    token: CancelToken | None = None
    finished: bool = False
    answered: bool = False
    stop_reason: StopReason = StopReason.NONE
    preprocess_s: float = 0.0
    infer_s: float = 0.0
    publish_s: float = 0.0
    finished_s: float = 0.0
    cut_to_result_s: float = nan


class Runner:
    """Serves the newest frame, refines until its deadline, and always answers.

    Args:
        path: The loaded ladder.
        policy: Decides after each stage; called by one thread at a time.
        sink: Where results go.
        max_frame_age_s: Frames older than this when their turn comes are dropped.
        publish_intermediate: Whether answers that are not final go to the sink.
        realtime_priority: Of the worker, 1..99, and one more of the timer; 0 leaves them as they
            are. One that the system refuses is told to the sink, once.
    """

    def __init__(
        self,
        path: ServingPath,
        policy: Policy,
        sink: Sink,
        *,
        max_frame_age_s: float = 1.0,
        publish_intermediate: bool = True,
        realtime_priority: int = 0,
    ) -> None:
        self.max_frame_age_s = max_frame_age_s
        self.publish_intermediate = publish_intermediate
        self.counters = Counters()
        self.drift = Drift(path.bundle.quality)
        self._realtime_priority = realtime_priority
        self._path = path
        self._policy = policy
        self._sink = sink
        self._forecaster = Forecaster()
        self._stopping = False
        self._slot: Frame | None = None
        self._slot_filled = threading.Condition()
        self._flight: _Flight | None = None
        # Guards the flight, the policy and the order of what is published.
        self._flight_changed = threading.Condition()
        # The instant that the timer waits for.
        self._timer_s = inf
        self._threads = [
            threading.Thread(target=self._work, name='anytime-worker', daemon=True),
            threading.Thread(target=self._keep_deadlines, name='anytime-deadline', daemon=True),
        ]

    def start(self) -> None:
        """Starts the worker and the publish timer."""
        # A full collection looks at everything that was ever imported, 80 ms and more, with the
        # interpreter held. What is there now stays: it need not be looked at again.
        gc.collect()
        gc.freeze()
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Cancels the frame in flight, publishes its best answer, and ends both threads."""
        with self._slot_filled:
            self._stopping = True
            self._slot_filled.notify_all()
        with self._flight_changed:
            if self._flight is not None:
                self._finish_early(self._flight, StopReason.CANCELLED, monotonic())
            self._flight_changed.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        gc.unfreeze()

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

    def shorten(self, budget_s: float) -> None:
        """Brings the deadline of the frame in flight and of the one that waits nearer.

        Args:
            budget_s: As `Frame.budget_s`; a longer one than a frame has changes nothing.
        """
        with self._slot_filled:
            waiting = self._slot
            if waiting is not None and budget_s < waiting.budget_s:
                due_s = waiting.due_s + budget_s - waiting.budget_s
                self._slot = replace(waiting, budget_s=budget_s, due_s=due_s)
        with self._flight_changed:
            flight = self._flight
            if flight is not None and not flight.finished and budget_s < flight.budget_s:
                flight.due_s += budget_s - flight.budget_s
                flight.budget_s = budget_s
                self._arm(flight, monotonic())

    def observe_load(self, load: LoadSignal | None) -> None:
        """Takes the monitor's word; None: it is silent."""
        with self._flight_changed:
            self._policy.observe_load(load)

    def _work(self) -> None:
        # Its refusal is the timer's too, which tells it.
        take_realtime_priority(self._realtime_priority)
        while True:
            with self._slot_filled:
                self._slot_filled.wait_for(lambda: self._stopping or self._slot is not None)
                if self._stopping or self._slot is None:
                    return
                frame, self._slot = self._slot, None
                now_s = monotonic()
                flight = _Flight(frame, now_s, frame.budget_s, frame.due_s, armed_s=now_s)
                # Together with the slot: who shortens deadlines finds the frame in one of them.
                with self._flight_changed:
                    self._flight = flight
            try:
                self._serve(flight)
            except ImageError as error:
                self._refuse(flight, error.kind, str(error))
            except EngineError as error:
                self._refuse(flight, 'engine_error', str(error))
            except MissingDependencyError as error:
                self._refuse(flight, 'missing_dependency', str(error))
            except Exception:  # noqa: BLE001 - the worker must outlive any one frame
                self._refuse(flight, 'internal_error', traceback.format_exc())
            finally:
                with self._flight_changed:
                    self._flight = None

    def _refuse(self, flight: _Flight, kind: str, message: str) -> None:
        with self._flight_changed:
            flight.finished = True
        if flight.answered:
            # By a forecast, meanwhile.
            self._sink.on_fault(kind, message)
        else:
            self.drop(kind, message)

    def _serve(self, flight: _Flight) -> None:
        if not self._begin(flight):
            return
        image, color_order = flight.frame.decode()
        self._path.begin(image, color_order)
        self._path.fit(0)
        flight.preprocess_s = monotonic() - flight.started_s
        for stage in range(self._path.num_stages):
            if not self._run_stage(flight, stage):
                break
        if flight.judgement is None:
            # Only a stop cuts the mandatory first stage: nobody is there to be told.
            self.counters.dropped['cancelled'] += 1
            return
        if not flight.answered:
            # Its answer could not be published; it was counted where that failed.
            return
        try:
            self._sink.on_frame(self._summary(flight, image, color_order))
        except Exception:  # noqa: BLE001 - the frame is answered; its report is not worth a thread
            self._sink.on_fault('internal_error', traceback.format_exc())

    def _begin(self, flight: _Flight) -> bool:
        """Whether the frame is to be served; one too old is dropped and gets a forecast."""
        frame, now_s = flight.frame, flight.started_s
        waited_s = now_s - frame.received_s
        age_s = frame.age_at_receipt_s + waited_s
        # The age is NaN where the stamp says nothing; the wait is always known.
        is_old = age_s > self.max_frame_age_s or waited_s > self.max_frame_age_s
        with self._flight_changed:
            # The timer may have been quicker: then the frame has its forecast already.
            if flight.finished or not is_old:
                left_s = flight.due_s - now_s
                self._policy.plan(Situation(0, self._path.num_stages, left_s, None))
                self._arm(flight, now_s)
                return True
            flight.finished = True
            flight.judgement = self._forecast(frame)
            self._publish(flight, StopReason.STALE)
        old = '' if isnan(age_s) else f'was {age_s:.3f} s old and '
        self.drop(
            'stale',
            f'when its turn came the frame {old}had waited {waited_s:.3f} s, more than the '
            f'{self.max_frame_age_s:.3f} s of '
            'max_frame_age_ms: lower deadline_ms, so that frames wait less, or raise it',
        )
        return False

    def _run_stage(self, flight: _Flight, stage: int) -> bool:
        """Runs one stage and publishes its answer; True if the next one is to follow."""
        with self._flight_changed:
            # A forecast is no reason to leave the first stage out: the next one comes from it.
            if flight.finished and (stage or self._stopping):
                return False
            token = flight.token = self._path.engine.new_token()
        start_s = monotonic()
        try:
            judgement = self._path.run_stage(stage, token)
        except StageCancelledError:
            self._observe(flight, stage, monotonic() - start_s, finished=False)
            return False
        except Exception as error:
            if flight.judgement is None:
                raise
            # The stages before have answered: that answer stands, and the fault is told.
            if isinstance(error, EngineError):
                self._sink.on_fault('engine_error', str(error))
            else:
                self._sink.on_fault('internal_error', traceback.format_exc())
            with self._flight_changed:
                self._finish_early(flight, StopReason.CANCELLED, monotonic())
            return False
        end_s = monotonic()
        self._observe(flight, stage, end_s - start_s, finished=True)
        self.drift.observe(judgement.newest)
        with self._flight_changed:
            if flight.finished:
                if stage == 0:
                    self._forecaster.observe(judgement, flight.frame.received_s)
                return False
            flight.judgement = judgement
            reason = self._policy.plan(
                Situation(
                    stage=stage + 1,
                    num_stages=self._path.num_stages,
                    time_left_s=flight.due_s - end_s,
                    judgement=judgement,
                    newer_waits=self._slot is not None,
                )
            )
            if reason is not StopReason.NONE:
                self._finish(flight, reason)
                self._policy.observe_publish(flight.finished_s - end_s, by_timer=False)
                return False
            self._publish_intermediate(flight)
            self._arm(flight, monotonic())
            return True

    def _publish_intermediate(self, flight: _Flight) -> None:
        if not self.publish_intermediate:
            return
        begun_s = monotonic()
        try:
            self._publish(flight, StopReason.NONE)
        except Exception:  # noqa: BLE001 - the next stage or the final answer may get out
            self._sink.on_fault('internal_error', traceback.format_exc())
        else:
            self._policy.observe_publish(monotonic() - begun_s, by_timer=False)

    def _observe(self, flight: _Flight, stage: int, took_s: float, *, finished: bool) -> None:
        with self._flight_changed:
            flight.infer_s += took_s
            self._policy.observe_stage(stage, took_s, finished=finished)

    def _arm(self, flight: _Flight, now_s: float) -> None:
        """The timer's instant may have moved; it is woken only to wait less."""
        flight.armed_s = now_s
        if self._instant_s(flight) < self._timer_s:
            self._flight_changed.notify_all()

    def _instant_s(self, flight: _Flight | None) -> float:
        """When the timer has to publish what there is; inf where it has nothing to do."""
        if flight is None or flight.finished:
            return inf
        if flight.judgement is None and not self._forecaster.has_answer:
            return inf
        return flight.due_s - self._policy.lead_s()

    def _keep_deadlines(self) -> None:
        """Publishes the best answer so far when the deadline comes while a stage still runs."""
        if refusal := take_timer_priority(self._realtime_priority):
            self._sink.on_fault(REFUSED_PRIORITY, refusal)
        with self._flight_changed:
            while not self._stopping:
                flight = self._flight
                instant_s = self._instant_s(flight)
                left_s = instant_s - monotonic()
                if flight is not None and left_s <= 0:
                    self._finish_early(flight, StopReason.DEADLINE, instant_s)
                    continue
                self._timer_s = instant_s
                self._flight_changed.wait(None if left_s == inf else left_s)

    def _finish_early(self, flight: _Flight, reason: StopReason, instant_s: float) -> None:
        """Ends a flight from outside the worker.

        The first stage is mandatory except at a stop: until it is done, a forecast answers.
        `instant_s` is when this was to happen.
        """
        if flight.finished:
            return
        flight.finished = True
        may_cancel = flight.judgement is not None or self._stopping
        try:
            if flight.judgement is None and not self._stopping:
                flight.judgement = self._forecast(flight.frame)
                reason = StopReason.FORECAST
            if flight.judgement is not None:
                self._finish(flight, reason)
                # An instant that was past when it was set is no lateness of the timer.
                flight.cut_to_result_s = flight.finished_s - max(instant_s, flight.armed_s)
                if reason is not StopReason.CANCELLED:
                    self._policy.observe_publish(flight.cut_to_result_s, by_timer=True)
        except Exception:  # noqa: BLE001 - timer, worker and stop must outlive any one frame
            self.drop('internal_error', traceback.format_exc())
        finally:
            # Only now: the worker sums the frame up as soon as its stage is cancelled.
            if flight.token is not None and may_cancel:
                flight.token.cancel()

    def _forecast(self, frame: Frame) -> Judgement | None:
        return self._forecaster.forecast(frame.received_s, self._path.num_stages)

    def _finish(self, flight: _Flight, reason: StopReason) -> None:
        assert flight.judgement is not None
        flight.finished = True
        flight.stop_reason = reason
        is_forecast = reason is StopReason.FORECAST
        try:
            self._publish(flight, reason)
            flight.answered = True
            self.counters.answered += 1
            self.counters.forecast += is_forecast
        finally:
            flight.finished_s = monotonic()
            missed = flight.finished_s > flight.due_s
            self.counters.missed += missed
            expected = flight.judgement.expected_accuracy
            # A forecast keeps the deadline, but no stage did.
            failed = missed or is_forecast
            self._policy.observe_frame(missed=failed, expected_accuracy=expected)
            if not is_forecast:
                self._forecaster.observe(flight.judgement, flight.frame.received_s)

    def _publish(self, flight: _Flight, reason: StopReason) -> None:
        if flight.judgement is None:
            return
        frame = flight.frame
        start_s = monotonic()
        self._sink.on_prediction(
            Prediction(
                frame=frame,
                judgement=flight.judgement,
                num_stages=self._path.num_stages,
                is_final=reason is not StopReason.NONE,
                stop_reason=reason,
                budget_s=flight.budget_s,
                elapsed_s=start_s - frame.received_s,
                age_s=frame.age_at_receipt_s + start_s - frame.received_s,
                slack_s=flight.due_s - start_s,
            )
        )
        flight.publish_s += monotonic() - start_s

    def _summary(
        self, flight: _Flight, image: NDArray[np.uint8], color_order: ColorOrder
    ) -> FrameSummary:
        frame = flight.frame
        assert flight.judgement is not None
        return FrameSummary(
            frame=frame,
            image=image,
            color_order=color_order,
            judgement=flight.judgement,
            stop_reason=flight.stop_reason,
            budget_s=flight.budget_s,
            queue_s=flight.started_s - frame.received_s,
            preprocess_s=flight.preprocess_s,
            infer_s=flight.infer_s,
            publish_s=flight.publish_s,
            total_s=flight.finished_s - frame.received_s,
            age_s=frame.age_at_receipt_s + flight.finished_s - frame.received_s,
            slack_s=flight.due_s - flight.finished_s,
            cut_to_result_s=flight.cut_to_result_s,
            deadline_missed=flight.finished_s > flight.due_s,
            slowdown=self._policy.slowdown,
            margin=self._policy.margin,
        )
