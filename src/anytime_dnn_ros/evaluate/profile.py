"""`anytime-dnn profile`: how long each stage of a ladder takes on this machine."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from math import inf, isfinite
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.engines.factory import ENGINES
from anytime_dnn_ros.engines.tensorrt_options import PRECISIONS
from anytime_dnn_ros.evaluate.engine_build import built, check_build, loaded
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.serving import REFERENCE_FRAME_SHAPE, ServingPath
from anytime_dnn_ros.timing.profile_cache import (
    LEAST_RUNS,
    NO_CACHE,
    PROFILE_RUNS,
    cache_folder,
    cached_reference_times,
    profile_file,
    profile_key,
    store_reference_times,
)
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.whole_file import check_can_write, write_whole

MOST_RUNS, MOST_THREADS = 10_000, 64
PERCENT, MMAC, MS = 100, 1e6, 1e3
HEADS = ('stage', 'MMAC', 'ms', 'p99 ms', 'answer ms', 'p99 ms', 'top-1 %', 'time %')


@dataclass(frozen=True)
class ProfiledStage:
    """One stage on this machine.

    Attributes:
        macs: Multiply-accumulates of this stage alone.
        time_ms: Median of this stage alone.
        time_p99_ms: 99th percentile of the same.
        answer_ms: Median of all stages up to this one.
        answer_p99_ms: 99th percentile of the same.
        expected_accuracy: Declared share of right answers after this stage, 0..1; None if none
            may be declared.
        time_share: Share of the median time of all stages, 0..1.
    """

    name: str
    macs: float
    time_ms: float
    time_p99_ms: float
    answer_ms: float
    answer_p99_ms: float
    expected_accuracy: float | None
    time_share: float


@dataclass(frozen=True)
class Profile:
    """A ladder on this machine.

    Attributes:
        kept: Whether the times are from an earlier start, not from this run.
        cache_file: Where they are kept; None = nowhere.
        key: What they depend on, see `profile_key`.
    """

    bundle: Bundle
    engine: EngineInfo
    times: ReferenceTimes
    stages: tuple[ProfiledStage, ...]
    kept: bool
    cache_file: Path | None
    key: dict[str, Any]

    @property
    def origin(self) -> str:
        """What the times are, in one sentence."""
        height, width, _ = self.key['frame_shape']
        load = self.times.cpu_percent
        return (
            f'{len(self.times.samples_s)} rounds {"kept from earlier" if self.kept else "now"}, '
            f'a frame of {width}x{height}, {self.engine.library} {self.engine.version}, '
            f'{self.engine.device}, {self.engine.threads} thread(s), {self.key["cpu"]}; '
            + (f'all cores were {load:.0f} % busy, this included' if isfinite(load) else '')
        ).rstrip('; ')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn profile`."""
    parser.add_argument('bundle', metavar='BUNDLE', help='shipped name or folder')
    parser.add_argument(
        '--threads',
        type=whole_number(1, MOST_THREADS),
        default=1,
        metavar='N',
        help='CPU threads inside a stage (default 1)',
    )
    parser.add_argument('--engine', choices=ENGINES, default='auto', help='default auto')
    parser.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help='of TensorRT engines (default auto: int8 where the stage is quantised, else fp16)',
    )
    parser.add_argument(
        '--build',
        action='store_true',
        help='build the TensorRT engines, compare them with ONNX Runtime, keep them, and stop: '
        'the next start of the node finds them',
    )
    parser.add_argument(
        '--runs',
        type=whole_number(LEAST_RUNS, MOST_RUNS),
        default=PROFILE_RUNS,
        metavar='N',
        help=f'how often every stage runs (default {PROFILE_RUNS})',
    )
    parser.add_argument(
        '--cache-dir',
        default='',
        metavar='DIR',
        help='where this machine keeps stage times and engines (default $XDG_CACHE_HOME or '
        f'~/.cache, as the node does); {NO_CACHE}: nowhere',
    )
    parser.add_argument(
        '--fresh', action='store_true', help='measure even if times are kept, and replace them'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    parser.add_argument('--html', type=Path, metavar='FILE', help='write a page with plots here')


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A reader of an option's value that refuses what is out of range."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f'{text!r}: give a whole number, {low} to {high}')
        return number

    return read


def run(args: argparse.Namespace) -> int:
    """Measures a ladder, prints its stage times and writes what was asked for.

    Raises:
        AnytimeError: The bundle or an option cannot be used; nothing is written then.
    """
    if args.html:
        # A robot need not have what draws plots; and it is missed before the work, not after.
        from anytime_dnn_ros.evaluate.profile_page import profile_page  # noqa: PLC0415
        from anytime_dnn_ros.evaluate.versions import versions  # noqa: PLC0415
    for file in filter(None, (args.json, args.html)):
        check_can_write(file)
    warn = partial(_print_warning, Console(stderr=True))
    folder = cache_folder(args.cache_dir, warn)
    bundle = read_bundle(find_bundle(args.bundle))
    console = Console()
    if args.build:
        check_build(args, folder)
    with (
        image_progress(console) as progress,
        closing(loaded(args, bundle, folder, progress, warn)) as engine,
    ):
        if args.build:
            console.print(
                built(bundle, engine.info()), markup=False, highlight=False, soft_wrap=True
            )
            return 0
        profile = measure_profile(
            ServingPath(bundle, engine),
            folder,
            runs=args.runs,
            fresh=args.fresh,
            progress=progress,
            say=warn,
        )
    _print(console, profile)
    if args.json:
        text = json.dumps(figures(profile), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(args.json, f'{text}\n'.encode())
    if args.html:
        write_whole(args.html, profile_page(profile, versions()).encode())
    return 0


def measure_profile(
    path: ServingPath,
    folder: Path | None,
    *,
    say: Callable[[str], object],
    runs: int = PROFILE_RUNS,
    fresh: bool = False,
    progress: Callable[[str, int, int], object] = lambda name, done, of: None,
) -> Profile:
    """Times every stage as the node does, or takes what is kept.

    Args:
        path: The ladder.
        folder: From `cache_folder`.
        say: Takes a warning about what is kept.
        runs: Rounds, however long they take; fewer that are kept are measured anew.
        fresh: Measure anew in any case.
        progress: Called with the ladder's name, how many rounds are done and how many there are.

    Raises:
        EngineError: A stage fails.
    """
    # As in the node: threads of OpenCV's own would only disturb.
    cv2.setNumThreads(1)
    name = path.bundle.manifest.name

    def measure(rounds: int) -> ReferenceTimes:
        label = name if rounds == runs else f'{name}, check of what is kept'
        return path.measure_reference_times(
            rounds, budget_s=inf, progress=partial(progress, label)
        )

    key = profile_key(path.bundle, path.engine.info(), REFERENCE_FRAME_SHAPE)
    if fresh and folder is not None:
        times, kept = measure(runs), False
        store_reference_times(times, key, folder, say=say)
    else:
        times, kept = cached_reference_times(
            measure, key, folder, say=say, runs=runs, least_runs=runs
        )
    file = None if folder is None else profile_file(key, folder)
    return Profile(
        bundle=path.bundle,
        engine=path.engine.info(),
        times=times,
        stages=_stages(path, times),
        kept=kept,
        cache_file=file if file is not None and file.is_file() else None,
        key=key,
    )


def _stages(path: ServingPath, times: ReferenceTimes) -> tuple[ProfiledStage, ...]:
    # Cumulative per round first: the 99th percentile of a sum is not the sum of percentiles.
    answers = ReferenceTimes(np.cumsum(times.samples_s, axis=1))
    share = times.median_s / times.median_s.sum()
    accuracy = [path.expected_accuracy(k + 1) for k in range(path.num_stages)]
    return tuple(
        ProfiledStage(
            name=stage.name,
            macs=stage.macs,
            time_ms=MS * float(times.median_s[k]),
            time_p99_ms=MS * float(times.p99_s[k]),
            answer_ms=MS * float(answers.median_s[k]),
            answer_p99_ms=MS * float(answers.p99_s[k]),
            expected_accuracy=accuracy[k] if isfinite(accuracy[k]) else None,
            time_share=float(share[k]),
        )
        for k, stage in enumerate(path.bundle.manifest.stages)
    )


def figures(profile: Profile) -> dict[str, Any]:
    """What `--json` writes: shares as 0..1, null for what is unknown or not declared."""
    load = profile.times.cpu_percent
    return {
        'depends_on': profile.key,
        'runs': len(profile.times.samples_s),
        'kept': profile.kept,
        'cache_file': None if profile.cache_file is None else str(profile.cache_file),
        'cpu_percent': load if isfinite(load) else None,
        'stages': [asdict(stage) for stage in profile.stages],
        'samples_ms': (MS * profile.times.samples_s).tolist(),
    }


def rows(profile: Profile) -> list[tuple[str, ...]]:
    """The table, its head first."""
    body = [
        (
            s.name,
            f'{s.macs / MMAC:.2f}',
            f'{s.time_ms:.3f}',
            f'{s.time_p99_ms:.3f}',
            f'{s.answer_ms:.3f}',
            f'{s.answer_p99_ms:.3f}',
            '-' if s.expected_accuracy is None else f'{PERCENT * s.expected_accuracy:.2f}',
            f'{PERCENT * s.time_share:.1f}',
        )
        for s in profile.stages
    ]
    return [HEADS, *body]


def _print(console: Console, profile: Profile) -> None:
    head, *body = rows(profile)
    table = Table(title=escape(profile.bundle.manifest.name), title_justify='left', box=SIMPLE)
    for i, word in enumerate(head):
        table.add_column(word, justify='right' if i else 'left', no_wrap=not i)
    for row in body:
        table.add_row(*map(escape, row))
    console.print(table)
    console.print(profile.origin, markup=False, highlight=False, soft_wrap=True)
    if profile.cache_file is not None:
        console.print(
            f'kept in {profile.cache_file}', markup=False, highlight=False, soft_wrap=True
        )


def _print_warning(console: Console, text: str) -> None:
    """One line on stderr, above a bar that may be there."""
    console.print(f'anytime-dnn: {text}', markup=False, highlight=False, soft_wrap=True)
