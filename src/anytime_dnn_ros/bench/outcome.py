"""What became of the frames of one pass, whether it ran live, through DDS or replayed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import nan
from typing import Any

from anytime_dnn_ros.bench.deadlines import Deadline

# Expected accuracies that differ by less say the same; they are 32-bit in messages.
SAME_ACCURACY = 1e-6
REPLACED = 'replaced'


@dataclass(frozen=True)
class Published:
    """One answer that got out.

    Attributes:
        at_s: When, on the clock of the pass.
        stage: Stages behind it; 0 = forecast.
        named: Index of the most likely class.
        declared: Expected accuracy, 0..1; NaN if none was declared.
    """

    at_s: float
    stage: int
    named: int
    declared: float


@dataclass(frozen=True)
class FrameOutcome:
    """One camera frame.

    Attributes:
        arrival_s: When it came, seconds from the start of the pass.
        due_s: When its answer was due.
        label: Index of the true class.
        published: Its answers in order; the last one is final if the frame was answered.
        answered: Whether the last of `published` is final.
        dropped: Why it got no answer; `replaced` = a newer frame came while it waited.
        cut_to_result_s: From the timer's planned instant, or a cancel, to the answer out; NaN
            where the worker ended the frame.
    """

    arrival_s: float
    due_s: float
    label: int
    published: tuple[Published, ...] = ()
    answered: bool = False
    dropped: str = ''
    cut_to_result_s: float = nan

    @property
    def final(self) -> Published | None:
        """The final answer."""
        return self.published[-1] if self.answered else None

    @property
    def replaced(self) -> bool:
        """Whether it never had its turn, because a newer frame came."""
        return self.dropped == REPLACED

    @property
    def in_time(self) -> bool:
        """Whether the answer of a stage was out by the deadline."""
        final = self.final
        return final is not None and final.stage > 0 and final.at_s <= self.due_s

    @property
    def right(self) -> bool:
        """Whether the answer of a stage was out by the deadline, and right."""
        return self.in_time and self.published[-1].named == self.label

    @property
    def declared_fell(self) -> bool:
        """Whether a later answer of a stage declared less than an earlier one."""
        known = [p.declared for p in self.published if p.stage > 0]
        return any(b < a - SAME_ACCURACY for a, b in pairwise(known))


@dataclass(frozen=True)
class Pass:
    """One policy against one deadline under one load.

    Attributes:
        frames: In order of their arrival.
        onset_s: When load came on, on the clock of the pass; None if never.
        loaded_s: From when to when there was load, likewise.
        energy_j: Joules of the processor packages meanwhile; None where nobody can tell.
        decision_s: Time of each decision of the policy; empty where it was not taken.
        others_percent: Load by other processes just before, 0..100; None where not measured.
        decisions: Every decision as `frame/stage:reason`, of a replay.
    """

    load: str
    deadline_ms: float
    policy: str
    frames: tuple[FrameOutcome, ...]
    onset_s: float | None
    loaded_s: tuple[tuple[float, float], ...] = ()
    energy_j: float | None = None
    decision_s: tuple[float, ...] = ()
    others_percent: float | None = None
    decisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """What a run of the bench found.

    Attributes:
        passes: All of them.
        deadlines: That were tried, and why these.
        source: `live`, `ros` or `replayed`.
        setup: What was run, for the reader.
    """

    passes: tuple[Pass, ...]
    deadlines: tuple[Deadline, ...]
    source: str
    setup: dict[str, Any]
