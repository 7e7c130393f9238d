"""Short passes through the real runner, with real load; nothing here depends on how fast."""

from math import isnan

import numpy as np
import pytest

from anytime_dnn_ros.bench.film import make_film
from anytime_dnn_ros.bench.live import Bench, record_pass, run_pass
from anytime_dnn_ros.bench.load import LoadWorkers, load_plan
from anytime_dnn_ros.bench.policies import Ladder
from anytime_dnn_ros.bench.replay import replay
from anytime_dnn_ros.bench.rows import row
from anytime_dnn_ros.bench.trace import read_recording, write_recording
from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import AnytimeError, EngineError
from anytime_dnn_ros.planner import Goals
from anytime_dnn_ros.serving import ServingPath
from ladders import LABELS, make_ladder, solid

COUNT, RATE_HZ = 30, 100.0
LONG_MS = 60_000.0


@pytest.fixture(scope='module')
def bench(tmp_path_factory):
    bundle = make_ladder(tmp_path_factory.mktemp('live') / 'colours')
    pixels = np.stack([solid(color, 32, 32) for color in LABELS])
    images = Images(pixels, np.arange(3, dtype=np.int64), LABELS, 'colours/test')
    film = make_film(images, images.labels, count=COUNT, rate_hz=RATE_HZ, seed=0)
    engine = load_engine(bundle)
    path = ServingPath(bundle, engine)
    ladder = Ladder(path.measure_reference_times(), (1.0, 1.0, 1.0))
    with LoadWorkers(1) as workers:
        yield Bench(path, ladder, film, RATE_HZ, COUNT, workers, lambda _: None)
    engine.close()


@pytest.mark.parametrize('name', ['ours', 'alert', 'fixed_p99', 'greedy', 'static_2'])
def test_a_pass_with_all_the_time_in_the_world_is_right_each_time(bench, name):
    plan = load_plan('step', bench.length_s, cores=1)
    one = run_pass(bench, plan, LONG_MS, name, Goals())
    assert len(one.frames) == COUNT
    assert [f.label for f in one.frames] == list(bench.film.labels)
    had_turn = [f for f in one.frames if not f.replaced]
    assert had_turn
    for f in had_turn:
        assert f.right
        assert 0 <= f.arrival_s < f.published[0].at_s < f.due_s
    assert (one.load, one.policy, one.onset_s) == ('step', name, plan.onset_s)
    assert one.decision_s
    if name == 'static_2':
        assert {(len(f.published), f.published[0].stage) for f in had_turn} == {(1, 2)}
    else:
        assert {p.stage for f in had_turn for p in f.published} == {1, 2, 3}


def test_a_deadline_that_nothing_meets_is_missed_and_told_so(bench):
    plan = load_plan('none', bench.length_s, cores=1)
    one = run_pass(bench, plan, 1e-3, 'greedy', Goals())
    assert not any(f.in_time for f in one.frames)
    timed = [f for f in one.frames if not isnan(f.cut_to_result_s)]
    assert timed
    assert all(f.cut_to_result_s >= 0 for f in timed)


def test_a_recording_has_every_frame_through_every_stage(bench, tmp_path):
    plan = load_plan('step', bench.length_s, cores=1)
    made = record_pass(bench, plan)
    assert len(made.frames) == COUNT
    for frame, label in zip(made.frames, bench.film.labels, strict=True):
        assert len(frame.stage_s) == len(frame.judged) == 3
        assert [j.named for j in frame.judged] == [label] * 3 == [frame.label] * 3
        assert all(t > 0 for t in frame.stage_s)
        assert frame.timer_late_s >= 0
        assert frame.judged[0].expected_accuracy == pytest.approx(0.5)
    assert (made.load, made.onset_s, made.num_classes) == ('step', plan.onset_s, 3)
    # It can be kept, and played.
    write_recording(tmp_path / 'run.jsonl', made)
    back = read_recording(tmp_path / 'run.jsonl')
    assert replay(back, 5.0, 'ours', Goals()) == replay(made, 5.0, 'ours', Goals())
    assert row(replay(back, LONG_MS, 'oracle', Goals()))['frames'] == COUNT


def test_the_load_is_off_after_a_pass_and_after_one_that_failed(bench, monkeypatch):
    told = []
    tell = bench.workers.tell
    monkeypatch.setattr(bench.workers, 'tell', lambda lines: (told.append(lines), tell(lines)))

    def fail(stage, token):
        raise EngineError('the stage is broken')

    plan = load_plan('step', bench.length_s, cores=1)
    run_pass(bench, plan, LONG_MS, 'static_1', Goals())
    assert told[-1] == ('none',)
    assert ('cpu 1.0 1.0',) in told
    monkeypatch.setattr(bench.path, 'run_stage', fail)
    for failing in (
        lambda: run_pass(bench, plan, 50.0, 'ours', Goals()),
        lambda: record_pass(bench, plan),
    ):
        with pytest.raises(AnytimeError, match='the stage is broken'):
            failing()
        assert told[-1] == ('none',)
