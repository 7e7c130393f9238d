"""Go on, or stop, and why.

A policy knows no clock and draws no lots: every time comes as an argument, so that a recorded run
gives the same decisions whenever it is played again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import inf, isnan
from typing import Protocol

from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.quality.exit_rules import leaves
from anytime_dnn_ros.quality.judge import Judgement
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.margin import ADAPTATION, ENOUGH, AdaptiveBound
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.timing.slowdown import StageTimes

# What stands in until publishing has been seen, and for a timer that nobody has measured.
FIRST_PUBLISH_GUESS_S = 0.001
# A stage that the timer can cut is begun where it fits in this share of cases; one that was begun
# on the frame before, where it fits in the smaller share: a ladder that stops now here, now there
# has a restless age.
WORTH_BEGINNING, WORTH_REPEATING = 0.2, 0.1
# A longer lead makes an unfinished path likelier, which asks for a longer lead.
LEAD_STEPS = 2
# Share of cases in which the timer may be later than its lead where it is hardly ever needed.
MOST_LATE = 0.9
# How far one frame whose declared accuracy is off the target moves the price of compute.
PRICE_STEP = 0.02


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
        miss_rate_target: Accepted share of frames whose deadline is missed, 0..1.
        confidence_target: Stop once an answer is this confident, 0..1; 0 turns it off.
        exit_rule: Stop once this rule of the bundle finds an answer good enough; None turns it
            off.
        compute_price: How much expected accuracy a whole ladder's compute has to bring, 0..1;
            stages that bring less for their share of it are not run (the cost k of McGill and
            Perona, "Deciding how to decide", ICML 2017).
        accuracy_target: Run only what keeps the mean declared accuracy at this, 0..1: the price
            of compute is then found by the planner; 0 turns it off.
        yield_to_newer: Stop after the first stage as soon as a newer frame waits.
    """

    miss_rate_target: float = 0.01
    confidence_target: float = 0.0
    exit_rule: ExitRule | None = None
    compute_price: float = 0.0
    accuracy_target: float = 0.0
    yield_to_newer: bool = False


@dataclass(frozen=True)
class Situation:
    """What a policy knows when it has to decide.

    Attributes:
        stage: Stages that have run on this frame; 0 before the first.
        time_left_s: Until the deadline, seconds.
        judgement: Of the answer after `stage`; None before the first.
        newer_waits: Whether a newer frame is in the slot.
    """

    stage: int
    num_stages: int
    time_left_s: float
    judgement: Judgement | None
    newer_waits: bool = False


class Policy(Protocol):
    """Decides for one frame after the other; one caller at a time."""

    @property
    def slowdown(self) -> float:
        """Present over reference stage time; NaN for a policy that has no such estimate."""

    @property
    def margin(self) -> float:
        """Safety factor on the expected time of one stage; NaN likewise."""

    def plan(self, situation: Situation) -> StopReason:
        """`StopReason.NONE` to start the next stage, else why to stop. Stage 0: a frame begins."""

    def lead_s(self) -> float:
        """How long before the deadline the timer publishes what there is; -inf = no timer."""

    def observe_stage(self, stage: int, took_s: float, *, finished: bool) -> None:
        """Takes the time of a stage (0-based); one that was cut took at least that long."""

    def observe_publish(self, took_s: float, *, by_timer: bool) -> None:
        """Takes the time from the decision, or from the timer's instant, to the answer out."""

    def observe_frame(self, *, missed: bool, expected_accuracy: float) -> None:
        """Takes whether no stage was in time, and the declared accuracy, which may be NaN."""

    def observe_load(self, load: LoadSignal | None) -> None:
        """Takes the monitor's word; None: it is silent."""


