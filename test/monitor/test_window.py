import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.monitor.sample import QUANTITIES, LoadSample
from anytime_dnn_ros.monitor.window import LoadWindow

PERCENT = st.floats(0.0, 100.0) | st.just(math.nan)


def _window(values, window_s=100.0):
    window = LoadWindow(window_s)
    for now_s, value in enumerate(values):
        window.add(float(now_s), LoadSample(cpu_percent=value, source='x'))
    return window.statistics()


@pytest.mark.filterwarnings('error')
def test_an_empty_window_knows_nothing():
    statistics = LoadWindow(5.0).statistics()
    assert statistics.samples == 0
    assert all(math.isnan(getattr(statistics.mean, name)) for name in QUANTITIES)


@pytest.mark.filterwarnings('error')
@given(st.lists(PERCENT, min_size=1, max_size=40))
def test_statistics_are_those_of_the_known_values(values):
    statistics = _window(values)
    known = [v for v in values if not math.isnan(v)]
    assert statistics.samples == len(values)
    found = [getattr(statistics, which).cpu_percent for which in ('mean', 'p50', 'p95', 'max')]
    if not known:
        assert all(map(math.isnan, found))
        return
    expected = [np.mean(known), np.median(known), np.percentile(known, 95), max(known)]
    assert found == pytest.approx(expected, abs=1e-9)


def test_a_quantity_nobody_knows_stays_unknown():
    assert math.isnan(_window([1.0, 2.0]).p95.gpu_percent)


def test_samples_older_than_the_window_are_forgotten():
    statistics = _window([100.0, 100.0, 10.0, 20.0], window_s=2.0)
    assert statistics.samples == 2
    assert statistics.mean.cpu_percent == 15.0


def test_a_core_that_was_offline_counts_only_while_it_was_on():
    window = LoadWindow(10.0)
    window.add(0.0, LoadSample(cpu_percent_per_core=(10.0,)))
    window.add(1.0, LoadSample(cpu_percent_per_core=(30.0, 80.0), source='psutil'))
    statistics = window.statistics()
    assert statistics.mean.cpu_percent_per_core == (20.0, 80.0)
    assert statistics.max.cpu_percent_per_core == (30.0, 80.0)
    assert statistics.max.source == 'psutil'
