from math import nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.timing.load import (
    MOST_SLOWDOWN,
    THROTTLED_SLOWDOWN,
    LoadSignal,
    OwnShare,
    absurdity,
    predicted_slowdown,
)

ANY = st.floats(allow_nan=True, allow_infinity=True)


@pytest.mark.parametrize(
    ('load', 'expected'),
    [
        (LoadSignal(1), 1.0),
        (LoadSignal(1, cpu_percent=50, num_cores=2), 1.0),
        # Two busy cores and one thread of ours: three on two.
        (LoadSignal(3, cpu_percent=100, num_cores=2), 1.5),
        # One of them is our own.
        (LoadSignal(3, cpu_percent=100, own_cores=1.0, num_cores=2), 1.0),
        (LoadSignal(1, cpu_percent=10, num_cores=4, freq_ratio=0.5), 2.0),
        (LoadSignal(3, cpu_percent=100, num_cores=2, freq_ratio=0.75), 2.0),
        (LoadSignal(5, throttled=1.0), THROTTLED_SLOWDOWN),
        # The clock says it already.
        (LoadSignal(5, throttled=1.0, freq_ratio=0.8), 1.25),
        (LoadSignal(5, freq_ratio=1e-9), MOST_SLOWDOWN),
        (LoadSignal(1, cpu_percent=1e9, freq_ratio=-3, throttled=7), 1.0),
        (LoadSignal(0, cpu_percent=nan, throttled=nan), 1.0),
    ],
)
def test_what_the_load_predicts(load, expected):
    assert predicted_slowdown(load) == pytest.approx(expected)


def test_a_wide_engine_suffers_more():
    load = LoadSignal(3, cpu_percent=100, num_cores=4)
    assert predicted_slowdown(load, threads=4) == 2.0
    assert predicted_slowdown(load, threads=1) == 1.25


@given(cpu=ANY, own=st.floats(0, 64), freq=ANY, throttled=ANY, cores=st.integers(1, 256))
def test_a_lying_monitor_never_gives_more_than_the_limit(cpu, own, freq, throttled, cores):
    load = LoadSignal(3, cpu, own, cores, freq, throttled)
    assert 1 <= predicted_slowdown(load, threads=2) <= MOST_SLOWDOWN


def test_the_own_share_is_processor_time_over_time():
    own = OwnShare(now_s=10.0, used_s=3.0)
    assert own.cores(12.0, 4.0) == pytest.approx(0.5)
    # Two messages at once.
    assert own.cores(12.0, 4.0) == pytest.approx(0.5)
    assert own.cores(13.0, 6.0) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ('cpu_percent', 'freq_ratio', 'what'),
    [
        (-0.5, 0.5, 'cpu_percent = -0.5'),
        (1e9, 0.5, 'cpu_percent = 1e+09'),
        (float('inf'), nan, 'cpu_percent = inf'),
        (50.0, 1.5, 'cpu_freq_ratio = 1.5'),
        (nan, -1.0, 'cpu_freq_ratio = -1'),
        (0.0, 1.0, ''),
        (100.0, 0.0, ''),
        (nan, nan, ''),
    ],
)
def test_what_no_machine_can_say_of_itself(cpu_percent, freq_ratio, what):
    assert absurdity(cpu_percent, freq_ratio) == what
