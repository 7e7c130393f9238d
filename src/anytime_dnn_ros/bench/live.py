"""Frames through the real runner, at a camera's rate, under real load."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, nan
from random import Random
from time import monotonic, perf_counter, sleep

from anytime_dnn_ros.bench.film import Film
from anytime_dnn_ros.bench.load import LoadPlan, LoadWorkers
from anytime_dnn_ros.bench.machine import (
    EnergyMeter,
    LoadWatch,
    TimerLateness,
    energy_counters,
)
from anytime_dnn_ros.bench.outcome import REPLACED, FrameOutcome, Pass, Published
from anytime_dnn_ros.bench.policies import Ladder, Static, make_policy
from anytime_dnn_ros.bench.replay import publishes_intermediate
from anytime_dnn_ros.bench.trace import FrameTrace, Judged, Recording
from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.frames import Frame, FrameSummary, Prediction
from anytime_dnn_ros.planner import Goals, Policy, Situation, StopReason
from anytime_dnn_ros.quality.judge import Judgement
from anytime_dnn_ros.runner import Runner
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.realtime import REFUSED_PRIORITY

# What is under way when the last frame was sent is waited for so long.
DRAIN_S = 5.0
# A stage that takes longer than this is no stage: the recording ends with an error.
MOST_PER_FRAME_S = 60.0
FOREVER_S = 3600.0


@dataclass(frozen=True)
class Bench:
    """What all passes have in common.

    Attributes:
        path: The loaded ladder.
        ladder: What policies know from the start.
        film: The frames.
        rate_hz: Of the camera.
        count: Frames of a pass.
        workers: They make the load.
        report: Told in one sentence of what does not work.
        realtime_priority: Of the threads that answer, as for `Runner`.
    """

    path: ServingPath
    ladder: Ladder
    film: Film
    rate_hz: float
    count: int
    workers: LoadWorkers
    report: Callable[[str], None] = print
    realtime_priority: int = 0

    @property
    def length_s(self) -> float:
        """Length of a pass, seconds."""
        return self.count / self.rate_hz


class Witness:
    """Any policy, with a note of everything that it is told and of how long it thinks."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self.decision_s: list[float] = []
        self.stage_s: list[float] = []
        self.judgements: list[Judgement] = []

    @property
    def slowdown(self) -> float:
        """The policy's own."""
        return self._policy.slowdown

    @property
    def margin(self) -> float:
        """The policy's own."""
        return self._policy.margin

    def plan(self, situation: Situation) -> StopReason:
        """Asks the policy; see `Policy`."""
        if situation.judgement is not None:
            self.judgements.append(situation.judgement)
        begun_s = perf_counter()
        reason = self._policy.plan(situation)
        self.decision_s.append(perf_counter() - begun_s)
        return reason

    def observe_stage(self, stage: int, took_s: float, *, finished: bool) -> None:
        """Tells the policy; see `Policy`."""
        self.stage_s.append(took_s)
        self._policy.observe_stage(stage, took_s, finished=finished)

    def lead_s(self) -> float:
        """The policy's own."""
        return self._policy.lead_s()

    def observe_publish(self, took_s: float, *, by_timer: bool) -> None:
        """Tells the policy; see `Policy`."""
        self._policy.observe_publish(took_s, by_timer=by_timer)

    def observe_frame(self, *, missed: bool, expected_accuracy: float) -> None:
        """Tells the policy; see `Policy`."""
        self._policy.observe_frame(missed=missed, expected_accuracy=expected_accuracy)

    def observe_load(self, load: LoadSignal | None) -> None:
        """Tells the policy; see `Policy`."""
        self._policy.observe_load(load)

    def forget(self) -> None:
        """Begins a new note."""
        self.stage_s.clear()
        self.judgements.clear()


