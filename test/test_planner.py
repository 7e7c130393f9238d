from dataclasses import replace

import pytest

from anytime_dnn_ros.planner import Goals, NextStage, StopReason, plan

ROOM = NextStage(stages_run=1, num_stages=3, confidence=0.6, time_left_s=0.05, expected_s=0.02)


@pytest.mark.parametrize(
    ('state', 'goals', 'expected'),
    [
        (ROOM, Goals(), StopReason.NONE),
        (replace(ROOM, expected_s=0.05), Goals(), StopReason.NONE),
        (replace(ROOM, expected_s=0.051), Goals(), StopReason.DEADLINE),
        (replace(ROOM, time_left_s=-1.0, expected_s=0.0), Goals(), StopReason.DEADLINE),
        (ROOM, Goals(confidence_target=0.6), StopReason.CONFIDENT),
        (ROOM, Goals(confidence_target=0.61), StopReason.NONE),
        (replace(ROOM, confidence=1.0), Goals(confidence_target=0.0), StopReason.NONE),
        (replace(ROOM, stages_run=3), Goals(), StopReason.FINISHED),
        # The ladder's end says more than the clock or the confidence.
        (replace(ROOM, stages_run=3, time_left_s=-1.0), Goals(0.1), StopReason.FINISHED),
    ],
)
def test_go_on_or_stop_and_why(state, goals, expected):
    assert plan(state, goals) is expected
