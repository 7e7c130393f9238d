"""Replays: the queue, the timer, cuts, forecasts and the oracle, on times that are known."""

import os
import subprocess
import sys
from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

from anytime_dnn_ros.bench.policies import policy_names
from anytime_dnn_ros.bench.replay import replay
from anytime_dnn_ros.bench.rows import row
from anytime_dnn_ros.bench.trace import write_recording
from anytime_dnn_ros.planner import FIRST_PUBLISH_GUESS_S, Goals
from bench.small_recordings import (
    FIT_S,
    LATE_S,
    PERIOD_S,
    PUBLISH_S,
    STAGE_S,
    frame,
    noisy_recording,
    recording,
)

ROOT = Path(__file__).parents[2]
LONG_MS = 1e3 * PERIOD_S
SLOW_S = 2**-2


def play(frames, deadline_ms, name, **options):
    return replay(recording(frames, **options), deadline_ms, name, Goals())


def test_a_plain_network_answers_once_after_its_stages():
    (outcome,) = play([frame()], LONG_MS, 'static_2').frames
    (final,) = outcome.published
    assert final.at_s == FIT_S + 2 * STAGE_S + PUBLISH_S
    assert (final.stage, final.declared) == (2, 0.7)
    assert outcome.in_time
    assert isnan(outcome.cut_to_result_s)


def test_an_anytime_policy_publishes_after_every_stage():
    (outcome,) = play([frame()], LONG_MS, 'greedy').frames
    each_s = STAGE_S + PUBLISH_S
    assert [p.at_s for p in outcome.published] == [FIT_S + k * each_s for k in (1, 2, 3)]
    assert [p.stage for p in outcome.published] == [1, 2, 3]
    assert outcome.answered


def test_the_timer_publishes_what_there_is_with_its_recorded_lateness():
    deadline_s = FIT_S + 1.5 * STAGE_S
    (outcome,) = play([frame()], 1e3 * deadline_s, 'greedy').frames
    first, final = outcome.published
    assert (first.stage, final.stage) == (1, 1)
    wakes_s = deadline_s - FIRST_PUBLISH_GUESS_S + LATE_S
    assert final.at_s == pytest.approx(wakes_s + PUBLISH_S, abs=1e-12)
    assert outcome.cut_to_result_s == pytest.approx(LATE_S + PUBLISH_S, abs=1e-12)


@pytest.mark.parametrize('can_cut', [True, False])
def test_a_cut_frees_the_worker_only_if_the_engine_can_cut(can_cut):
    first = frame(stage_s=(STAGE_S, SLOW_S, STAGE_S))
    second = replace(frame(1), arrival_s=0.1)
    one = play([first, second], 20.0, 'greedy', can_cut=can_cut)
    answer = one.frames[1].published[0]
    if can_cut:
        assert answer.stage == 1
        assert answer.at_s == pytest.approx(0.1 + FIT_S + STAGE_S + PUBLISH_S, abs=1e-12)
    else:
        # Its turn comes only when the deadline is over: a forecast goes out at once.
        free_s = FIT_S + STAGE_S + PUBLISH_S + SLOW_S
        assert answer.stage == 0
        assert answer.at_s == pytest.approx(free_s + LATE_S + PUBLISH_S, abs=1e-12)


def test_a_newer_frame_replaces_the_one_that_waits():
    # The first frame takes until the fifth has come.
    slow = frame(stage_s=(4.2 * PERIOD_S, STAGE_S, STAGE_S))
    one = play([slow, *(frame(i) for i in range(1, 6))], LONG_MS, 'static_1')
    assert [f.dropped for f in one.frames] == ['', 'replaced', 'replaced', 'replaced', '', '']
    free_s = FIT_S + 4.2 * PERIOD_S + PUBLISH_S
    at_s = one.frames[4].published[0].at_s
    assert at_s == pytest.approx(free_s + FIT_S + STAGE_S + PUBLISH_S, abs=1e-12)
    assert one.frames[4].in_time is (at_s <= 5 * PERIOD_S)


