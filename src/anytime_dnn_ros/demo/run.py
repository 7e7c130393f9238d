"""`anytime-dnn demo`: camera, monitor and node over real DDS, with a burst of load half-way."""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from rich.live import Live
from rich.table import Table

from anytime_dnn_ros.demo.photos import load_photos, view
from anytime_dnn_ros.demo.processes import Children, CpuBurst, dds_environment, free_domain_id
from anytime_dnn_ros.demo.recording import Recording, answers_by_photo, summarize
from anytime_dnn_ros.demo.report import html_report
from anytime_dnn_ros.demo.watch import Watcher, live_table, status_line
from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from anytime_dnn_ros.ladder.bundle import find_bundle, read_bundle

CAMERA, MONITOR, NODE = 'camera', 'monitor_node', 'anytime_node'
MIN_DURATION_S = 3.0
START_TIMEOUT_S = 60.0
# The burst takes this share of a short demo, and at most so long.
BURST_SHARE, MAX_BURST_S = 0.2, 4.0
# When nobody sends any more, what is under way arrives within this time.
DRAIN_S = 0.5
REDRAW_S, PRINT_S = 0.2, 1.0
THUMBNAIL_SIZE = (128, 96)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn demo`."""
    parser.add_argument('--duration-s', type=float, default=20.0, help='how long (default 20)')
    parser.add_argument(
        '--deadline-ms', type=float, default=30.0, help='time for one frame (default 30)'
    )
    parser.add_argument('--model', default='lite', help='shipped bundle or a folder of one')
    parser.add_argument(
        '--out', type=Path, default=Path('build/demo'), help='folder of the report and the logs'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the figures here')


def run(args: argparse.Namespace) -> int:
    """Runs the demo, prints its result and writes summary.json, report.html and debug.png.

    Raises:
        AnytimeError: An option cannot be used, a process ended, or nothing was predicted.
    """
    if not MIN_DURATION_S <= args.duration_s < float('inf'):
        raise ConfigurationError(
            f'--duration-s {args.duration_s:g} is too short for a burst of load: '
            f'give at least {MIN_DURATION_S:g}'
        )
    # The node would say so too, but only in its log.
    read_bundle(find_bundle(args.model))
    args.out.mkdir(parents=True, exist_ok=True)
    # Results of an earlier run would pass for those of this one.
    for stale in [*args.out.glob('*.log'), *args.out.glob('*.json'), *args.out.glob('debug.png')]:
        stale.unlink()
    console = Console()
    recording, debug_png, outside = _perform(args, console)
    summary = summarize(recording, **outside)
    text = json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
    for file in filter(None, (args.out / 'summary.json', args.json)):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding='utf-8')
    if debug_png:
        (args.out / 'debug.png').write_bytes(debug_png)
    page = html_report(recording, summary, _thumbnails(), debug_png)
    (args.out / 'report.html').write_text(page, encoding='utf-8')
    _print_result(console, recording, summary)
    console.print(f'{args.out}: report.html, summary.json' + (', debug.png' if debug_png else ''))
    if not debug_png:
        console.print('[red]no frame of ~/debug_image came[/]; see anytime_node.log there')
    return 0


def _perform(
    args: argparse.Namespace, console: Console
) -> tuple[Recording, bytes | None, dict[str, Any]]:
    """Starts everything, watches, and ends everything, also on Ctrl-C."""
    # SIGINT too: a shell starts its background jobs with it ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    # Read by the children and by this process's own participant.
    os.environ.update(dds_environment(free_domain_id()))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    watcher = Watcher(args.deadline_ms)
    executor = SingleThreadedExecutor()
    executor.add_node(watcher)
    camera_json = args.out / 'camera.json'
    try:
        with Children(args.out) as children:
            console.print(f'camera, monitor_node and anytime_node start; logs in {args.out}')
            children.start(MONITOR, 'anytime_dnn_ros.nodes.monitor_node')
            children.start(NODE, 'anytime_dnn_ros.nodes.anytime_node', _node_arguments(args))
            # A camera that began before we hear the nodes would show frames without answers.
            _await(lambda: watcher.hears_nodes, executor, children)
            children.start(CAMERA, 'anytime_dnn_ros.demo.camera', ['--json', str(camera_json)])
            _await(lambda: bool(watcher.recording.frames), executor, children)
            monitor = children.process(MONITOR)
            busy_s, begin_s = sum(monitor.cpu_times()[:2]), monotonic()
            _watch(watcher, executor, children, console, args.duration_s)
            busy_s = sum(monitor.cpu_times()[:2]) - busy_s
            watched_s = monotonic() - begin_s
            children.stop(CAMERA)
            _spin(executor, DRAIN_S)
            children.check()
            outside = {
                'frames_published': _published(camera_json),
                'node_rss_mb': round(children.process(NODE).memory_info().rss / 1e6, 1),
                'monitor_cpu_percent': round(100 * busy_s / watched_s, 2),
                'versions': _versions(),
            }
        return watcher.recording, _png(watcher), outside
    finally:
        executor.shutdown()
        watcher.destroy_node()
        rclpy.shutdown()


def _node_arguments(args: argparse.Namespace) -> list[str]:
    return [
        '--ros-args',
        '-p',
        f"model:='{args.model}'",
        '-p',
        f'deadline_ms:={args.deadline_ms!r}',
    ]


def _await(
    happened: Callable[[], bool], executor: SingleThreadedExecutor, children: Children
) -> None:
    give_up_s = monotonic() + START_TIMEOUT_S
    while not happened():
        _spin(executor, REDRAW_S)
        children.check()
        if monotonic() > give_up_s:
            raise AnytimeError(
                f'nothing was predicted within {START_TIMEOUT_S:.0f} s; `anytime-dnn doctor` '
                f'says what is missing. The ends of the logs:\n{children.log_tails()}'
            )


def _watch(
    watcher: Watcher,
    executor: SingleThreadedExecutor,
    children: Children,
    console: Console,
    duration_s: float,
) -> None:
    """Shows what comes until the time is over; half-way every core gets busy."""
    burst_s = min(MAX_BURST_S, BURST_SHARE * duration_s)
    burst_at_s = (duration_s - burst_s) / 2
    burst: CpuBurst | None = None
    printed_s = 0.0
    # A table that redraws itself suits a terminal; a log gets a line each second.
    live = Live(console=console, auto_refresh=False) if console.is_terminal else None
    try:
        if live:
            live.start()
        while (now_s := watcher.now_s) < duration_s:
            if burst is None and now_s >= burst_at_s:
                watcher.recording.burst_s = (now_s, now_s + burst_s)
                burst = CpuBurst(burst_s)
            # The picture is to show the node under load.
            watcher.look(on=now_s >= burst_at_s + burst_s / 2 and watcher.debug_image is None)
            _spin(executor, REDRAW_S)
            children.check()
            if live:
                live.update(live_table(watcher.recording, now_s, duration_s), refresh=True)
            elif now_s - printed_s >= PRINT_S:
                printed_s = now_s
                console.print(
                    status_line(watcher.recording, now_s), soft_wrap=True, highlight=False
                )
    finally:
        if live:
            live.stop()
        if burst:
            burst.stop()


def _spin(executor: SingleThreadedExecutor, duration_s: float) -> None:
    end_s = monotonic() + duration_s
    while (left_s := end_s - monotonic()) > 0:
        executor.spin_once(timeout_sec=left_s)


def _published(camera_json: Path) -> int:
    if not camera_json.exists():
        raise AnytimeError(f'the camera left no count in {camera_json}; see camera.log beside it')
    return int(json.loads(camera_json.read_text(encoding='utf-8'))['frames_published'])


def _png(watcher: Watcher) -> bytes | None:
    if watcher.debug_image is None:
        return None
    return bytes(cv2.imencode('.png', watcher.debug_image)[1])


def _thumbnails() -> dict[str, bytes]:
    small = {
        name: cv2.resize(view(photo, 0.0), THUMBNAIL_SIZE, interpolation=cv2.INTER_AREA)
        for name, photo in load_photos().items()
    }
    return {name: bytes(cv2.imencode('.jpg', picture)[1]) for name, picture in small.items()}


def _versions() -> dict[str, str]:
    import numpy as np  # noqa: PLC0415
    import onnxruntime  # noqa: PLC0415

    import anytime_dnn_ros  # noqa: PLC0415

    return {
        'anytime_dnn_ros': anytime_dnn_ros.__version__,
        'python': platform.python_version(),
        'rclpy': metadata.version('rclpy'),
        'rmw': rclpy.get_rmw_implementation_identifier(),
        'onnxruntime': onnxruntime.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    }


def _print_result(console: Console, recording: Recording, summary: dict[str, Any]) -> None:
    table = Table('photo', 'most frequent answer', 'of its frames', 'confidence')
    for photo, answer in answers_by_photo(recording).items():
        share = f'{answer.share:.0%} of {answer.frames}'
        table.add_row(photo, answer.label, share, f'{answer.confidence:.2f}')
    console.print(table)
    console.print(
        f'{summary["frames_answered"]} of {summary["frames_received"]} frames answered, '
        f'{summary["missed"]} missed {summary["deadline_ms"]:g} ms; '
        f'{summary["stages_mean"]:.2f} stages a frame; first answer after '
        f'{summary["first_answer_p50_ms"]:.1f} ms (median)',
        highlight=False,
        soft_wrap=True,
    )
