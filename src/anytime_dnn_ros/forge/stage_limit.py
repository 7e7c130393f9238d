"""How long the longest stage may take on a robot, and in how many stages a network keeps to it."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.networks import NetworkSpec, build
from anytime_dnn_ros.forge.staged import stage_macs

# A cost that is cut finer than this is mostly exits.
MOST_STAGES = 32


@dataclass(frozen=True)
class StageLimit:
    """A longest stage, and what a robot's own measurement says of a ladder.

    Attributes:
        max_stage_ms: What no stage may take longer than.
        target: The file that the measurement came from.
        where: Which ladder was measured, and on what, in words.
        macs: Multiply-accumulates of each measured stage.
        times_ms: 99th percentile of the time of each.
    """

    max_stage_ms: float
    target: Path
    where: str
    macs: tuple[float, ...]
    times_ms: tuple[float, ...]

    def stage_times_ms(self, macs: Sequence[float]) -> list[float]:
        """What stages would take on the robot: their MACs at the speed measured at that depth.

        Exactly what was measured for the measured ladder itself, an estimate for any other: the
        same trunk in other pieces runs as fast at the same depth, another network need not.

        Args:
            macs: Of each stage of one ladder, in order.
        """
        depth, known = (np.cumsum([0.0, *counts]) for counts in (macs, self.macs))
        scale = depth[-1] / known[-1]
        at = np.interp(depth / scale, known, np.cumsum([0.0, *self.times_ms]))
        return [float(time) for time in scale * np.diff(at)]

    def check(self, macs: Sequence[float], mend: str) -> None:
        """Refuses a ladder with a stage that is too long.

        Args:
            macs: Of each stage, in order.
            mend: What to do about it.

        Raises:
            ConfigurationError: A stage is too long.
        """
        times = self.stage_times_ms(macs)
        if max(times) > self.max_stage_ms:
            longest = times.index(max(times)) + 1
            each = ', '.join(f'{time:.3g}' for time in times)
            raise ConfigurationError(
                f'stage {longest} of {len(times)} takes {max(times):.3g} ms, more than '
                f'--max-stage-ms {self.max_stage_ms:g} (all: {each} ms; 99th percentiles by '
                f'{self.target}: {self.where}); {mend}'
            )


def add_limit_arguments(add: Callable[..., Any]) -> None:
    """Declares `--max-stage-ms` and `--target` by a parser's or group's `add_argument`."""
    add(
        '--max-stage-ms',
        type=float,
        metavar='MS',
        help='no stage may take longer on the --target: where a stage cannot be stopped, as in '
        'TensorRT, the longest one is how far a deadline can be overrun',
    )
    add(
        '--target',
        type=Path,
        metavar='FILE',
        help='stage times of the robot: what `anytime-dnn profile BUNDLE --json FILE` wrote there '
        'for this network, or at least for one like it',
    )


def read_limit(args: argparse.Namespace) -> StageLimit | None:
    """The limit that the options ask for; None where there is none.

    Raises:
        ConfigurationError: One option without the other, or one of them cannot be used.
    """
    limit_ms, target = args.max_stage_ms, args.target
    if limit_ms is None and target is None:
        return None
    if limit_ms is None or target is None:
        raise ConfigurationError(
            '--max-stage-ms and --target go together: give the limit in milliseconds and the file '
            'that `anytime-dnn profile BUNDLE --json FILE` wrote on the robot'
        )
    # Not `limit_ms <= 0`: that lets NaN pass.
    if not 0 < limit_ms < math.inf:
        raise ConfigurationError(f'--max-stage-ms {limit_ms:g}: give more than 0')
    try:
        document = json.loads(target.read_text(encoding='utf-8'))
        macs = tuple(float(stage['macs']) for stage in document['stages'])
        times = tuple(float(stage['time_p99_ms']) for stage in document['stages'])
        key = document['depends_on']
        engine = key['engine']
        where = f'{key["bundle"]} on {engine["device"]}, {engine["library"]} {engine["version"]}'
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise ConfigurationError(
            f'--target {target} holds no stage times ({type(error).__name__}: {error}); give the '
            'file that `anytime-dnn profile BUNDLE --json FILE` wrote on the robot'
        ) from error
    if not macs or not all(0 < value < math.inf for value in (*macs, *times)):
        raise ConfigurationError(
            f'--target {target}: stage times of {list(times)} ms for {list(macs)} MACs cannot be; '
            'measure again with `anytime-dnn profile BUNDLE --fresh --json FILE`'
        )
    return StageLimit(limit_ms, target, where, macs, times)


def within_limit(
    spec: NetworkSpec, limit: StageLimit, fit: Callable[[NetworkSpec], NetworkSpec]
) -> NetworkSpec:
    """The network in as few stages as keep to the limit, not fewer than its own number.

    Args:
        spec: With a number of stages or cuts of its own, it is left as it is, if it keeps to it.
        limit: What no stage may exceed.
        fit: Fits a specification to a cost, e.g. by `fit_width`.

    Raises:
        ConfigurationError: No number of stages keeps to it, or the one asked for does not.
    """

    def macs_of(candidate: NetworkSpec) -> list[int]:
        return stage_macs(build(candidate), candidate.image_shape)

    spec = fit(spec)
    macs = macs_of(spec)
    if spec.stages or spec.cuts:
        asked = '--cuts' if spec.cuts else f'--stages {spec.stages}'
        limit.check(
            macs, f'leave out {asked} to have the cuts chosen, or make the network smaller'
        )
        return spec
    fitting, count = spec, len(macs)
    while max(limit.stage_times_ms(macs)) > limit.max_stage_ms:
        # Stages of equal time are the fewest that there can be.
        least = math.ceil(sum(limit.stage_times_ms(macs)) / limit.max_stage_ms)
        count = max(count + 1, least)
        try:
            if count > MOST_STAGES:
                raise ConfigurationError(f'more than {MOST_STAGES} stages are mostly exits')
            fitting = fit(replace(spec, stages=count))
            macs = macs_of(fitting)
        except ConfigurationError as error:
            limit.check(
                macs,
                f'and finer it cannot be cut ({error}): allow more milliseconds, or make the '
                'network smaller (--width, --mmac, --image-size)',
            )
    return fitting
