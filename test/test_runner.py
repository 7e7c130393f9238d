"""The runner with a real small ladder; what must happen first is held by events, not by sleep."""

import math
import threading
from collections import Counter
from time import monotonic

import numpy as np
import pytest

from anytime_dnn_ros.engines.base import StageCancelledError
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import EngineError, ImageError
from anytime_dnn_ros.frames import Frame
from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.planner import Goals, Planner, StopReason
from anytime_dnn_ros.runner import Runner
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.reference import ReferenceTimes
from ladders import LABELS, make_ladder, solid

WAIT_S = 30.0
FOREVER_S = 3600.0
# Short, so that the planner starts any stage that has any time left.
STAGE_S = 1e-4
# A last stage of about 200 ms, far longer than the runner needs to react.
SLOW = (1, 6000)


class Collector:
    """A sink that keeps what it gets, and lets a test wait for it."""

    def __init__(self):
        self.predictions, self.summaries, self.faults = [], [], []
        self._changed = threading.Condition()

    def on_prediction(self, prediction):
        self._keep(self.predictions, prediction)

    def on_frame(self, summary):
        self._keep(self.summaries, summary)

    def on_fault(self, kind, message):
        self._keep(self.faults, (kind, message))

    def _keep(self, where, what):
        with self._changed:
            where.append(what)
            self._changed.notify_all()

    def wait_for(self, condition):
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_S), 'the runner did not get there'

    def wait_for_frames(self, count):
        self.wait_for(lambda: len(self.summaries) >= count)


class WatchedEngine:
    """A real engine that notes what became of each stage run, and fails where it is told to."""

    def __init__(self, engine):
        self._engine = engine
        self.outcomes = []
        self.running = threading.Event()
        self.failing_stage = None
        self.before_stage_ends = None

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def run_stage(self, stage, token):
        if stage == self.failing_stage:
            raise EngineError(f'stage {stage} is broken')
        if stage == 1:
            self.running.set()
        try:
            logits = self._engine.run_stage(stage, token)
        except StageCancelledError:
            self.outcomes.append((stage, 'cancelled'))
            raise
        self.outcomes.append((stage, 'ran'))
        if stage == 1 and self.before_stage_ends is not None:
            self.before_stage_ends()
        return logits


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('runner') / 'colours')


@pytest.fixture(scope='module')
def slow_bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('runner') / 'slow', convolutions=SLOW)


@pytest.fixture
def start():
    """Starts a runner on a bundle; gives the runner, its sink and its engine."""
    runners = []

    def start(bundle, *, stage_s=STAGE_S, **options):
        engine = WatchedEngine(load_engine(bundle))
        sink = Collector()
        reference = ReferenceTimes(np.full((2, engine.num_stages), stage_s))
        planner = Planner(reference, [1e6] * engine.num_stages)
        runner = Runner(ServingPath(bundle, engine), planner, sink, **options)
        runner.start()
        runner.planner = planner
        runners.append(runner)
        return runner, sink, engine

    yield start
    for runner in runners:
        runner.stop()


def submit(runner, color='red', *, budget_s=FOREVER_S, age_s=0.0, decode=None):
    now_s = monotonic()
    image = solid(color)
    frame = Frame(
        seq=runner.next_seq(),
        decode=decode or (lambda: (image, 'rgb')),
        received_s=now_s,
        age_at_receipt_s=age_s,
        budget_s=budget_s,
        due_s=now_s + budget_s - age_s,
        header=f'header of {color}',
    )
    runner.submit(frame)
    return frame


class Gate:
    """A frame whose decoding waits: it holds the worker where a test wants it."""

    def __init__(self):
        self.reached, self.open = threading.Event(), threading.Event()

    def __call__(self):
        self.reached.set()
        assert self.open.wait(WAIT_S)
        return solid('green'), 'rgb'


def label(answer):
    return LABELS[answer.probabilities.argmax()]


