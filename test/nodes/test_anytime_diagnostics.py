from time import monotonic

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from anytime_dnn_ros.nodes.anytime_diagnostics import FAULT_TOLD_S, NodeHealth, anytime_status
from anytime_dnn_ros.runner import Counters


def status(health, counters):
    return anytime_status(
        health, counters, fault='', load_timeout_s=3.0, slowdown=1.0, engine=None
    )


@pytest.fixture
def health():
    now_s = monotonic()
    return NodeHealth(activated_s=now_s, last_frame_s=now_s)


def test_a_refused_frame_warns_for_a_while_and_then_no_more(health):
    counters = Counters(received=2, answered=1)
    counters.dropped['stamp_zero'] = 1
    health.last_fault_s = monotonic()
    said = status(health, counters)
    assert (said.level, said.message) == (DiagnosticStatus.WARN, 'frames refused: stamp_zero 1')
    health.last_fault_s -= FAULT_TOLD_S
    assert status(health, counters).level == DiagnosticStatus.OK


def test_each_missed_deadline_is_told_once(health):
    counters = Counters(received=5, answered=5, missed=2)
    said = status(health, counters)
    assert (said.level, said.message[:18]) == (DiagnosticStatus.WARN, '2 deadlines missed')
    assert status(health, counters).level == DiagnosticStatus.OK


def test_a_silent_camera_warns(health):
    health.activated_s = health.last_frame_s = monotonic() - 5
    assert 'no camera frame' in status(health, Counters()).message
