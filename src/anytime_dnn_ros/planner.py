"""Go on, or stop, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.quality.exit_rules import leaves


class StopReason(IntEnum):
    """Why a frame's refinement ended; the numbers are `AnytimePrediction.STOP_*`."""

    NONE = 0
    FINISHED = 1
    DEADLINE = 2
    CONFIDENT = 3
    NO_GAIN = 4
    PREEMPTED = 5
    CANCELLED = 6
    STALE = 7
    FORECAST = 8


@dataclass(frozen=True)
class Goals:
    """What the user asks of the planner.

    Attributes:
        confidence_target: Stop once an answer is this confident, 0..1; 0 turns it off.
        miss_rate_target: Accepted share of frames whose deadline is missed, 0..1.
        exit_rule: Stop once this rule of the bundle finds an answer good enough; None turns it
            off.
    """

    confidence_target: float = 0.0
    miss_rate_target: float = 0.01
    exit_rule: ExitRule | None = None


@dataclass(frozen=True)
class NextStage:
    """What the planner knows when a stage has answered.

    Attributes:
        answer: The newest one.
        time_left_s: Until the deadline, less the time publishing takes; seconds.
        expected_s: Reference time of the next stage times slowdown and margin; seconds.
    """

    answer: Answer
    num_stages: int
    time_left_s: float
    expected_s: float


def plan(state: NextStage, goals: Goals) -> StopReason:
    """Whether to start the next stage.

    Returns:
        `StopReason.NONE` to go on, else why to stop.
    """
    answer = state.answer
    if answer.stage >= state.num_stages:
        return StopReason.FINISHED
    if 0 < goals.confidence_target <= answer.confidence:
        return StopReason.CONFIDENT
    if goals.exit_rule and leaves(goals.exit_rule, answer.stage - 1, answer.probabilities):
        return StopReason.CONFIDENT
    if state.expected_s > state.time_left_s:
        return StopReason.DEADLINE
    return StopReason.NONE
