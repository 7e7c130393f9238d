"""The policies that are compared: ours, those of others, and the simple ones.

All of them are told the same, know no clock, and may stop at any stage after the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, inf, nan, sqrt

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.planner import (
    FIRST_PUBLISH_GUESS_S,
    Goals,
    Planner,
    Policy,
    Situation,
    StopReason,
)
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.reference import ReferenceTimes

OURS, ORACLE, STATIC = 'ours', 'oracle', 'static_'
# Share by which one observation moves a running mean.
SMOOTHING = 0.1


@dataclass(frozen=True)
class Ladder:
    """What every policy knows of the ladder and of the machine at rest.

    Attributes:
        reference: Stage times on this machine.
        macs: Of each stage alone.
        can_cut: Whether the engine can stop inside a stage.
        threads: Of the engine.
        timer_late_s: Seconds by which a timer wakes late at rest; empty if not measured.
    """

    reference: ReferenceTimes
    macs: tuple[float, ...]
    can_cut: bool = True
    threads: int = 1
    timer_late_s: tuple[float, ...] = ()

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return len(self.macs)


def policy_names(num_stages: int) -> list[str]:
    """Names of all policies for a ladder of so many stages."""
    statics = [f'{STATIC}{k}' for k in range(1, num_stages + 1)]
    return [OURS, 'alert', 'fixed_p99', 'greedy', *statics, ORACLE]


def chosen_policies(text: str, num_stages: int) -> list[str]:
    """The policies that `--policies` names.

    Args:
        text: `all`, or names with commas between them; `static_k` means one for every k.
        num_stages: Of the ladder.

    Raises:
        ConfigurationError: A name is unknown for such a ladder, or there is none.
    """
    known = policy_names(num_stages)
    chosen: list[str] = []
    for word in text.split(','):
        name = word.strip()
        several = {'all': known, 'static_k': [n for n in known if n.startswith(STATIC)]}
        names = several.get(name, [name])
        if not set(names) <= set(known):
            raise ConfigurationError(
                f'no policy {name!r} for a ladder of {num_stages} stages: give all, or some of '
                f'{", ".join(known)} with commas between them'
            )
        chosen += [n for n in names if n not in chosen]
    return chosen


def make_policy(name: str, ladder: Ladder, goals: Goals) -> Policy:
    """A fresh policy that has seen nothing.

    Args:
        name: One of `policy_names`; not the oracle, which is computed afterwards.
        ladder: What it knows from the start.
        goals: What the user asks for.

    Raises:
        ConfigurationError: There is no such policy.
    """
    if name == OURS:
        return Planner(
            ladder.reference,
            ladder.macs,
            goals,
            can_cut=ladder.can_cut,
            threads=ladder.threads,
            timer_late_s=ladder.timer_late_s or (FIRST_PUBLISH_GUESS_S,),
        )
    if name == 'alert':
        return Alert(ladder.reference, goals.miss_rate_target)
    if name == 'fixed_p99':
        return FixedP99(ladder.reference)
    if name == 'greedy':
        return Greedy()
    if name in policy_names(ladder.num_stages) and name.startswith(STATIC):
        return Static(int(name.removeprefix(STATIC)))
    raise ConfigurationError(f'{name!r} is no policy that runs: give one of policy_names()')


class Greedy:
    """No planner: runs every stage; the timer publishes what there is.

    Also the base of the policies with a timer: it fires at the deadline less what publishing by
    the timer takes on average.
    """

    def __init__(self) -> None:
        self._publish_s = FIRST_PUBLISH_GUESS_S
        self._timer_s = FIRST_PUBLISH_GUESS_S

    @property
    def slowdown(self) -> float:
        """Not estimated."""
        return nan

    @property
    def margin(self) -> float:
        """Not estimated."""
        return nan

    def plan(self, situation: Situation) -> StopReason:
        """Goes on where the next stage is likely to be done in time; see `Policy`."""
        if situation.stage >= situation.num_stages:
            return StopReason.FINISHED
        # The first stage is mandatory.
        if situation.stage == 0 or self._fits(
            situation.stage, situation.time_left_s - self._publish_s
        ):
            return StopReason.NONE
        return StopReason.DEADLINE

    def lead_s(self) -> float:
        """Mean time from the timer's instant to the answer out."""
        return self._timer_s

    def observe_stage(self, stage: int, took_s: float, *, finished: bool) -> None:
        """Nothing to learn from it."""

    def observe_publish(self, took_s: float, *, by_timer: bool) -> None:
        """Moves the running means."""
        if by_timer:
            self._timer_s += SMOOTHING * (took_s - self._timer_s)
        else:
            self._publish_s += SMOOTHING * (took_s - self._publish_s)

    def observe_frame(self, *, missed: bool, expected_accuracy: float) -> None:
        """Nothing to learn from it."""

    def observe_load(self, load: LoadSignal | None) -> None:
        """Nothing to learn from it."""

    def _fits(self, stage: int, time_left_s: float) -> bool:
        """Whether the stage (0-based) is worth beginning with so much time left, seconds."""
        return True


