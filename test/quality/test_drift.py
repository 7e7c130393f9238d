from dataclasses import replace
from math import isnan
from statistics import NormalDist
from threading import Event, Thread

import numpy as np
import pytest

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import Quality
from anytime_dnn_ros.ladder.profile import Profile, ProfileStage
from anytime_dnn_ros.quality.drift import WINDOW, Drift

# Counted on confidences spread evenly from 0 to 1.
FIRST = ProfileStage(1.0, 0.0, None, tuple(np.arange(1, 10) / 10), (0, 300) * 10, ((0, 290) * 10,))
QUALITY = Quality('x', True, profiles=(Profile('product', (FIRST,)),))


def first(confidence: float) -> Answer:
    return Answer(1, np.zeros(2, np.float32), float(confidence))


def resembling(count: int, correlation: float, seed: int = 0) -> np.ndarray:
    """Confidences spread evenly from 0 to 1, each like the one before: a Gaussian AR(1)."""
    noise = np.random.default_rng(seed).normal(size=count)
    values = [noise[0]]
    for x in noise[1:]:
        values.append(correlation * values[-1] + (1 - correlation**2) ** 0.5 * x)
    return np.array([NormalDist().cdf(x) for x in values])


def states(confidences, every=50):
    drift = Drift(QUALITY)
    for n, confidence in enumerate(confidences, start=1):
        drift.observe(first(confidence))
        if n >= WINDOW and not n % every:
            yield drift.state()


@pytest.mark.parametrize('correlation', [0.0, 0.5, 0.9, 0.97, 0.99])
def test_chance_raises_no_alarm_however_much_frames_resemble_each_other(correlation):
    for seed in range(3):
        confidences = resembling(8000, correlation, seed)
        assert not any(state.drifted for state in states(confidences))


def test_a_robot_that_stands_still_has_not_drifted():
    assert not any(state.drifted for state in states([0.05] * 6000))


@pytest.mark.parametrize('correlation', [0.0, 0.5])
def test_confidences_of_another_world_are_noticed(correlation):
    confidences = resembling(2 * WINDOW, correlation) ** 4
    assert all(state.drifted for state in states(confidences))


def test_a_drift_is_noticed_and_goes_when_it_is_over():
    same = resembling(12 * WINDOW, 0.3)
    same[5 * WINDOW : 7 * WINDOW] **= 4
    drifted = [state.drifted for state in states(same, WINDOW)]
    assert drifted[:5] == [False] * 5
    assert drifted[5:7] == [True] * 2
    assert drifted[-3:] == [False] * 3


def test_the_distance_is_that_of_the_shares():
    state = next(states(np.arange(WINDOW) / WINDOW / 2))
    assert state.frames == WINDOW
    assert state.distance == pytest.approx(0.5)


@pytest.mark.parametrize(
    'quality',
    [None, Quality('old', True), replace(QUALITY, held_out=False)],
    ids=['none', 'without a profile', 'seen'],
)
def test_without_counts_nothing_is_said(quality):
    drift = Drift(quality)
    for _ in range(2 * WINDOW):
        drift.observe(first(0.01))
    assert isnan(drift.state().distance)
    assert not drift.state().drifted


def test_nothing_is_said_before_the_window_is_full():
    drift = Drift(QUALITY)
    assert drift.state().frames == 0
    for _ in range(WINDOW - 1):
        drift.observe(first(0.01))
    assert drift.state().frames == WINDOW - 1
    assert isnan(drift.state().distance)


def test_only_the_first_stage_counts():
    drift = Drift(QUALITY)
    for stage in (1, 2, 3, 1):
        drift.observe(replace(first(0.5), stage=stage))
    assert drift.state().frames == 2


def test_the_state_may_be_asked_for_while_frames_come():
    drift, done = Drift(QUALITY), Event()

    def feed():
        while not done.is_set():
            drift.observe(first(0.5))

    feeder = Thread(target=feed)
    feeder.start()
    try:
        for _ in range(300):
            assert drift.state().frames <= WINDOW
    finally:
        done.set()
        feeder.join()
