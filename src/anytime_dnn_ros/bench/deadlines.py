"""Deadlines that tell policies apart on this machine, from a short measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from anytime_dnn_ros.bench.trace import FrameTrace, Recording
from anytime_dnn_ros.errors import ConfigurationError

LEAST_MS, MOST_MS = 1.0, 60_000.0
# The order statistic that a short measurement knows, and what a machine may be slower in one
# minute than in another: on the very edge a policy's figures are those of the minute.
KNOWN_SHARE, HEADROOM = 0.95, 1.5
# Deadlines are whole tenths of a millisecond.
STEPS_PER_S, STEPS_PER_MS = 10_000, 10


@dataclass(frozen=True)
class Deadline:
    """A deadline and why it is one."""

    ms: float
    why: str


def given_deadlines(text: str) -> tuple[Deadline, ...]:
    """The deadlines that `--deadlines` names, milliseconds with commas between them.

    Raises:
        ConfigurationError: A word is no deadline.
    """
    deadlines = []
    for word in text.split(','):
        try:
            ms = float(word)
        except ValueError:
            ms = -1.0
        if not LEAST_MS <= ms <= MOST_MS:
            raise ConfigurationError(
                f'--deadlines {text}: {word.strip()!r} is no deadline; give auto, or milliseconds '
                f'from {LEAST_MS:g} to {MOST_MS:g} with commas between them'
            )
        deadlines.append(Deadline(ms, 'as given'))
    return tuple(dict.fromkeys(deadlines))


def auto_deadlines(
    rest: Sequence[FrameTrace], loaded: Sequence[FrameTrace]
) -> tuple[Deadline, ...]:
    """Three deadlines: what the first stage can always keep, what all can at rest, the middle.

    Args:
        rest: Frames that ran without load.
        loaded: Frames that ran under load.

    Returns:
        Rising; fewer than three where two are the same.
    """
    # A core that was asleep may take longer than one that others keep awake.
    first_s = HEADROOM * max(
        _met_by([f.fit_s + f.stage_s[0] + f.publish_s for f in frames])
        for frames in (rest, loaded)
    )
    all_s = HEADROOM * _met_by(
        [f.fit_s + sum(f.stage_s) + f.publish_s * len(f.stage_s) for f in rest]
    )
    first_ms, all_ms = _rounded_ms(first_s), _rounded_ms(all_s)
    middle_ms = _rounded_ms((first_s + all_s) / 2)
    spare = f'with {HEADROOM - 1:.0%} to spare'
    why = {
        first_ms: f'the first stage alone meets it, busy and at rest, {spare}',
        middle_ms: 'half-way between the two others',
        all_ms: f'all stages meet it at rest, {spare}',
    }
    return tuple(Deadline(ms, why[ms]) for ms in sorted(why))


def frames_by_load(
    recordings: Sequence[Recording],
) -> tuple[list[FrameTrace], list[FrameTrace]]:
    """The frames before and after load came on; all of them where there is only one kind."""
    rest: list[FrameTrace] = []
    loaded: list[FrameTrace] = []
    for recording in recordings:
        for frame in recording.frames:
            onset_s = recording.onset_s
            (rest if onset_s is None or frame.arrival_s < onset_s else loaded).append(frame)
    return rest or loaded, loaded or rest


def _met_by(times_s: Sequence[float]) -> float:
    """The order statistic that a share `KNOWN_SHARE` of cases does not exceed."""
    rank = ceil((len(times_s) + 1) * KNOWN_SHARE)
    return sorted(times_s)[min(rank, len(times_s)) - 1]


def _rounded_ms(time_s: float) -> float:
    return max(LEAST_MS, ceil(time_s * STEPS_PER_S) / STEPS_PER_MS)
