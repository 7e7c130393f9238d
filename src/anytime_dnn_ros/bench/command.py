"""`anytime-dnn bench`: miss rates and accuracy of policies, under real load or replayed."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import cv2
from rich.console import Console

from anytime_dnn_ros.bench.deadlines import (
    Deadline,
    auto_deadlines,
    frames_by_load,
    given_deadlines,
)
from anytime_dnn_ros.bench.film import make_film
from anytime_dnn_ros.bench.live import Bench, record_pass, run_pass
from anytime_dnn_ros.bench.load import LOADS, TRACE, LoadWorkers, load_plan
from anytime_dnn_ros.bench.machine import AT_REST_PERCENT, load_by_others_percent
from anytime_dnn_ros.bench.outcome import Pass
from anytime_dnn_ros.bench.page import bench_page
from anytime_dnn_ros.bench.policies import ORACLE, Ladder, chosen_policies
from anytime_dnn_ros.bench.replay import replay
from anytime_dnn_ros.bench.rows import WHAT_IS_COUNTED, with_oracle
from anytime_dnn_ros.bench.table import figures_table, pass_line
from anytime_dnn_ros.bench.trace import Recording, read_recording, write_recording
from anytime_dnn_ros.datasets.idx import FASHION_MNIST
from anytime_dnn_ros.engines.factory import ENGINES, load_engine
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.labelled import read_test
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.evaluate.stage_scores import bundle_labels
from anytime_dnn_ros.evaluate.whole_file import check_can_write, write_whole
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.planner import Goals
from anytime_dnn_ros.serving import ServingPath

# The bundle that was trained on data which every Debian machine can have.
OWN_DATA = {'fashion': FASHION_MNIST}
AUTO = 'auto'
LEAST_FRAMES, MOST_FRAMES = 2, 1_000_000
MOST_RATE_HZ = 1000.0
# Of the measurement that chooses the deadlines.
REST_FRAMES, LOADED_FRAMES = 100, 300
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Result:
    """What a run of the bench found.

    Attributes:
        passes: All of them.
        deadlines: And why.
        source: `live`, `ros` or `replayed`.
        setup: What was run, for the reader.
    """

    passes: tuple[Pass, ...]
    deadlines: tuple[Deadline, ...]
    source: str
    setup: dict[str, Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn bench`."""
    parser.epilog = WHAT_IS_COUNTED
    add = parser.add_argument
    add('--bundle', default='fashion', help='shipped name or folder (default fashion)')
    add(
        '--data',
        type=Path,
        metavar='DIR',
        help='labelled test images, as in `anytime-dnn report`; fashion takes fashion-mnist',
    )
    add('--size', type=int, metavar='PIXELS', help='fit images of many sizes into this square')
    add(
        '--loads',
        default='none,step',
        metavar='NAMES',
        help=f'{", ".join(LOADS)} or {TRACE}FILE with a CSV file that monitor_node recorded; '
        'several with commas (default none,step)',
    )
    add(
        '--deadlines',
        default=AUTO,
        metavar='MS',
        help='milliseconds with commas, or auto: three that suit this ladder and machine',
    )
    add(
        '--policies',
        default='all',
        metavar='NAMES',
        help='all, or some of ours, alert, fixed_p99, greedy, static_1 to static_N, oracle',
    )
    add('--frames', type=int, default=600, metavar='N', help='frames of each pass (default 600)')
    add('--rate-hz', type=float, default=60.0, help='camera frames per second (default 60)')
    add(
        '--miss-target',
        type=float,
        default=0.01,
        help='accepted share of missed deadlines, 0.0001 to 0.5 (default 0.01)',
    )
    add('--seed', type=int, default=0, help='which images, and the order of the passes')
    add('--engine', choices=ENGINES, default='auto', help='library that runs the stages')
    add('--threads', type=int, default=1, help='CPU threads inside a stage (default 1)')
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '--record',
        type=Path,
        metavar='FILE',
        help='record one run per load (FILE-LOAD where there are several), and replay it',
    )
    how.add_argument(
        '--replay', type=Path, nargs='+', metavar='FILE', help='play recorded runs, no machine'
    )
    how.add_argument(
        '--ros', action='store_true', help='through anytime_node and DDS; policy ours only'
    )
    add('--json', type=Path, metavar='FILE', help='write the figures here')
    add('--html', type=Path, metavar='FILE', help='write a page with plots here')


