"""Go on, or stop, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


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
    """

    confidence_target: float = 0.0
    miss_rate_target: float = 0.01


@dataclass(frozen=True)
class NextStage:
    """What the planner knows when a stage has answered.

    Attributes:
        stages_run: How many stages have answered.
        confidence: Of the newest answer, 0..1.
        time_left_s: Until the deadline, less the time publishing takes; seconds.
        expected_s: Reference time of the next stage times slowdown and margin; seconds.
    """

    stages_run: int
    num_stages: int
    confidence: float
    time_left_s: float
    expected_s: float


def plan(state: NextStage, goals: Goals) -> StopReason:
    """Whether to start the next stage.

    Returns:
        `StopReason.NONE` to go on, else why to stop.
    """
    if state.stages_run >= state.num_stages:
        return StopReason.FINISHED
    if 0 < goals.confidence_target <= state.confidence:
        return StopReason.CONFIDENT
    if state.expected_s > state.time_left_s:
        return StopReason.DEADLINE
    return StopReason.NONE
