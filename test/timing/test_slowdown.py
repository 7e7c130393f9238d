import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.timing.slowdown import WINDOW, SlowdownEstimator

QUIET = np.ones(4)


def test_it_starts_at_the_reference():
    estimator = SlowdownEstimator(QUIET)
    assert estimator.slowdown == 1
    assert estimator.margin(0.01) == 1


@given(ratio=st.floats(0.1, 100))
def test_it_learns_a_steady_load(ratio):
    estimator = SlowdownEstimator(QUIET)
    for _ in range(60):
        estimator.observe(ratio)
    assert estimator.slowdown == pytest.approx(ratio, rel=0.01)


def test_a_step_of_load_is_90_percent_learnt_in_ten_stages():
    estimator = SlowdownEstimator(QUIET)
    for _ in range(11):
        estimator.observe(2.0)
    assert estimator.slowdown > 1.9


@given(
    noise=st.lists(st.floats(0.01, 50), min_size=1, max_size=WINDOW),
    target=st.floats(0.0001, 0.5),
)
def test_the_margin_is_the_order_statistic_of_the_residuals(noise, target):
    margin = SlowdownEstimator(np.array(noise)).margin(target)
    rank = math.ceil((len(noise) + 1) * (1 - target))
    expected = max(noise) if rank > len(noise) else sorted(noise)[rank - 1]
    assert margin == max(1.0, expected)


@given(noise=st.lists(st.floats(0.5, 3), min_size=1, max_size=WINDOW))
def test_a_stricter_target_never_gives_a_smaller_margin(noise):
    estimator = SlowdownEstimator(np.array(noise))
    margins = [estimator.margin(target) for target in (0.5, 0.1, 0.01, 0.001)]
    assert margins == sorted(margins)


def test_the_window_forgets():
    estimator = SlowdownEstimator(np.array([9.0]))
    assert estimator.margin(0.001) == 9
    for _ in range(WINDOW):
        estimator.observe(estimator.slowdown)
    assert estimator.margin(0.001) == 1


def test_a_cancelled_stage_tells_only_how_slow_it_was_at_least():
    estimator = SlowdownEstimator(QUIET)
    estimator.observe_at_least(0.5)
    assert estimator.slowdown == 1
    estimator.observe_at_least(3.0)
    assert estimator.slowdown > 1
    assert estimator.margin(0.01) == 3


def test_each_regime_keeps_its_own_history():
    estimator = SlowdownEstimator(QUIET)
    for _ in range(60):
        estimator.observe(1.0)
    estimator.set_regime(3)
    assert estimator.slowdown == pytest.approx(1)
    for _ in range(60):
        estimator.observe(4.0)
    busy = estimator.slowdown
    estimator.set_regime(0)
    assert estimator.slowdown == pytest.approx(1)
    estimator.set_regime(3)
    assert estimator.slowdown == busy


def test_a_new_regime_starts_from_the_present_estimate():
    estimator = SlowdownEstimator(QUIET)
    for _ in range(60):
        estimator.observe(4.0)
    estimator.set_regime(2)
    assert estimator.slowdown == pytest.approx(4, rel=0.001)


def test_no_noise_at_all_means_no_margin():
    assert SlowdownEstimator(np.array([])).margin(0.01) == 1