@dataclass
class _Collector:
    """The runner's sink: keeps what comes, by the number of the frame."""

    report: Callable[[str], None]
    published: dict[int, list[tuple[Published, bool]]] = field(default_factory=dict)
    summaries: dict[int, FrameSummary] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def on_prediction(self, prediction: Prediction) -> None:
        answer = prediction.answer
        now_s = monotonic()
        item = Published(
            now_s,
            answer.stage,
            int(answer.probabilities.argmax()),
            prediction.judgement.expected_accuracy,
        )
        self.published.setdefault(prediction.frame.seq, []).append((item, prediction.is_final))

    def on_frame(self, summary: FrameSummary) -> None:
        # The picture is in the film already: not to be kept a second time.
        with self.changed:
            self.summaries[summary.frame.seq] = summary
            self.changed.notify_all()

    def on_fault(self, kind: str, message: str) -> None:
        if kind == REFUSED_PRIORITY:
            # No fault of a frame: the run goes on without, and says so.
            self.report(message)
            return
        with self.changed:
            self.faults.append((kind, message))
            self.changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        with self.changed:
            return self.changed.wait_for(condition, timeout_s)


def run_pass(bench: Bench, plan: LoadPlan, deadline_ms: float, name: str, goals: Goals) -> Pass:
    """One policy against one deadline under one load.

    Args:
        bench: What all passes have in common.
        plan: The load.
        deadline_ms: From a frame's arrival to its answer.
        name: Of the policy; not the oracle.
        goals: What the user asks for.

    Raises:
        AnytimeError: A worker of the load ended, or the ladder failed.
    """
    policy = Witness(make_policy(name, bench.ladder, goals))
    sink = _Collector(bench.report)
    runner = Runner(
        bench.path,
        policy,
        sink,
        max_frame_age_s=inf,
        publish_intermediate=publishes_intermediate(name),
        realtime_priority=bench.realtime_priority,
    )
    energy = EnergyMeter(energy_counters())
    sent: list[Frame] = []
    runner.start()
    try:
        with LoadWatch(
            lambda _, load: runner.observe_load(load), bench.report, bench.realtime_priority
        ):
            begin_s = monotonic()
            for index in range(bench.count):
                arrival_s = index / bench.rate_hz
                bench.workers.tell(plan.commands[plan.index(arrival_s)])
                sleep(max(0.0, begin_s + arrival_s - monotonic()))
                frame = _frame(bench.film, runner.next_seq(), index, deadline_ms / 1e3)
                sent.append(frame)
                runner.submit(frame)
            last = sent[-1].seq
            sink.wait_for(lambda: last in sink.summaries or bool(sink.faults), DRAIN_S)
    finally:
        runner.stop()
        bench.workers.quiet()
    if sink.faults:
        kind, message = sink.faults[0]
        raise AnytimeError(f'{len(sink.faults)} frames failed, the first with {kind}: {message}')
    return Pass(
        load=plan.name,
        deadline_ms=deadline_ms,
        policy=name,
        frames=tuple(_outcome(bench.film, frame, sink, begin_s) for frame in sent),
        onset_s=plan.onset_s,
        loaded_s=plan.loaded_s,
        energy_j=energy.joules(),
        decision_s=tuple(policy.decision_s),
    )


