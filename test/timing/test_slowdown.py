import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.timing.slowdown import StageTimes

QUIET = ReferenceTimes(np.tile([0.001, 0.002, 0.003], (4, 1)))
TARGET = 0.01
IDLE, SATURATED = LoadSignal(1, 0.0, num_cores=2), LoadSignal(3, 100.0, num_cores=2)


def run(times, slowdown, frames=20, stages=3):
    for _ in range(frames):
        times.begin_frame()
        for stage in range(stages):
            times.observe(stage, slowdown * 0.001 * (stage + 1), TARGET)


def test_it_starts_at_the_reference():
    times = StageTimes(QUIET)
    assert times.slowdown == 1
    assert times.expected_s(0, 0) == pytest.approx(0.001)
    assert times.expected_s(0, 2) == pytest.approx(0.006)
    assert times.margin(1, TARGET) == times.margin(3, TARGET) == 1
    assert times.share_fitting(0, 2, 0.0061) == 1
    assert times.share_fitting(0, 2, 0.0059) == 0


@given(ratio=st.floats(0.2, 20))
def test_it_learns_a_steady_load(ratio):
    times = StageTimes(QUIET)
    run(times, ratio)
    assert times.slowdown == pytest.approx(ratio, rel=0.01)


def test_a_step_of_load_is_mostly_learnt_within_two_frames():
    times = StageTimes(QUIET)
    run(times, 1.0)
    run(times, 2.0, frames=2)
    assert times.slowdown > 1.8


def test_one_stage_that_was_held_up_for_seconds_is_no_load():
    times = StageTimes(QUIET)
    run(times, 1.0)
    times.begin_frame()
    times.observe(0, 2.0, TARGET)
    assert times.slowdown < 3
    run(times, 1.0, frames=6)
    assert times.slowdown == pytest.approx(1.0, abs=0.05)


def test_the_margin_of_a_path_is_less_than_that_of_its_worst_stage():
    rng = np.random.default_rng(0)
    times = StageTimes(QUIET)
    for _ in range(400):
        times.begin_frame()
        for stage, noise in enumerate(rng.lognormal(0, 0.3, 3).tolist()):
            times.observe(stage, noise * 0.001 * (stage + 1), TARGET)
    assert times.margin(3, TARGET) < times.margin(1, TARGET)


def test_a_stage_that_was_cut_tells_only_how_slow_it_was_at_least():
    times = StageTimes(QUIET)
    times.begin_frame()
    times.observe_cut(0, 0.0005, TARGET)
    assert times.slowdown == 1
    times.observe_cut(0, 0.003, TARGET)
    assert times.slowdown > 1


def test_a_load_that_the_monitor_tells_of_is_answered_before_a_stage_has_shown_it():
    times = StageTimes(QUIET)
    times.observe_load(IDLE)
    run(times, 1.0)
    times.observe_load(SATURATED)
    assert times.slowdown == pytest.approx(1.5)


def test_what_the_load_predicts_wrongly_is_put_right():
    times = StageTimes(QUIET)
    times.observe_load(SATURATED)
    run(times, 3.0)
    assert times.slowdown == pytest.approx(3.0, rel=0.01)


def test_each_regime_keeps_its_own_history():
    times = StageTimes(QUIET)
    times.observe_load(IDLE)
    run(times, 1.0)
    times.observe_load(SATURATED)
    run(times, 4.0)
    times.observe_load(IDLE)
    assert times.slowdown == pytest.approx(1.0, rel=0.01)
    times.observe_load(SATURATED)
    assert times.slowdown == pytest.approx(4.0, rel=0.01)


@given(learnt=st.floats(0.5, 8), percent=st.floats(0, 100), regime=st.integers(0, 255))
def test_when_the_monitor_speaks_first_or_falls_silent_nothing_jumps(learnt, percent, regime):
    times = StageTimes(QUIET)
    run(times, learnt)
    before = times.slowdown
    times.observe_load(LoadSignal(regime, percent, num_cores=2))
    assert times.slowdown == pytest.approx(before)
    times.observe_load(None)
    assert times.slowdown == pytest.approx(before)
    times.observe_load(None)
    assert times.slowdown == pytest.approx(before)


def test_the_noise_of_the_measurement_is_the_first_margin():
    samples = np.tile([0.001, 0.001], (20, 1))
    samples[7] *= 3
    times = StageTimes(ReferenceTimes(samples))
    assert times.margin(1, TARGET) == pytest.approx(3)
    assert times.margin(2, TARGET) == pytest.approx(3)
    assert times.margin(1, 0.5) == 1


def test_the_noise_of_every_stage_counts_however_long_the_measurement():
    samples = np.tile([0.001, 0.001, 0.001], (400, 1))
    # The first stage alone, once in ten rounds.
    samples[::10, 0] *= 3
    times = StageTimes(ReferenceTimes(samples))
    assert times.margin(1, TARGET) == pytest.approx(3)
    assert times.margin(3, TARGET) == pytest.approx(5 / 3)


def test_what_the_load_does_not_explain_is_known():
    times = StageTimes(QUIET)
    times.observe_load(SATURATED)
    run(times, 1.5)
    assert times.unexplained == pytest.approx(1.0, rel=0.01)
    run(times, 6.0)
    assert times.unexplained == pytest.approx(4.0, rel=0.01)


def test_a_first_stage_that_always_takes_more_is_no_load():
    times = StageTimes(QUIET)
    for _ in range(200):
        times.begin_frame()
        for stage, took_s in enumerate((0.003, 0.002, 0.003)):
            times.observe(stage, took_s, TARGET)
    # Live it takes three times what the measurement found, the others just that.
    found_s = [times.expected_s(k, k) for k in range(3)]
    assert found_s == pytest.approx([0.003, 0.002, 0.003], rel=0.05)
    assert times.slowdown == pytest.approx(8 / 6, rel=0.05)
    assert times.margin(1, TARGET) < 1.2


def test_a_load_teaches_nothing_about_single_stages():
    times = StageTimes(QUIET)
    run(times, 3.0, frames=30, stages=1)
    run(times, 3.0)
    assert [times.expected_s(k, k) for k in range(3)] == pytest.approx([0.003, 0.006, 0.009])