def test_a_frame_is_refined_stage_by_stage_and_ends_with_one_final(bundle, start):
    runner, sink, _ = start(bundle)
    frame = submit(runner, 'blue', age_s=0.25)
    sink.wait_for_frames(1)
    assert [p.answer.stage for p in sink.predictions] == [1, 2, 3]
    assert [p.is_final for p in sink.predictions] == [False, False, True]
    assert [p.stop_reason for p in sink.predictions] == [0, 0, StopReason.FINISHED]
    assert {label(p.answer) for p in sink.predictions} == {'blue'}
    assert {p.num_stages for p in sink.predictions} == {3}
    assert [p.judgement.expected_accuracy for p in sink.predictions] == pytest.approx(
        [0.5, 0.6, 0.7]
    )
    assert [p.expected_gain for p in sink.predictions] == pytest.approx([0.1, 0.1, 0.0])
    for p in sink.predictions:
        assert p.frame is frame
        assert p.age_s == pytest.approx(0.25 + p.elapsed_s)
        assert p.slack_s == pytest.approx(FOREVER_S - p.age_s, abs=0.01)
    (summary,) = sink.summaries
    assert summary.answer is sink.predictions[-1].answer
    assert summary.stages_run == 3
    assert not summary.deadline_missed
    parts_s = summary.queue_s + summary.preprocess_s + summary.infer_s
    assert 0 < parts_s <= summary.total_s
    assert summary.age_s == pytest.approx(0.25 + summary.total_s)
    assert (runner.counters.received, runner.counters.answered) == (1, 1)
    # One confidence per frame, that of its first stage.
    assert runner.drift.state().frames == 1


def test_only_the_newest_waiting_frame_is_served(bundle, start):
    runner, sink, _ = start(bundle)
    gate = Gate()
    submit(runner, decode=gate)
    assert gate.reached.wait(WAIT_S)
    for _ in range(3):
        submit(runner)
    gate.open.set()
    sink.wait_for_frames(2)
    assert [s.frame.seq for s in sink.summaries] == [1, 4]
    assert runner.counters.dropped == {'replaced': 2}
    assert runner.counters.dropped_total == 2
    # A camera faster than the ladder is no fault.
    assert sink.faults == []


def test_the_first_stage_runs_even_after_the_deadline(bundle, start):
    runner, sink, engine = start(bundle)
    submit(runner, 'green', budget_s=-1.0)
    sink.wait_for_frames(1)
    (prediction,) = sink.predictions
    assert (prediction.answer.stage, prediction.is_final) == (1, True)
    assert prediction.stop_reason is StopReason.DEADLINE
    assert label(prediction.answer) == 'green'
    assert sink.summaries[0].deadline_missed
    assert prediction.slack_s < 0
    assert runner.counters.missed == 1
    assert engine.outcomes == [(0, 'ran')]


def test_a_stage_that_does_not_fit_is_not_begun(bundle, start):
    runner, sink, engine = start(bundle, stage_s=100.0)
    submit(runner, budget_s=1.0)
    sink.wait_for_frames(1)
    assert sink.predictions[-1].stop_reason is StopReason.DEADLINE
    assert engine.outcomes == [(0, 'ran')]
    assert not sink.summaries[0].deadline_missed


def test_at_the_deadline_the_best_answer_goes_out_while_a_stage_runs(slow_bundle, start):
    runner, sink, engine = start(slow_bundle)
    begun_s = monotonic()
    engine.run_stage(1, engine.new_token())
    engine.outcomes.clear()
    # Half of the last stage: the deadline always falls into it.
    budget_s = (monotonic() - begun_s) / 2
    submit(runner, 'blue', budget_s=budget_s)
    sink.wait_for_frames(1)
    assert [(p.answer.stage, p.is_final) for p in sink.predictions] == [(1, False), (1, True)]
    assert sink.predictions[-1].stop_reason is StopReason.DEADLINE
    assert engine.outcomes == [(0, 'ran'), (1, 'cancelled')]
    assert sink.summaries[0].stages_run == 1
    # What was cut has taught the estimate, one case though it is.
    assert runner.planner.slowdown > 2
    submit(runner, 'green')
    sink.wait_for_frames(2)
    assert label(sink.summaries[1].answer) == 'green'
    assert sink.summaries[1].stages_run == 2