def run(args: argparse.Namespace) -> int:
    """Runs what was asked for, prints the figures and writes them.

    Raises:
        AnytimeError: An option, the bundle, the data or a recorded run cannot be used.
    """
    _check(args)
    goals = Goals(miss_rate_target=args.miss_target)
    console = Console()
    with image_progress(console) as progress:
        if args.replay:
            recordings = [read_recording(file) for file in args.replay]
            result = _replayed(recordings, args, goals, progress)
        elif args.ros:
            # rclpy is needed for this alone.
            from anytime_dnn_ros.bench.ros import run_through_dds  # noqa: PLC0415

            result = run_through_dds(args, goals, console, progress)
        else:
            with _bench(args, console, progress) as bench:
                if args.record:
                    result = _recorded(bench, args, goals, console, progress)
                else:
                    result = _live(bench, args, goals, console, progress)
    rows = with_oracle(result.passes, result.source)
    for deadline in result.deadlines:
        console.print(f'deadline {deadline.ms:g} ms: {deadline.why}', highlight=False)
    for table in figures_table(rows):
        console.print(table)
    if args.json:
        document = {'rows': rows, 'setup': {**result.setup, **_deadline_notes(result)}}
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(args.json, f'{text}\n'.encode())
    if args.html:
        page = bench_page(result.passes, rows, result.setup, result.deadlines, args.miss_target)
        write_whole(args.html, page.encode())
    return 0


def _deadline_notes(result: Result) -> dict[str, Any]:
    return {'deadlines': [{'ms': d.ms, 'why': d.why} for d in result.deadlines]}


def _check(args: argparse.Namespace) -> None:
    """What can be said at once is said at once, not after minutes."""
    if not LEAST_FRAMES <= args.frames <= MOST_FRAMES:
        raise ConfigurationError(
            f'--frames {args.frames}: give a number from {LEAST_FRAMES} to {MOST_FRAMES}'
        )
    if not 0 < args.rate_hz <= MOST_RATE_HZ:
        raise ConfigurationError(
            f'--rate-hz {args.rate_hz:g}: give frames per second, at most {MOST_RATE_HZ:g}'
        )
    if not 0.0001 <= args.miss_target <= 0.5:
        raise ConfigurationError(
            f'--miss-target {args.miss_target:g}: give a share from 0.0001 to 0.5'
        )
    if args.seed < 0:
        raise ConfigurationError(f'--seed {args.seed}: give a whole number, 0 or more')
    if args.deadlines != AUTO:
        given_deadlines(args.deadlines)
    if not args.replay:
        for name in _loads(args):
            load_plan(name, args.frames / args.rate_hz)
    records = [_record_file(args, name) for name in _loads(args)] if args.record else []
    for file in filter(None, (args.json, args.html, *records)):
        check_can_write(file)


def _loads(args: argparse.Namespace) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in args.loads.split(',')))


def _record_file(args: argparse.Namespace, load: str) -> Path:
    file: Path = args.record
    if len(_loads(args)) == 1:
        return file
    name = load.removeprefix(TRACE) if load.startswith(TRACE) else load
    word = re.sub(r'\W+', '_', Path(name).stem)
    return file.with_name(f'{file.stem}-{word}{file.suffix}')


@contextmanager
def _bench(args: argparse.Namespace, console: Console, progress: Progress) -> Iterator[Bench]:
    """Everything that live passes need, loaded, and ended afterwards."""
    bundle = read_bundle(find_bundle(args.bundle))
    images = read_test(argparse.Namespace(data=_data(args, bundle), size=args.size, limit=0))
    labels = bundle_labels(bundle, images.labels, images.class_names)
    film = make_film(
        images,
        labels,
        count=args.frames,
        rate_hz=args.rate_hz,
        seed=args.seed,
        progress=lambda done, of: progress('frames', done, of),
    )
    # As in anytime_node: OpenCV's own threads would only disturb.
    cv2.setNumThreads(1)
    with (
        closing(load_engine(bundle, args.engine, args.threads)) as engine,
        LoadWorkers() as workers,
    ):
        path = ServingPath(bundle, engine)
        _tell_of_others(console, load_by_others_percent(), 'the stage times are measured')
        info = engine.info()
        ladder = Ladder(
            path.measure_reference_times(),
            tuple(stage.macs for stage in bundle.manifest.stages),
            info.can_cancel,
            info.threads,
        )
        yield Bench(
            path,
            ladder,
            film,
            args.rate_hz,
            args.frames,
            workers,
            console.print,
        )


def _data(args: argparse.Namespace, bundle: Bundle) -> Path:
    known = OWN_DATA.get(bundle.manifest.name)
    if args.data is None and known is None:
        raise ConfigurationError(
            f'the bundle {bundle.manifest.name!r} needs --data: a folder or ZIP with '
            "test/<class>/ of labelled images, its classes named like the bundle's labels.txt"
        )
    return args.data or Path(str(known))


def _tell_of_others(console: Console, percent: float, what: str) -> None:
    if percent > AT_REST_PERCENT:
        console.print(
            f'[yellow]the machine is not at rest:[/] other processes take {percent:.0f} % of it '
            f'as {what}',
            highlight=False,
        )


def _policies(args: argparse.Namespace, ladder: Ladder) -> list[str]:
    return chosen_policies(args.policies, ladder.num_stages)