def record_pass(
    bench: Bench, plan: LoadPlan, *, count: int | None = None, seed: int = 0
) -> Recording:
    """Every frame through all stages with no deadline, one after the other.

    The camera waits where the ladder is slower; load and monitor then keep to the camera's time.

    Args:
        bench: What all passes have in common.
        plan: The load.
        count: How many frames; None = those of a pass.
        seed: For the moments whose timer is timed.

    Raises:
        AnytimeError: A worker of the load ended, or the ladder failed.
    """
    policy = Witness(Static(bench.ladder.num_stages))
    sink = _Collector(bench.report)
    runner = Runner(
        bench.path,
        policy,
        sink,
        max_frame_age_s=inf,
        realtime_priority=bench.realtime_priority,
    )
    loads: list[tuple[float, LoadSignal]] = []
    frames: list[FrameTrace] = []
    random = Random(seed)  # noqa: S311 - moments, not secrets
    # While a frame is served, as in the run that is replayed.
    serving_s = float(bench.ladder.reference.median_s.sum())
    runner.start()
    try:
        with (
            TimerLateness(bench.realtime_priority) as timer,
            LoadWatch(
                lambda at_s, load: loads.append((at_s, load)),
                bench.report,
                bench.realtime_priority,
            ),
        ):
            # The moment that the camera's time counts from; later for a ladder that is behind.
            begin_s = monotonic()
            heard: list[tuple[float, LoadSignal | None]] = []
            for index in range(count or bench.count):
                arrival_s = index / bench.rate_hz
                bench.workers.tell(plan.commands[plan.index(arrival_s)])
                left_s = begin_s + arrival_s - monotonic()
                sleep(max(0.0, left_s))
                begin_s += max(0.0, -left_s)
                while loads:
                    at_s, load = loads.pop(0)
                    heard.append((min(max(0.0, at_s - begin_s), arrival_s), load))
                policy.forget()
                frame = _frame(bench.film, runner.next_seq(), index, FOREVER_S)
                timer.arm(frame.received_s + random.random() * serving_s)
                runner.submit(frame)
                summary = _summary_of(frame, sink)
                frames.append(
                    _trace(
                        arrival_s,
                        summary,
                        policy,
                        timer.late_s(),
                        bench.film.labels[index % len(bench.film)],
                    )
                )
    finally:
        runner.stop()
        bench.workers.quiet()
    manifest = bench.path.bundle.manifest
    return Recording(
        bundle=manifest.name,
        num_classes=manifest.num_classes,
        load=plan.name,
        onset_s=plan.onset_s,
        loaded_s=plan.loaded_s,
        rate_hz=bench.rate_hz,
        ladder=bench.ladder,
        frames=tuple(frames),
        loads=tuple(sorted(heard, key=lambda load: load[0])),
        note=bench.film.data,
    )


def _frame(film: Film, seq: int, index: int, budget_s: float) -> Frame:
    image = film.frames[index % len(film)]
    now_s = monotonic()
    return Frame(
        seq=seq,
        decode=lambda: (image, film.color_order),
        received_s=now_s,
        age_at_receipt_s=0.0,
        budget_s=budget_s,
        due_s=now_s + budget_s,
    )


def _outcome(film: Film, frame: Frame, sink: _Collector, begin_s: float) -> FrameOutcome:
    published = sink.published.get(frame.seq, [])
    summary = sink.summaries.get(frame.seq)
    shifted = tuple(
        Published(p.at_s - begin_s, p.stage, p.named, p.declared) for p, _ in published
    )
    return FrameOutcome(
        arrival_s=frame.received_s - begin_s,
        due_s=frame.due_s - begin_s,
        label=film.labels[(frame.seq - 1) % len(film)],
        published=shifted,
        answered=bool(published) and published[-1][1],
        # A frame of which nothing was heard was replaced in the slot.
        dropped='' if published or summary else REPLACED,
        cut_to_result_s=nan if summary is None else summary.cut_to_result_s,
    )


def _summary_of(frame: Frame, sink: _Collector) -> FrameSummary:
    done = sink.wait_for(
        lambda: frame.seq in sink.summaries or bool(sink.faults), MOST_PER_FRAME_S
    )
    if sink.faults:
        kind, message = sink.faults[0]
        raise AnytimeError(f'a frame failed with {kind}: {message}')
    if not done:
        raise AnytimeError(
            f'a frame took more than {MOST_PER_FRAME_S:g} s; give the machine less other work'
        )
    return sink.summaries.pop(frame.seq)


def _trace(
    arrival_s: float, summary: FrameSummary, policy: Witness, late_s: float, label: int
) -> FrameTrace:
    judged = tuple(
        Judged(
            named=int(j.answer.probabilities.argmax()),
            confidence=j.answer.confidence,
            newest_named=int(j.newest.probabilities.argmax()),
            newest_confidence=j.newest.confidence,
            expected_accuracy=j.expected_accuracy,
            expected_later=tuple(j.expected_later),
        )
        for j in policy.judgements
    )
    return FrameTrace(
        arrival_s=arrival_s,
        fit_s=summary.preprocess_s,
        stage_s=tuple(policy.stage_s),
        publish_s=summary.publish_s / len(judged),
        timer_late_s=late_s,
        label=label,
        judged=judged,
    )