def test_a_stage_that_ends_after_the_deadline_answer_changes_nothing(bundle, start):
    runner, sink, engine = start(bundle)
    # An engine that cannot cancel: its stage ends only when the deadline has been served.
    engine.before_stage_ends = lambda: sink.wait_for(
        lambda: sink.predictions and sink.predictions[-1].is_final
    )
    submit(runner, 'blue', budget_s=0.1)
    sink.wait_for_frames(1)
    assert [(p.answer.stage, p.is_final) for p in sink.predictions] == [(1, False), (1, True)]
    assert sink.summaries[0].stages_run == 1
    assert engine.outcomes == [(0, 'ran'), (1, 'ran')]


def test_stop_cuts_the_running_stage_publishes_and_ends_the_threads(slow_bundle, start):
    runner, sink, engine = start(slow_bundle)
    engine.running.clear()
    submit(runner, 'blue')
    assert engine.running.wait(WAIT_S)
    sink.wait_for(lambda: sink.predictions)
    runner.stop()
    assert sink.predictions[-1].is_final
    assert sink.predictions[-1].stop_reason is StopReason.CANCELLED
    assert label(sink.predictions[-1].answer) == 'blue'
    assert not any(t.name in ('anytime-worker', 'anytime-deadline') for t in threading.enumerate())


def test_stop_without_a_frame_ends_at_once_and_twice_is_harmless(bundle, start):
    runner, sink, _ = start(bundle)
    runner.stop()
    runner.stop()
    assert not sink.predictions


def test_a_frame_that_waits_too_long_is_dropped_as_stale(bundle, start):
    runner, sink, _ = start(bundle, max_frame_age_s=1.0)
    submit(runner, age_s=5.0)
    sink.wait_for(lambda: sink.faults)
    assert runner.counters.dropped == {'stale': 1}
    submit(runner, age_s=float('nan'))
    sink.wait_for_frames(1)
    assert [s.frame.seq for s in sink.summaries] == [2]


def raising(error):
    def decode():
        raise error

    return decode


@pytest.mark.parametrize(
    ('error', 'kind', 'text'),
    [
        (ImageError('corrupt_image', 'publish JPEG'), 'corrupt_image', 'publish JPEG'),
        (ZeroDivisionError('a bug'), 'internal_error', 'a bug'),
    ],
)
def test_a_frame_that_cannot_be_read_is_counted_and_the_next_is_served(
    bundle, start, error, kind, text
):
    runner, sink, _ = start(bundle)
    submit(runner, decode=raising(error))
    sink.wait_for(lambda: sink.faults)
    assert runner.counters.dropped == {kind: 1}
    assert sink.faults[0][0] == kind
    assert text in sink.faults[0][1]
    submit(runner, 'blue')
    sink.wait_for_frames(1)
    assert label(sink.summaries[0].answer) == 'blue'


def test_an_engine_error_in_the_first_stage_costs_the_frame(bundle, start):
    runner, sink, engine = start(bundle)
    engine.failing_stage = 0
    submit(runner)
    sink.wait_for(lambda: sink.faults)
    assert not sink.predictions
    assert runner.counters.dropped == {'engine_error': 1}
    engine.failing_stage = None
    submit(runner)
    sink.wait_for_frames(1)
    assert sink.summaries[0].stages_run == 3


def test_an_engine_error_in_a_later_stage_leaves_the_answer_before_as_final(bundle, start):
    runner, sink, engine = start(bundle)
    engine.failing_stage = 2
    submit(runner, 'green')
    sink.wait_for_frames(1)
    assert [(p.answer.stage, p.is_final) for p in sink.predictions] == [
        (1, False),
        (2, False),
        (2, True),
    ]
    assert label(sink.predictions[-1].answer) == 'green'
    assert [kind for kind, _ in sink.faults] == ['engine_error']
    assert runner.counters.answered == 1


def test_an_answer_that_an_engine_error_ends_says_nothing_of_the_timer(bundle, start):
    runner, sink, engine = start(bundle)
    engine.failing_stage = 2
    seen = []
    runner.planner.observe_publish = lambda took_s, *, by_timer: seen.append(by_timer)
    submit(runner)
    sink.wait_for_frames(1)
    assert seen == [False, False]