def _live(
    bench: Bench, args: argparse.Namespace, goals: Goals, console: Console, progress: Progress
) -> Result:
    names = _policies(args, bench.ladder)
    deadlines = _deadlines(bench, args, progress)
    running = [name for name in names if name != ORACLE]
    loads = _loads(args)
    with_recording = ORACLE in names
    total = len(loads) * (len(deadlines) * len(running) + with_recording)
    console.print(
        f'{total} passes of {bench.length_s:.0f} s each: about '
        f'{total * (bench.length_s + 1) / 60:.0f} min',
        highlight=False,
    )
    order = Random(args.seed)  # noqa: S311 - an order, no secret
    passes: list[Pass] = []
    done = 0
    for load in loads:
        plan = load_plan(load, bench.length_s)
        todo = [(d.ms, name) for d in deadlines for name in running]
        # What the machine does meanwhile is not to favour one of them.
        order.shuffle(todo)
        for deadline_ms, name in todo:
            progress('passes', done, total)
            others = load_by_others_percent()
            _tell_of_others(console, others, f'{load}, {deadline_ms:g} ms, {name} begins')
            one = replace(run_pass(bench, plan, deadline_ms, name, goals), others_percent=others)
            passes.append(one)
            console.print(pass_line(one), highlight=False)
            done += 1
        if with_recording:
            progress('passes', done, total)
            recording = record_pass(bench, plan, seed=args.seed)
            passes += [replay(recording, d.ms, ORACLE, goals) for d in deadlines]
            done += 1
    progress('passes', done, total)
    passes.sort(key=lambda p: (loads.index(p.load), p.deadline_ms, names.index(p.policy)))
    return Result(tuple(passes), deadlines, 'live', _setup(bench, args))


def _deadlines(bench: Bench, args: argparse.Namespace, progress: Progress) -> tuple[Deadline, ...]:
    if args.deadlines != AUTO:
        return given_deadlines(args.deadlines)
    progress('deadlines', 0, 2)
    rest = record_pass(bench, load_plan('none', bench.length_s), count=REST_FRAMES)
    progress('deadlines', 1, 2)
    step = load_plan('step', bench.length_s)
    loaded = replace(step, at_s=(0.0,), commands=step.commands[1:])
    loaded_frames = record_pass(bench, loaded, count=LOADED_FRAMES).frames
    progress('deadlines', 2, 2)
    return auto_deadlines(rest.frames, loaded_frames, args.miss_target)


def _recorded(
    bench: Bench, args: argparse.Namespace, goals: Goals, console: Console, progress: Progress
) -> Result:
    recordings = []
    loads = _loads(args)
    for done, load in enumerate(loads):
        progress('recording', done, len(loads))
        others = load_by_others_percent()
        _tell_of_others(console, others, f'the recording under {load} begins')
        recording = record_pass(bench, load_plan(load, bench.length_s), seed=args.seed)
        file = _record_file(args, load)
        write_recording(file, recording)
        console.print(f'{file}: {len(recording.frames)} frames, load {load}', highlight=False)
        recordings.append(recording)
    progress('recording', len(loads), len(loads))
    result = _replayed(recordings, args, goals, progress)
    return replace(result, setup=_setup(bench, args))


def _replayed(
    recordings: Sequence[Recording], args: argparse.Namespace, goals: Goals, progress: Progress
) -> Result:
    deadlines = (
        auto_deadlines(*frames_by_load(recordings), args.miss_target)
        if args.deadlines == AUTO
        else given_deadlines(args.deadlines)
    )
    todo = [
        (recording, deadline.ms, name)
        for recording in recordings
        for deadline in deadlines
        for name in _policies(args, recording.ladder)
    ]
    passes = []
    for done, (recording, deadline_ms, name) in enumerate(todo):
        progress('replays', done, len(todo))
        passes.append(replay(recording, deadline_ms, name, goals))
    progress('replays', len(todo), len(todo))
    first = recordings[0]
    setup = {
        'bundle': first.bundle,
        'data': first.note,
        'frames': len(first.frames),
        'rate_hz': first.rate_hz,
        'miss_target': args.miss_target,
    }
    return Result(tuple(passes), deadlines, 'replayed', setup)


def _setup(bench: Bench, args: argparse.Namespace) -> dict[str, Any]:
    info = bench.path.engine.info()
    return {
        'bundle': bench.path.bundle.manifest.name,
        'data': bench.film.data,
        'images': len(bench.film),
        'frames': bench.count,
        'rate_hz': bench.rate_hz,
        'miss_target': args.miss_target,
        'seed': args.seed,
        'engine': f'{info.library} {info.version}, {info.device}, {info.threads} thread(s)',
        'cores_loaded': len(bench.workers.pids),
        'stage_ms_at_rest': [1e3 * float(t) for t in bench.ladder.reference.median_s],
    }
