"""`anytime-dnn bench`: miss rates and accuracy of policies, under real load or replayed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cv2
from rich.console import Console
from rich.markup import escape

from anytime_dnn_ros.bench.deadlines import (
    Deadline,
    auto_deadlines,
    frames_by_load,
    given_deadlines,
)
from anytime_dnn_ros.bench.film import make_film
from anytime_dnn_ros.bench.images import labelled_images
from anytime_dnn_ros.bench.live import Bench, record_pass, run_pass
from anytime_dnn_ros.bench.load import LoadWorkers, load_plan
from anytime_dnn_ros.bench.machine import AT_REST_PERCENT, load_by_others_percent
from anytime_dnn_ros.bench.options import (
    ALL,
    AUTO,
    add_arguments,
    check_options,
    load_names,
    record_file,
)
from anytime_dnn_ros.bench.outcome import Pass, Result
from anytime_dnn_ros.bench.page import bench_page
from anytime_dnn_ros.bench.policies import ORACLE, Ladder, chosen_policies
from anytime_dnn_ros.bench.replay import replay
from anytime_dnn_ros.bench.rows import with_oracle
from anytime_dnn_ros.bench.table import UNITS, figures_table, pass_line
from anytime_dnn_ros.bench.trace import Recording, read_recording, write_recording
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.evaluate.measurement import distinct_names
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.ladder.bundle import find_bundle, read_bundle
from anytime_dnn_ros.planner import Goals
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.realtime import (
    SWITCH_INTERVAL_S,
    leave_realtime_priority,
    take_realtime_priority,
)
from anytime_dnn_ros.timing.timer import measure_timer_lateness
from anytime_dnn_ros.whole_file import write_whole

__all__ = ['add_arguments', 'run']

# Of the measurement that chooses the deadlines.
REST_FRAMES, LOADED_FRAMES = 200, 600
# Of the reference times: a 99th percentile is to mean something.
REFERENCE_RUNS, REFERENCE_BUDGET_S = 300, 6.0

Progress = Callable[[str, int, int], None]


def run(args: argparse.Namespace) -> int:
    """Runs what was asked for, prints the figures and writes them.

    Raises:
        AnytimeError: An option, the bundle, the data or a recorded run cannot be used.
    """
    check_options(args)
    goals = Goals(miss_rate_target=args.miss_target)
    console = Console()
    with _ended_in_order(), image_progress(console) as progress:
        if args.replay:
            result = _replayed(_recordings(args.replay), args, goals, progress)
        elif args.ros:
            # rclpy is needed for this alone.
            from anytime_dnn_ros.bench.ros import run_through_dds  # noqa: PLC0415

            with _bench(args, console, progress) as bench:
                deadlines = _deadlines(bench, args, progress)
                passes = run_through_dds(bench, args, deadlines, console, progress)
                result = Result(passes, deadlines, 'ros', _setup(bench, args))
        else:
            with _bench(args, console, progress) as bench:
                if args.record:
                    result = _recorded(bench, args, goals, console, progress)
                else:
                    result = _live(bench, args, goals, console, progress)
    rows = with_oracle(result.passes, result.source)
    for deadline in result.deadlines:
        console.print(
            f'deadline {deadline.ms:g} ms: {deadline.why}', highlight=False, soft_wrap=True
        )
    console.print(UNITS, soft_wrap=True)
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


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM ends the bench as Ctrl-C does: programs that it has started are ended first."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _recordings(files: Sequence[Path]) -> list[Recording]:
    """The recorded runs; those of the same load are told apart by their files."""
    recordings = [read_recording(file) for file in files]
    names = distinct_names([(r.load, f) for r, f in zip(recordings, files, strict=True)])
    return [replace(r, load=name) for r, name in zip(recordings, names, strict=True)]


def _deadline_notes(result: Result) -> dict[str, Any]:
    return {'deadlines': [{'ms': d.ms, 'why': d.why} for d in result.deadlines]}


@contextmanager
def _bench(args: argparse.Namespace, console: Console, progress: Progress) -> Iterator[Bench]:
    """Everything that live passes need, loaded, and ended afterwards."""
    bundle = read_bundle(find_bundle(args.bundle))
    # A misspelt name is told before the frames are made.
    chosen_policies(args.policies or ALL, len(bundle.manifest.stages))
    images, labels = labelled_images(args, bundle)
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
        # As the node's executor; the load, started before, has none.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        take_realtime_priority(args.realtime_priority)
        path = ServingPath(bundle, engine)
        _tell_of_others(console, load_by_others_percent(), 'the stage times are measured')
        info = engine.info()
        ladder = Ladder(
            path.measure_reference_times(REFERENCE_RUNS, budget_s=REFERENCE_BUDGET_S),
            tuple(stage.macs for stage in bundle.manifest.stages),
            info.can_cancel,
            info.threads,
            measure_timer_lateness(),
        )
        try:
            yield Bench(
                path=path,
                ladder=ladder,
                film=film,
                rate_hz=args.rate_hz,
                count=args.frames,
                workers=workers,
                report=partial(_report, console),
                realtime_priority=args.realtime_priority,
            )
        finally:
            leave_realtime_priority()


def _report(console: Console, text: str) -> None:
    console.print(f'[yellow]{escape(text)}[/]', highlight=False, soft_wrap=True)


def _tell_of_others(console: Console, percent: float, what: str) -> None:
    if percent > AT_REST_PERCENT:
        _report(
            console,
            f'the machine is not at rest: other processes take {percent:.0f} % of it as {what}',
        )


def _policies(args: argparse.Namespace, ladder: Ladder) -> list[str]:
    return chosen_policies(args.policies or ALL, ladder.num_stages)


def _live(
    bench: Bench, args: argparse.Namespace, goals: Goals, console: Console, progress: Progress
) -> Result:
    names = _policies(args, bench.ladder)
    deadlines = _deadlines(bench, args, progress)
    running = [name for name in names if name != ORACLE]
    loads = load_names(args)
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
            console.print(pass_line(one), highlight=False, soft_wrap=True)
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
    loaded = replace(step, at_s=(0.0,), commands=step.commands[1:], loads=(True,))
    loaded_frames = record_pass(bench, loaded, count=LOADED_FRAMES).frames
    progress('deadlines', 2, 2)
    return auto_deadlines(rest.frames, loaded_frames)


def _recorded(
    bench: Bench, args: argparse.Namespace, goals: Goals, console: Console, progress: Progress
) -> Result:
    recordings = []
    loads = load_names(args)
    for done, load in enumerate(loads):
        progress('recording', done, len(loads))
        others = load_by_others_percent()
        _tell_of_others(console, others, f'the recording under {load} begins')
        recording = record_pass(bench, load_plan(load, bench.length_s), seed=args.seed)
        file = record_file(args, load)
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
        auto_deadlines(*frames_by_load(recordings))
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
        'bundle': ', '.join(dict.fromkeys(r.bundle for r in recordings)),
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
        'realtime_priority': args.realtime_priority,
        'engine': f'{info.library} {info.version}, {info.device}, {info.threads} thread(s)',
        'cores_loaded': len(bench.workers.pids),
        'stage_ms_at_rest': [1e3 * float(t) for t in bench.ladder.reference.median_s],
    }
