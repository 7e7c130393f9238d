import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.monitor.regime import Level, LoadJudge, Regime, Thresholds
from anytime_dnn_ros.monitor.sample import LoadSample


def _levels(level, values, step_s=1.0):
    found = []
    for index, value in enumerate(values):
        level.update(value, index * step_s)
        found.append(level.now)
    return found


def test_the_first_known_value_counts_at_once():
    assert _levels(Level((40.0, 90.0), 2.0), [math.nan, 95.0]) == [None, 2]


def test_a_change_must_hold_for_the_debounce_time():
    level = Level((50.0,), 2.0)
    assert _levels(level, [0, 60, 60, 0, 60, 60, 60]) == [0, 0, 0, 0, 0, 0, 1]


def test_without_debounce_a_change_counts_at_once():
    assert _levels(Level((50.0,), 0.0), [0, 60, 0]) == [0, 1, 0]


def test_a_level_is_left_only_below_its_hysteresis():
    level = Level((50.0,), 0.0, hysteresis=5.0)
    assert _levels(level, [50, 46, 45, 44, 46, 50]) == [1, 1, 1, 0, 0, 1]


def test_swinging_between_two_higher_levels_goes_to_the_nearer():
    level = Level((40.0, 90.0), 2.0)
    assert _levels(level, [0, 95, 60, 95, 60]) == [0, 0, 0, 1, 1]


def test_unknown_values_change_nothing():
    level = Level((50.0,), 2.0)
    assert _levels(level, [60, math.nan, math.nan, math.nan, 60]) == [1] * 5


@given(st.lists(st.floats(0.0, 100.0), min_size=1), st.floats(0.0, 10.0))
def test_a_level_was_asked_for_by_some_value(values, debounce_s):
    level = Level((40.0, 90.0), debounce_s, hysteresis=0.0)
    asked = [(v >= 40.0) + (v >= 90.0) for v in values]
    for found in _levels(level, values):
        assert found in asked


@pytest.mark.parametrize(
    ('sample', 'regime'),
    [
        (LoadSample(), Regime.UNKNOWN),
        (LoadSample(cpu_percent=5.0), Regime.IDLE),
        (LoadSample(cpu_percent=5.0, gpu_percent=60.0), Regime.BUSY),
        (LoadSample(cpu_percent=60.0), Regime.BUSY),
        (LoadSample(cpu_percent=95.0), Regime.SATURATED),
        (LoadSample(cpu_percent=95.0, memory_percent=97.0), Regime.MEMORY_PRESSURE),
        (LoadSample(psi_memory_some10=30.0), Regime.MEMORY_PRESSURE),
        (LoadSample(cpu_percent=5.0, memory_percent=97.0, throttled=1.0), Regime.THROTTLED),
    ],
)
def test_each_regime_has_its_cause(sample, regime):
    assert LoadJudge(Thresholds()).update(sample, 0.0) is regime


def test_a_burst_shorter_than_the_debounce_is_no_regime():
    judge = LoadJudge(Thresholds(debounce_s=2.0))
    loads = [5.0] * 10 + [99.0] * 15 + [5.0] * 30
    regimes = {judge.update(LoadSample(cpu_percent=load), 0.1 * i) for i, load in enumerate(loads)}
    assert regimes == {Regime.IDLE}


def test_warnings_name_what_is_over_its_threshold():
    judge = LoadJudge(Thresholds(temperature_warn_c=70.0))
    judge.update(LoadSample(cpu_percent=50.0, temperature_c=71.0), 0.0)
    assert judge.warnings == ('temperature over 70 °C',)
    judge = LoadJudge(Thresholds())
    judge.update(
        LoadSample(cpu_percent=99.0, memory_percent=99.0, psi_memory_some10=50.0, throttled=1.0),
        0.0,
    )
    assert [w.split()[0] for w in judge.warnings] == ['processor', 'memory', 'tasks', 'clocks']


def test_a_low_warning_threshold_keeps_the_levels_in_order():
    judge = LoadJudge(Thresholds(cpu_warn_percent=20.0))
    assert judge.update(LoadSample(cpu_percent=30.0), 0.0) is Regime.SATURATED