class Planner:
    """The policy of this package: a miss rate that the user sets, and the most accuracy within.

    Where the engine can cut a stage, one is begun that is likely enough to be done, and the timer
    publishes the earlier answer before the deadline if it is not: just so early that stage and
    timer are both late in no more than a share `miss_rate_target` of cases. Where it cannot, only
    a stage is begun that fits in all but that share. All bounds are distribution-free.

    Args:
        reference: Stage times on this machine.
        macs: Of each stage alone.
        goals: May be replaced at any time.
        can_cut: Whether the engine can stop inside a stage.
        threads: Of the engine.
        timer_late_s: Seconds by which a timer wakes late on this machine at rest.
    """

    def __init__(
        self,
        reference: ReferenceTimes,
        macs: Iterable[float],
        goals: Goals | None = None,
        *,
        can_cut: bool = True,
        threads: int = 1,
        timer_late_s: Sequence[float] = (FIRST_PUBLISH_GUESS_S,),
    ) -> None:
        self.goals = goals or Goals()
        self.times = StageTimes(reference, threads)
        self._macs = [float(m) for m in macs]
        self._can_cut = can_cut
        self._publish = AdaptiveBound([FIRST_PUBLISH_GUESS_S])
        # At rest, to the wake-up; and what frames have shown, to the answer out.
        self._timer_at_rest = AdaptiveBound(timer_late_s)
        self._timer = AdaptiveBound([FIRST_PUBLISH_GUESS_S])
        self._lead_s = FIRST_PUBLISH_GUESS_S
        # Stages that the frame before was allowed to begin.
        self._begun = 0
        self._begun_before = 0
        self._price = 0.0
        # How much of the accepted share of misses was used up lately.
        self._overdrawn = 0.0

    def use_engine(self, reference: ReferenceTimes, *, can_cut: bool, threads: int) -> None:
        """Plans for an engine that has taken over: what the stages of another took says nothing.

        Called between frames, by the thread that plans.

        Args:
            reference: Its stage times on this machine.
            can_cut: Whether it can stop inside a stage.
            threads: Of it.
        """
        self.times = StageTimes(reference, threads)
        self._can_cut = can_cut

    @property
    def slowdown(self) -> float:
        """Present over reference stage time."""
        return self.times.slowdown

    @property
    def margin(self) -> float:
        """Safety factor on the expected time of one stage."""
        return self.times.margin(1, self.goals.miss_rate_target)

    @property
    def price(self) -> float:
        """Expected accuracy that a whole ladder's compute has to bring, as it is now."""
        return self._price if self.goals.accuracy_target else self.goals.compute_price

    def plan(self, situation: Situation) -> StopReason:
        """Whether to start the next stage; see `Policy`."""
        stage, goals, judgement = situation.stage, self.goals, situation.judgement
        if judgement is None or stage == 0:
            self._begin_frame(situation)
            return StopReason.NONE
        if stage >= situation.num_stages:
            return StopReason.FINISHED
        newest = judgement.newest
        if 0 < goals.confidence_target <= judgement.answer.confidence:
            return StopReason.CONFIDENT
        if goals.exit_rule and leaves(goals.exit_rule, stage - 1, newest.probabilities):
            return StopReason.CONFIDENT
        if goals.yield_to_newer and situation.newer_waits:
            return StopReason.PREEMPTED
        return self._go_on(situation, judgement)

    def lead_s(self) -> float:
        """How long before the deadline the timer publishes; see `Policy`."""
        return self._lead_s

    def observe_stage(self, stage: int, took_s: float, *, finished: bool) -> None:
        """Takes the time of a stage; see `Policy`."""
        observe = self.times.observe if finished else self.times.observe_cut
        observe(stage, took_s, self.goals.miss_rate_target)

    def observe_publish(self, took_s: float, *, by_timer: bool) -> None:
        """Takes the time from decision or instant to the answer out; see `Policy`."""
        target = self.goals.miss_rate_target
        if by_timer and not self._timer.cases:
            self._timer = AdaptiveBound([self._timer_bound(target)])
        (self._timer if by_timer else self._publish).observe(took_s, target)

    def observe_frame(self, *, missed: bool, expected_accuracy: float) -> None:
        """Counts misses, and moves the price of compute to the accuracy target; see `Policy`."""
        target = self.goals.miss_rate_target
        self._overdrawn = min(target, max(0.0, self._overdrawn + ADAPTATION * (missed - target)))
        if self.goals.accuracy_target and not isnan(expected_accuracy):
            surplus = expected_accuracy - self.goals.accuracy_target
            self._price = min(1.0, max(0.0, self._price + PRICE_STEP * surplus))

    def observe_load(self, load: LoadSignal | None) -> None:
        """Takes the monitor's word; see `Policy`."""
        self.times.observe_load(load)

    def _begin_frame(self, situation: Situation) -> None:
        self.times.begin_frame()
        self._timer.pass_frame(self.goals.miss_rate_target)
        self._begun_before, self._begun = self._begun, 0
        # A forecast is the last resort: it goes out as late as it can, and never much earlier, for
        # the first stage's answer is worth more than a forecast in time.
        unfinished = self.times.chance_beyond(0, 0, situation.time_left_s)
        may_be_late = self.goals.miss_rate_target / unfinished
        self._lead_s = self._timer_bound(min(MOST_LATE, max(0.5, may_be_late)))

    def _timer_bound(self, target: float) -> float:
        """Time from the timer's instant to the answer out, exceeded in a share `target`."""
        if self._timer.cases >= ENOUGH:
            return self._timer.bound(target)
        at_rest_s = self._timer_at_rest.bound(target) + self._publish.bound(target)
        return max(at_rest_s, self._timer.bound(target)) if self._timer.cases else at_rest_s

    def _lead_for(self, first: int, last: int, time_left_s: float) -> float:
        """The lead with which a path that may be cut misses no more than the accepted share.

        A frame is missed if the path is not done when the timer's instant comes *and* the timer
        is later than its lead: the surer the path, the less the timer needs.
        """
        # Misses that the first stage alone is to blame for leave less to the others.
        target = max(0.0, self.goals.miss_rate_target - self._overdrawn)
        lead_s = self._timer_bound(MOST_LATE)
        for _ in range(LEAD_STEPS):
            unfinished = self.times.chance_beyond(first, last, time_left_s - lead_s)
            lead_s = self._timer_bound(min(MOST_LATE, target / unfinished))
        return lead_s

    def _share_fitting(self, first: int, last: int, time_left_s: float) -> float:
        """How likely the stages first..last are done before the deadline asks for an answer."""
        target = self.goals.miss_rate_target
        if self._can_cut:
            cut_s = time_left_s - self._lead_for(first, last, time_left_s)
            share = self.times.share_fitting(first, last, cut_s)
            worth = WORTH_REPEATING if last < self._begun_before else WORTH_BEGINNING
            return share if share >= worth else 0.0
        needed_s = self.times.expected_s(first, last) * self.times.margin(last - first + 1, target)
        return float(needed_s + self._publish.bound(target) <= time_left_s)

    def _go_on(self, situation: Situation, judgement: Judgement) -> StopReason:
        """Whether a path to any later stage is worth its cost, all of it together."""
        stage, left_s = situation.stage, situation.time_left_s
        whole = sum(self._macs)
        fits = False
        best = -inf
        for last in range(stage, situation.num_stages):
            share = self._share_fitting(stage, last, left_s)
            if not share:
                break
            fits = True
            gain = judgement.expected_later[last - stage] - judgement.expected_accuracy
            # Nothing is known of the gain: the later answer is taken for the better one.
            gain = 1.0 if isnan(gain) else gain
            cost = sum(self._macs[stage : last + 1]) / whole
            best = max(best, share * gain - self.price * cost)
        if not fits:
            return StopReason.DEADLINE
        if best <= 0:
            return StopReason.NO_GAIN
        self._begun = stage + 1
        self._lead_s = self._lead_for(stage, stage, left_s)
        return StopReason.NONE
