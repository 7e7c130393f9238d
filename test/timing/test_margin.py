import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.timing.margin import (
    ADAPTATION,
    ENOUGH,
    LIFETIME,
    MOST_PER_CASE,
    WINDOW,
    AdaptiveBound,
)

VALUES = st.lists(st.floats(0.01, 50), min_size=1, max_size=WINDOW)


@given(values=VALUES, target=st.floats(0.0001, 0.5))
def test_it_begins_with_the_order_statistic_of_conformal_prediction(values, target):
    rank = math.ceil((len(values) + 1) * (1 - target))
    expected = max(values) if rank > len(values) else sorted(values)[rank - 1]
    assert AdaptiveBound(values).bound(target) == expected


@given(values=VALUES)
def test_a_stricter_target_never_gives_a_smaller_bound(values):
    bounds = [AdaptiveBound(values).bound(target) for target in (0.5, 0.1, 0.01, 0.001)]
    assert bounds == sorted(bounds)


@given(values=VALUES, limit=st.floats(0, 60))
def test_the_share_within_a_limit_is_counted(values, limit):
    share = AdaptiveBound(values).share_within(limit)
    assert share == sum(v <= limit for v in values) / len(values)


@given(first=VALUES, more=st.lists(st.floats(0.01, 0.05), min_size=WINDOW, max_size=2 * WINDOW))
def test_the_window_forgets(first, more):
    bound = AdaptiveBound(first)
    for value in more:
        bound.observe(value, 0.01)
    assert bound.share_within(max(more[-WINDOW:])) == 1.0


def test_each_exceedance_takes_it_further_and_time_brings_it_back():
    bound = AdaptiveBound([1.0] * WINDOW)
    before = bound.bound(0.01)
    bound.observe(2.0, 0.01)
    # As far as the largest value, which two in 256 may exceed at 1 %.
    once = bound.bound(0.01)
    bound.observe(3.0, 0.01)
    twice = bound.bound(0.01)
    assert before == 1
    assert once == 2
    assert twice > 3
    for _ in range(2 * round(1 / ADAPTATION)):
        bound.observe(1.0, 0.01)
    assert bound.bound(0.01) == 2
    assert bound.bound(0.02) == 1


def test_one_absurd_case_counts_a_little_only():
    bound = AdaptiveBound([1.0] * WINDOW)
    bound.observe(1e6, 0.01)
    bound.observe(1e6, 0.01)
    assert bound.share_within(MOST_PER_CASE**2) == 1


def test_cases_that_took_no_time_are_not_all_that_it_ever_sees():
    bound = AdaptiveBound([1.0])
    for _ in range(WINDOW):
        bound.observe(0.0, 0.01)
    assert bound.bound(0.01) == 0
    for _ in range(5000):
        bound.observe(2.0, 0.01)
    assert bound.bound(0.01) == 2


@pytest.mark.parametrize('draw', ['lognormal', 'pareto', 'step'])
@pytest.mark.parametrize('target', [0.01, 0.05])
def test_in_the_long_run_it_is_exceeded_as_often_as_wanted(draw, target):
    rng = np.random.default_rng(0)
    values = {
        'lognormal': rng.lognormal(0, 0.5, 20_000),
        'pareto': 1 + rng.pareto(2.5, 20_000),
        # The load comes and goes every two hundred frames.
        'step': rng.lognormal(0, 0.1, 20_000) * (1 + np.arange(20_000) // 200 % 2),
    }[draw]
    bound, exceeded = AdaptiveBound(values[:20].tolist()), 0
    for value in values.tolist():
        exceeded += value > bound.bound(target)
        bound.observe(value, target)
    assert exceeded / len(values) <= 1.1 * target
    assert exceeded > 0


def test_a_copy_goes_its_own_way():
    bound = AdaptiveBound([1.0] * 10)
    bound.observe(2.0, 0.01)
    twin = bound.copy()
    assert twin.bound(0.01) == bound.bound(0.01)
    for _ in range(WINDOW):
        twin.observe(1.0, 0.01)
    assert twin.bound(0.01) < bound.bound(0.01)


def test_a_bound_under_which_nothing_is_tried_any_more_comes_back():
    bound = AdaptiveBound([1.0])
    for _ in range(5):
        bound.observe(1000.0, 0.01)
    assert bound.bound(0.01) > 100
    for _ in range(LIFETIME + 1):
        bound.pass_frame(0.01)
    assert bound.bound(0.01) == 1
    bound.observe(2.0, 0.01)
    assert bound.share_within(1.5) == 0.5


def test_a_guess_gives_way_to_what_was_seen():
    bound = AdaptiveBound([1.0])
    for case in range(ENOUGH):
        assert bound.bound(0.01) == 1
        assert bound.cases == case
        bound.observe(0.1, 0.01)
    assert bound.bound(0.01) == pytest.approx(0.1)


@given(values=VALUES, limit=st.floats(0, 60))
def test_the_chance_beyond_a_limit_is_never_nothing(values, limit):
    bound = AdaptiveBound(values)
    beyond = bound.chance_beyond(limit)
    assert 0 < beyond <= 1
    assert beyond >= 1 - bound.share_within(limit) - 1e-12