def test_where_no_stage_is_done_in_time_the_last_answer_is_carried_over():
    slow = frame(1, stage_s=(SLOW_S, STAGE_S, STAGE_S))
    one = play([frame(), slow], 20.0, 'greedy')
    outcome = one.frames[1]
    (forecast,) = outcome.published
    assert (forecast.stage, forecast.named) == (0, 0)
    assert 0 < forecast.declared < 0.9
    assert outcome.answered
    assert not outcome.in_time
    # The first stage runs to its end all the same, and nothing of it is published.
    assert any(d.endswith('timer FORECAST') for d in one.decisions)


def test_without_an_earlier_answer_there_is_no_forecast():
    slow = frame(stage_s=(SLOW_S, STAGE_S, STAGE_S))
    (outcome,) = play([slow], 20.0, 'greedy').frames
    assert outcome.published[0].stage == 1
    assert not outcome.in_time


def test_the_oracle_takes_the_best_that_is_out_in_time():
    times_s = FIT_S + 2 * STAGE_S + PUBLISH_S
    (met,) = play([frame()], 1e3 * times_s + 1e-6, 'oracle').frames
    assert met.published[-1].stage == 2
    (tighter,) = play([frame()], 1e3 * times_s - 0.01, 'oracle').frames
    assert tighter.published[-1].stage == 1


def test_the_oracle_goes_no_deeper_than_the_declared_accuracy_says():
    one = frame()
    worse = replace(one.judged[2], expected_accuracy=0.1)
    spoilt = replace(one, judged=(*one.judged[:2], worse))
    (outcome,) = play([spoilt], LONG_MS, 'oracle').frames
    assert outcome.published[-1].stage == 2
    same = replace(one.judged[2], expected_accuracy=one.judged[1].expected_accuracy)
    (deeper,) = play([replace(one, judged=(*one.judged[:2], same))], LONG_MS, 'oracle').frames
    assert deeper.published[-1].stage == 3
    unknown = tuple(replace(j, expected_accuracy=float('nan')) for j in one.judged)
    (deepest,) = play([replace(one, judged=unknown)], LONG_MS, 'oracle').frames
    assert deepest.published[-1].stage == 3


@pytest.mark.parametrize('name', policy_names(3))
def test_every_policy_decides_the_same_twice(name):
    made = noisy_recording()
    first, second = (replay(made, 25.0, name, Goals()) for _ in range(2))
    assert first.decisions == second.decisions
    assert first == second or row(first) == row(second)


def test_no_policy_that_runs_beats_the_oracle():
    made = noisy_recording()
    rows = {name: row(replay(made, 25.0, name, Goals())) for name in policy_names(3)}
    declared = {n: r['miss_rate'] for n, r in rows.items()}
    assert declared['oracle'] == min(declared.values())


def test_other_processes_decide_the_same_bit_for_bit(tmp_path):
    file = tmp_path / 'run.jsonl'
    write_recording(file, noisy_recording(150))
    code = (
        'import sys; from pathlib import Path\n'
        'from anytime_dnn_ros.bench.replay import replay\n'
        'from anytime_dnn_ros.bench.rows import row\n'
        'from anytime_dnn_ros.bench.trace import read_recording\n'
        'from anytime_dnn_ros.planner import Goals\n'
        'made = read_recording(Path(sys.argv[1]))\n'
        'for name in ("ours", "alert", "oracle"):\n'
        '    print(row(replay(made, 25.0, name, Goals())))'
    )
    printed = {
        subprocess.run(
            [sys.executable, '-c', code, str(file)],
            env={**os.environ, 'PYTHONPATH': str(ROOT / 'src'), 'PYTHONHASHSEED': seed},
            check=True,
            capture_output=True,
        ).stdout
        for seed in ('1', '2')
    }
    assert len(printed) == 1
    assert b'decisions_sha256' in printed.pop()
