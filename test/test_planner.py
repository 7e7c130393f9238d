from dataclasses import replace

import numpy as np
import pytest

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.planner import Goals, NextStage, StopReason, plan

LIKELY = np.array([0.6, 0.4], np.float32)
FIRST = Answer(1, LIKELY, 0.6)
SECOND, LAST = replace(FIRST, stage=2), replace(FIRST, stage=3)
ROOM = NextStage(FIRST, num_stages=3, time_left_s=0.05, expected_s=0.02)
# Leaves the first exit at a largest probability of 0.7, the second at 0.5.
RULE = ExitRule('max_softmax', 1e6, 0.9, ((-0.7, 1.0, 0.0, 0.0), (-0.5, 1.0, 0.0, 0.0)))


@pytest.mark.parametrize(
    ('state', 'goals', 'expected'),
    [
        (ROOM, Goals(), StopReason.NONE),
        (replace(ROOM, expected_s=0.05), Goals(), StopReason.NONE),
        (replace(ROOM, expected_s=0.051), Goals(), StopReason.DEADLINE),
        (replace(ROOM, time_left_s=-1.0, expected_s=0.0), Goals(), StopReason.DEADLINE),
        (ROOM, Goals(confidence_target=0.6), StopReason.CONFIDENT),
        (ROOM, Goals(confidence_target=0.61), StopReason.NONE),
        (replace(ROOM, answer=replace(FIRST, confidence=1.0)), Goals(), StopReason.NONE),
        (ROOM, Goals(exit_rule=RULE), StopReason.NONE),
        (
            replace(ROOM, answer=SECOND),
            Goals(exit_rule=RULE),
            StopReason.CONFIDENT,
        ),
        # Whichever is content first stops.
        (ROOM, Goals(confidence_target=0.5, exit_rule=RULE), StopReason.CONFIDENT),
        (replace(ROOM, answer=LAST), Goals(), StopReason.FINISHED),
        (replace(ROOM, answer=LAST), Goals(exit_rule=RULE), StopReason.FINISHED),
        # The ladder's end says more than the clock or the confidence.
        (replace(ROOM, answer=LAST, time_left_s=-1.0), Goals(0.1), StopReason.FINISHED),
    ],
)
def test_go_on_or_stop_and_why(state, goals, expected):
    assert plan(state, goals) is expected
