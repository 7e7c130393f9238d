import numpy as np

from anytime_dnn_ros.timing.reference import ReferenceTimes, measure_reference_times


def test_statistics_are_per_stage():
    times = ReferenceTimes(np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 60.0]]))
    np.testing.assert_array_equal(times.median_s, [2, 20])
    np.testing.assert_allclose(times.p99_s, [2.98, 59.2])
    np.testing.assert_allclose(times.ratios, [0.5, 0.5, 1, 1, 1.5, 3])


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
