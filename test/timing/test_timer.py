from anytime_dnn_ros.timing.timer import measure_timer_lateness


def test_a_wake_up_is_never_early():
    late_s = measure_timer_lateness(5)
    assert len(late_s) == 5
    assert all(0 <= late < 60 for late in late_s)
