import math
from collections import namedtuple

import numpy as np
import psutil
import pytest

from anytime_dnn_ros.timing import reference
from anytime_dnn_ros.timing.reference import ReferenceTimes, measure_reference_times


def test_statistics_are_per_stage():
    times = ReferenceTimes(np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0]]))
    np.testing.assert_array_equal(times.median_s, [2, 20])
    np.testing.assert_allclose(times.p99_s, [2.98, 59.2])


def test_every_stage_runs_in_ladder_order_each_round():
    ran = []
    times = measure_reference_times(ran.append, 3, runs=4)
    assert ran == [0, 1, 2] * 4
    assert times.samples_s.shape == (4, 3)
    assert (times.samples_s > 0).all()


def test_a_slow_ladder_is_measured_twice_whatever_the_budget():
    ran = []
    times = measure_reference_times(ran.append, 2, runs=10, budget_s=0.0)
    assert ran == [0, 1] * 2
    assert times.samples_s.shape == (2, 2)


Cores = namedtuple('Cores', 'user nice system idle iowait guest')


def measured_load(monkeypatch, *looks, least_s=0.0):
    told = iter(looks)
    monkeypatch.setattr(reference, 'LEAST_LOAD_S', least_s)
    monkeypatch.setattr(psutil, 'cpu_times', lambda: next(told))
    return measure_reference_times(lambda stage: None, 1, runs=2).cpu_percent


def test_the_load_is_that_of_all_cores_while_it_measured(monkeypatch):
    # Half of the 8 s between the looks were busy; guests are in the user time.
    before, after = Cores(10, 0, 5, 80, 4, 2), Cores(13, 0, 6, 83, 5, 4)
    assert measured_load(monkeypatch, before, after) == pytest.approx(50)


def test_a_load_that_cannot_be_told_is_nan(monkeypatch):
    before, after = Cores(10, 0, 5, 80, 4, 2), Cores(13, 0, 6, 83, 5, 4)
    assert math.isnan(measured_load(monkeypatch, before, before)), 'no tick between'
    assert math.isnan(measured_load(monkeypatch, before, after, least_s=1e9)), 'too short'
    assert math.isnan(ReferenceTimes(np.ones((2, 1))).cpu_percent)

    def refuse():
        raise PermissionError

    monkeypatch.setattr(reference, 'LEAST_LOAD_S', 0.0)
    monkeypatch.setattr(psutil, 'cpu_times', refuse)
    assert math.isnan(measure_reference_times(lambda stage: None, 1, runs=2).cpu_percent)