class Static(Greedy):
    """Always the same number of stages and no timer: a plain network of that cost."""

    def __init__(self, stages: int) -> None:
        super().__init__()
        self._stages = stages

    def plan(self, situation: Situation) -> StopReason:
        """Ends after its stage; see `Policy`."""
        return StopReason.NONE if situation.stage < self._stages else StopReason.FINISHED

    def lead_s(self) -> float:
        """No timer."""
        return -inf


class FixedP99(Greedy):
    """Goes on where the 99th percentile of the next stage, measured beforehand, still fits.

    As VALO (Soyyigit et al. 2024) and MURAL plan with offline percentiles.
    """

    def __init__(self, reference: ReferenceTimes) -> None:
        super().__init__()
        self._p99_s: Sequence[float] = [float(t) for t in reference.p99_s]

    def _fits(self, stage: int, time_left_s: float) -> bool:
        return self._p99_s[stage] <= time_left_s


class Alert(Greedy):
    """Kalman filter on a slowdown common to all stages, and a Gaussian tail.

    Wan et al., "ALERT: accurate learning for energy and timeliness", USENIX ATC 2020, with its
    constants. A stage whose chance to meet the deadline is at least one less the accepted miss
    rate is begun.

    Args:
        reference: Stage times on this machine.
        miss_rate_target: Accepted share of frames whose deadline is missed, 0..1.
    """

    ALPHA, LEAST_Q, R = 0.3, 0.1, 0.001

    def __init__(self, reference: ReferenceTimes, miss_rate_target: float) -> None:
        super().__init__()
        self._reference_s = [float(t) for t in reference.median_s]
        self._target = miss_rate_target
        self._mean, self._gain, self._noise, self._variance = 1.0, 0.5, self.LEAST_Q, 0.1

    @property
    def slowdown(self) -> float:
        """Mean of the filter."""
        return self._mean

    def observe_stage(self, stage: int, took_s: float, *, finished: bool) -> None:
        """Takes one slowdown; a lower bound teaches only what is more than expected."""
        surprise = took_s / self._reference_s[stage] - self._mean
        if not finished and surprise < 0:
            return
        self._noise = max(
            self.LEAST_Q,
            self.ALPHA * self._noise + (1 - self.ALPHA) * (self._gain * surprise) ** 2,
        )
        # The variance before the observation is also what the next one is predicted with.
        self._variance = (1 - self._gain) * self._variance + self._noise
        self._gain = self._variance / (self._variance + self.R)
        self._mean += self._gain * surprise

    def _fits(self, stage: int, time_left_s: float) -> bool:
        distance = (time_left_s / self._reference_s[stage] - self._mean) / sqrt(self._variance)
        return (1 + erf(distance / sqrt(2))) / 2 >= 1 - self._target