def test_without_intermediate_answers_only_finals_go_out(bundle, start):
    runner, sink, _ = start(bundle, publish_intermediate=False)
    submit(runner)
    sink.wait_for_frames(1)
    assert [(p.answer.stage, p.is_final) for p in sink.predictions] == [(3, True)]


def test_goals_may_change_between_frames(bundle, start):
    runner, sink, _ = start(bundle)
    submit(runner)
    sink.wait_for_frames(1)
    runner.planner.goals = Goals(confidence_target=0.01)
    submit(runner)
    sink.wait_for_frames(2)
    never, always = (-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
    runner.planner.goals = Goals(exit_rule=ExitRule('learned', 1e6, 0.5, (never, always)))
    submit(runner)
    sink.wait_for_frames(3)
    reasons = [StopReason.FINISHED, StopReason.CONFIDENT, StopReason.CONFIDENT]
    assert [s.stop_reason for s in sink.summaries] == reasons
    assert [s.stages_run for s in sink.summaries] == [3, 1, 2]


def test_under_a_flood_every_frame_is_answered_once_or_counted_as_dropped(bundle, start):
    runner, sink, _ = start(bundle)
    rng = np.random.default_rng(0)
    for _ in range(300):
        submit(runner, budget_s=float(rng.choice([-1.0, 0.0005, 0.001, FOREVER_S])))
        threading.Event().wait(float(rng.choice([0.0, 0.001])))
    last = submit(runner)
    sink.wait_for(lambda: sink.summaries and sink.summaries[-1].frame is last)
    assert runner.counters.answered + runner.counters.dropped_total == 301
    assert runner.counters.answered == len(sink.summaries)
    finals = Counter(p.frame.seq for p in sink.predictions if p.is_final)
    assert set(finals.values()) == {1}
    assert len(finals) == runner.counters.answered
    closed = set()
    for p in sink.predictions:
        assert p.frame.seq not in closed
        if p.is_final:
            closed.add(p.frame.seq)
    sequence = [p.frame.seq for p in sink.predictions]
    assert sequence == sorted(sequence)
    assert sink.faults == []


def test_a_stop_while_a_frame_is_decoded_runs_no_stage(bundle, start):
    runner, _, engine = start(bundle)
    gate = Gate()
    submit(runner, decode=gate)
    assert gate.reached.wait(WAIT_S)
    stopping = threading.Thread(target=runner.stop)
    stopping.start()
    with runner._slot_filled:
        assert runner._slot_filled.wait_for(lambda: runner._stopping, WAIT_S) or runner._stopping
    gate.open.set()
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    assert engine.outcomes == []
    assert runner.counters.dropped == {'cancelled': 1}


def test_a_sink_that_fails_on_the_deadline_ends_neither_thread_nor_clock(slow_bundle, start):
    runner, sink, engine = start(slow_bundle)
    keep, failing = sink.on_prediction, threading.Event()
    failing.set()

    def on_prediction(prediction):
        if prediction.is_final and failing.is_set():
            raise RuntimeError('the disk is full')
        keep(prediction)

    sink.on_prediction = on_prediction
    submit(runner, budget_s=0.05)
    sink.wait_for(lambda: engine.outcomes[-1:] == [(1, 'cancelled')])
    assert [kind for kind, _ in sink.faults] == ['internal_error']
    failing.clear()
    submit(runner, budget_s=0.05)
    sink.wait_for_frames(1)
    assert sink.predictions[-1].is_final
    # The frame that nobody could be told of is counted as such, and has no report.
    assert runner.counters.answered == len(sink.summaries) == 1
    assert runner.counters.dropped == {'internal_error': 1}


def test_an_intermediate_answer_that_cannot_be_sent_costs_no_frame(bundle, start):
    runner, sink, _ = start(bundle)
    keep = sink.on_prediction

    def on_prediction(prediction):
        if not prediction.is_final:
            raise RuntimeError('the disk is full')
        keep(prediction)

    sink.on_prediction = on_prediction
    submit(runner)
    sink.wait_for_frames(1)
    assert [p.is_final for p in sink.predictions] == [True]
    assert {kind for kind, _ in sink.faults} == {'internal_error'}
    assert runner.counters.answered == 1
    assert runner.counters.dropped_total == 0


def test_a_report_that_cannot_be_sent_is_a_fault_and_no_dropped_frame(bundle, start):
    runner, sink, _ = start(bundle)

    def on_frame(summary):
        raise RuntimeError('no subscriber')

    sink.on_frame = on_frame
    submit(runner)
    sink.wait_for(lambda: sink.faults)
    assert sink.faults[0][0] == 'internal_error'
    assert runner.counters.answered == 1
    assert runner.counters.dropped_total == 0


def test_a_frame_without_an_age_is_dropped_by_its_wait(bundle, start):
    runner, sink, _ = start(bundle, max_frame_age_s=0.01)
    gate = Gate()
    submit(runner, age_s=float('nan'), decode=gate)
    assert gate.reached.wait(WAIT_S)
    submit(runner, age_s=float('nan'))
    threading.Event().wait(0.05)
    gate.open.set()
    sink.wait_for(lambda: sink.faults)
    assert sink.faults[0][0] == 'stale'


def test_without_a_stage_by_the_deadline_the_last_answer_is_carried_over(bundle, start):
    runner, sink, engine = start(bundle)
    submit(runner, 'blue')
    sink.wait_for_frames(1)
    engine.outcomes.clear()
    gate = Gate()
    frame = submit(runner, budget_s=0.02, decode=gate)
    # Held in the decoding, the frame has its answer by the deadline all the same.
    sink.wait_for(lambda: sink.predictions[-1].frame is frame)
    forecast = sink.predictions[-1]
    assert (forecast.answer.stage, forecast.is_final) == (0, True)
    assert forecast.stop_reason is StopReason.FORECAST
    assert label(forecast.answer) == 'blue'
    before = sink.summaries[0].judgement
    assert forecast.answer.confidence < before.answer.confidence
    assert forecast.judgement.expected_accuracy < before.expected_accuracy
    assert np.isnan(forecast.expected_gain)
    gate.open.set()
    sink.wait_for_frames(2)
    assert (sink.summaries[1].stages_run, runner.counters.forecast) == (0, 1)
    assert sink.summaries[1].is_forecast
    # The first stage has run nevertheless: the next forecast comes from it.
    assert engine.outcomes == [(0, 'ran')]
    gate = Gate()
    third = submit(runner, budget_s=-1.0, decode=gate)
    sink.wait_for(lambda: sink.predictions[-1].frame is third)
    assert label(sink.predictions[-1].answer) == 'green'
    assert runner.counters.answered == 3
    gate.open.set()


def test_a_frame_that_cannot_be_read_after_its_forecast_is_told_and_not_counted_twice(
    bundle, start
):
    runner, sink, _ = start(bundle)
    submit(runner)
    sink.wait_for_frames(1)
    reached = threading.Event()

    def decode():
        sink.wait_for(lambda: len([p for p in sink.predictions if p.is_final]) == 2)
        reached.set()
        raise ImageError('corrupt_image', 'publish JPEG')

    submit(runner, budget_s=0.01, decode=decode)
    sink.wait_for(lambda: sink.faults)
    assert reached.is_set()
    assert runner.counters.answered == 2
    assert runner.counters.dropped_total == 0


def test_a_stale_frame_gets_the_last_answer_and_is_counted_as_dropped(bundle, start):
    runner, sink, _ = start(bundle)
    submit(runner, 'green')
    sink.wait_for_frames(1)
    submit(runner, age_s=5.0)
    sink.wait_for(lambda: sink.faults)
    last = sink.predictions[-1]
    assert (last.answer.stage, last.stop_reason) == (0, StopReason.STALE)
    assert label(last.answer) == 'green'
    assert runner.counters.dropped == {'stale': 1}
    assert runner.counters.answered == 1


def test_a_stale_frame_that_the_timer_has_answered_already_is_not_answered_twice(
    bundle, start, monkeypatch
):
    runner, sink, _ = start(bundle)
    submit(runner, 'green')
    sink.wait_for_frames(1)
    begin = runner._begin

    def begin_late(flight):
        # The instant of the frame before has come.
        with runner._flight_changed:
            runner._flight_changed.notify_all()
        sink.wait_for(lambda: sink.predictions[-1].frame is flight.frame)
        return begin(flight)

    monkeypatch.setattr(runner, '_begin', begin_late)
    frame = submit(runner, age_s=5.0, budget_s=1.0)
    sink.wait_for_frames(2)
    mine = [p for p in sink.predictions if p.frame is frame]
    assert [(p.answer.stage, p.stop_reason) for p in mine] == [(0, StopReason.FORECAST)]
    assert runner.counters.dropped_total == 0
    assert runner.counters.answered == 2


def test_a_shorter_deadline_holds_for_the_frame_in_flight(slow_bundle, start):
    runner, sink, engine = start(slow_bundle)
    engine.running.clear()
    submit(runner, 'blue')
    assert engine.running.wait(WAIT_S)
    runner.shorten(2 * FOREVER_S)
    runner.shorten(0.001)
    sink.wait_for_frames(1)
    assert engine.outcomes[-1] == (1, 'cancelled')
    final = sink.predictions[-1]
    assert (final.answer.stage, final.stop_reason) == (1, StopReason.DEADLINE)
    assert final.budget_s == pytest.approx(0.001)
    assert sink.summaries[0].cut_to_result_s >= 0


def test_a_shorter_deadline_holds_for_the_frame_that_waits(bundle, start):
    runner, sink, _ = start(bundle)
    gate = Gate()
    submit(runner, decode=gate)
    assert gate.reached.wait(WAIT_S)
    submit(runner, 'blue')
    runner.shorten(0.5)
    gate.open.set()
    sink.wait_for_frames(2)
    assert [s.budget_s for s in sink.summaries] == pytest.approx([0.5, 0.5])


def test_a_waiting_frame_ends_the_one_in_flight_if_that_is_wished(bundle, start):
    runner, sink, engine = start(bundle)
    runner.planner.goals = Goals(yield_to_newer=True)
    engine.before_stage_ends = lambda: None if runner._slot else submit(runner, 'green')
    submit(runner, 'blue')
    sink.wait_for_frames(1)
    first = sink.summaries[0]
    assert (first.stages_run, first.stop_reason) == (2, StopReason.PREEMPTED)
    engine.before_stage_ends = None
    sink.wait_for_frames(2)
    assert label(sink.summaries[1].answer) == 'green'


class LeadOf:
    """A policy of a planner, but with a lead of its own."""

    def __init__(self, planner, lead_s):
        self._planner, self._lead_s = planner, lead_s

    def __getattr__(self, name):
        return getattr(self._planner, name)

    def lead_s(self):
        return self._lead_s


def test_a_policy_without_a_timer_runs_over_its_deadline(bundle):
    engine, sink = WatchedEngine(load_engine(bundle)), Collector()
    planner = Planner(ReferenceTimes(np.full((2, 3), STAGE_S)), [1e6] * 3)
    runner = Runner(ServingPath(bundle, engine), LeadOf(planner, -math.inf), sink)
    runner.start()
    engine.before_stage_ends = lambda: threading.Event().wait(0.2)
    submit(runner, budget_s=0.1)
    sink.wait_for_frames(1)
    runner.stop()
    assert sink.summaries[0].stages_run >= 2
    assert sink.summaries[0].deadline_missed


def test_the_load_reaches_the_policy(bundle, start):
    runner, _, _ = start(bundle)
    runner.observe_load(LoadSignal(regime=1, cpu_percent=0.0, num_cores=2))
    runner.observe_load(LoadSignal(regime=3, cpu_percent=100.0, num_cores=2))
    assert runner.planner.slowdown == pytest.approx(1.5)
    runner.observe_load(None)
    assert runner.planner.slowdown == pytest.approx(1.5)
