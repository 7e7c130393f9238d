from dataclasses import replace
from math import inf, nan
from time import monotonic

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.frames import Counters
from anytime_dnn_ros.nodes.anytime_diagnostics import (
    FAULT_TOLD_S,
    NodeHealth,
    Serving,
    anytime_status,
)
from anytime_dnn_ros.quality.drift import DriftState

CALM = DriftState(500, 0.02, 0.1)
DRIFTED = DriftState(500, 0.4, 0.1)
ENGINE = EngineInfo(
    library='onnxruntime', version='1', device='CPU', threads=1, can_cancel=True, stages=()
)


def status(health, counters, *, drift=CALM, declared='held-out images'):
    serving = Serving(counters, ENGINE, 1.25, 0.05, declared, drift)
    return anytime_status(health, serving, fault='')


def values(said):
    return {v.key: v.value for v in said.values}


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


def test_forecasts_are_counted_and_told_with_the_mend(health):
    counters = Counters(received=5, answered=5, forecast=3)
    said = status(health, counters)
    assert said.level == DiagnosticStatus.WARN
    assert '3 forecasts' in said.message
    assert 'no stage was done by the deadline: raise deadline_ms' in said.message
    assert values(said)['frames_forecast'] == '3'
    assert status(health, counters).level == DiagnosticStatus.OK


def test_a_silent_camera_warns(health):
    health.activated_s = health.last_frame_s = monotonic() - 5
    assert 'no camera frame' in status(health, Counters()).message


def test_one_trouble_does_not_hide_another(health):
    health.activated_s = health.last_frame_s = monotonic() - 5
    health.load.hear_load(1e9, nan, monotonic())
    said = status(health, Counters(missed=1), drift=DRIFTED)
    for text in ('no camera frame', '1 deadlines missed', 'cpu_percent = 1e+09', 'have drifted'):
        assert text in said.message
    assert values(said)['load_signal'] == 'implausible'


def test_the_numbers_that_the_planner_goes_by_are_told(health):
    health.margin = 1.5
    said = values(status(health, Counters()))
    assert (said['slowdown'], said['margin'], said['compute_price']) == (
        '1.250',
        '1.500',
        '0.0500',
    )
    assert (said['confidence_drift'], said['confidence_drift_limit']) == ('0.020', '0.100')
    assert said['accuracy_counted_on'] == 'held-out images'


def test_a_bundle_that_declares_nothing_says_so_and_warns_of_nothing(health):
    said = status(health, Counters(), drift=DriftState(20, nan, inf), declared='')
    assert (said.level, said.message) == (DiagnosticStatus.OK, 'answering')
    assert values(said)['accuracy_counted_on'] == 'nothing: none is declared'
    assert values(said)['confidence_drift'] == 'nan'


def test_an_inactive_node_has_no_numbers_and_a_failed_one_its_fault(health):
    assert anytime_status(health, None, fault='').message == 'not active'
    failed = anytime_status(health, None, fault='Traceback\nValueError: no')
    assert (failed.level, failed.message) == (DiagnosticStatus.ERROR, 'ValueError: no')


def test_a_build_is_told_in_percent_whatever_went_before(health):
    said = anytime_status(health, None, fault='the last activate failed', build_percent=42.4)
    assert (said.level, said.message) == (DiagnosticStatus.OK, 'building engines: 42 %')
    assert values(said) == {'engine_build_percent': '42'}


@pytest.mark.parametrize('degraded', [True, False])
def test_an_engine_that_serves_for_another_one_warns_and_says_why(health, degraded):
    engine = replace(ENGINE, reason='tensorrt failed: no room', is_degraded=degraded)
    serving = Serving(Counters(), engine, 1.25, 0.05, 'held-out images', CALM)
    said = anytime_status(health, serving, fault='')
    assert values(said)['engine_reason'] == 'tensorrt failed: no room'
    assert said.level == (DiagnosticStatus.WARN if degraded else DiagnosticStatus.OK)
    assert ('onnxruntime serves in place of' in said.message) == degraded
