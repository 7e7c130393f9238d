"""What the house around the engine costs: runner, DDS, threads, memory, monitor.

Every figure is a ratio or a difference inside one run, so that a noisy machine says the same.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import psutil
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.frames import Frame, FrameSummary, Prediction
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.msg import FrameReport, PerformanceProfile
from anytime_dnn_ros.nodes.messages import image_message
from anytime_dnn_ros.planner import Planner
from anytime_dnn_ros.runner import Runner
from anytime_dnn_ros.serving import ServingPath

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / 'test'))
from ladders import make_ladder  # noqa: E402 - the tests' small ladder, slow on purpose here

CONSOLE = Console()
CAMERA_HZ = 30
NEVER_S = 3600.0
# Key: (what it is, unit, target as text, whether a value reaches it).
TARGETS: dict[str, tuple[str, str, str, Any]] = {
    'runner_overhead_per_stage_ms': (
        'runner over bare engine, per stage, median',
        'ms',
        '<= 0.3',
        lambda v: v <= 0.3,
    ),
    'runner_overhead_ratio': (
        'runner over bare engine, whole ladder, median',
        'ratio',
        '<= 1.03',
        lambda v: v <= 1.03,
    ),
    'first_answer_overhead_ms': (
        'callback to first prediction less its engine time, 640x480, median',
        'ms',
        '<= 3',
        lambda v: v <= 3,
    ),
    'delivered_ratio_720p': (
        '30 Hz 1280x720 raw best-effort frames that reach the node',
        'share',
        '>= 0.995',
        lambda v: v >= 0.995,
    ),
    'age_at_start_busy_ms': (
        'age of a frame when its work starts, node always busy, median',
        'ms',
        '< 33.3',
        lambda v: v < 1e3 / CAMERA_HZ,
    ),
    'threads2_over_threads1': (
        'whole ladder, two threads over one, median',
        'ratio',
        '<= 1',
        lambda v: v <= 1,
    ),
    'node_rss_mb': ('anytime_node resident', 'MB', '<= 300', lambda v: v <= 300),
    'node_active_s': ('process start to active', 's', '<= 5', lambda v: v <= 5),
    'monitor_cpu_percent': (
        'monitor_node at 10 Hz, of one core',
        '%',
        '<= 1',
        lambda v: v <= 1,
    ),
    'torch_loaded': ('torch in the node', '', 'false', lambda v: not v),
}


class FinalSink:
    """Waits for a frame's summary."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.summary: FrameSummary | None = None

    def on_prediction(self, prediction: Prediction) -> None:
        """Not needed: the summary says it all."""

    def on_frame(self, summary: FrameSummary) -> None:
        """Keeps the summary."""
        self.summary = summary
        self.done.set()

    def on_fault(self, kind: str, message: str) -> None:
        """A benchmark has no bad frames."""
        raise RuntimeError(f'{kind}: {message}')


def picture(height: int, width: int) -> np.ndarray:
    """A smooth random picture, bgr8."""
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
    return np.ascontiguousarray(cv2.resize(small, (width, height)))


def measure_runner(bundle: Bundle, frames: int) -> dict[str, float]:
    """The same frame through the runner and through the bare engine, in turns."""
    engine = load_engine(bundle)
    path = ServingPath(bundle, engine)
    sink = FinalSink()
    planner = Planner(path.measure_reference_times(), [s.macs for s in bundle.manifest.stages])
    runner = Runner(path, planner, sink)
    runner.start()
    image = picture(480, 640)
    bare_s, run_s, fit_s = [], [], []
    for seq in range(1, frames + 1):
        path.begin(image, 'bgr')
        start = time.perf_counter()
        for stage in range(path.num_stages):
            path.fit(stage)
        fitted = time.perf_counter()
        for stage in range(path.num_stages):
            engine.run_stage(stage, engine.new_token())
        bare_s.append(time.perf_counter() - fitted)
        fit_s.append(fitted - start)
        now = time.monotonic()
        sink.done.clear()
        runner.submit(Frame(seq, lambda: (image, 'bgr'), now, 0.0, NEVER_S, now + NEVER_S))
        sink.done.wait()
        assert sink.summary is not None
        assert sink.summary.stages_run == path.num_stages
        run_s.append(sink.summary.total_s)
    runner.stop()
    bare, run, fit = (np.array(times[5:]) for times in (bare_s, run_s, fit_s))
    return {
        'runner_overhead_per_stage_ms': 1e3 * float(np.median(run - bare)) / path.num_stages,
        'runner_overhead_ratio': float(np.median(run / bare)),
        # The same with the resize of the frame, which any code around the engine needs, in both.
        'runner_overhead_ratio_resize_in_both': float(np.median(run / (bare + fit))),
        'ladder_bare_ms': 1e3 * float(np.median(bare)),
        'resize_ms': 1e3 * float(np.median(fit)),
    }


def measure_threads(bundle: Bundle, frames: int) -> dict[str, float]:
    """The bare ladder with one and with two threads, in turns."""
    engines = [load_engine(bundle, threads=threads) for threads in (1, 2)]
    times: list[list[float]] = [[], []]
    for _ in range(frames):
        for engine, kept in zip(engines, times, strict=True):
            start = time.perf_counter()
            for stage in range(engine.num_stages):
                engine.run_stage(stage, engine.new_token())
            kept.append(time.perf_counter() - start)
    return {'threads2_over_threads1': float(np.median(np.divide(times[1], times[0])))}


@contextmanager
def program(module: str, *args: str) -> Iterator[psutil.Process]:
    """One of our programs as its own process, ended at exit."""
    command = [sys.executable, '-m', module, *args]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            yield psutil.Process(child.pid)
        finally:
            child.send_signal(signal.SIGINT)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


class Watcher(Node):  # type: ignore[misc]  # rclpy is untyped here
    """Collects the node's reports and sees when it is active."""

    def __init__(self) -> None:
        super().__init__('bench_watcher')
        self.reports: list[FrameReport] = []
        self.active = False
        latched = QoSProfile(
            depth=1,
            reliability=ReliabilityPolicy.RELIABLE,
            durability=DurabilityPolicy.TRANSIENT_LOCAL,
        )
        self.create_subscription(
            FrameReport, '/anytime_node/frame_report', self.reports.append, 50
        )
        self.create_subscription(
            PerformanceProfile, '/anytime_node/performance_profile', self._on_profile, latched
        )

    def _on_profile(self, _: PerformanceProfile) -> None:
        self.active = True

    def spin_until(self, done: Any, timeout_s: float) -> None:
        """Spins until `done()` or the time is up."""
        end = time.monotonic() + timeout_s
        while not done() and time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.02)


def camera(height: int, width: int, frames: int) -> None:
    """Publishes frames at CAMERA_HZ, best effort; runs as a process of its own."""
    rclpy.init()
    node = Node('bench_camera')
    qos = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    publisher = node.create_publisher(Image, 'image', qos)
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)
    image = picture(height, width)
    due = time.monotonic()
    for _ in range(frames):
        header = Header(stamp=node.get_clock().now().to_msg())
        publisher.publish(image_message(image, header))
        due += 1 / CAMERA_HZ
        time.sleep(max(0.0, due - time.monotonic()))
    time.sleep(0.5)
    node.destroy_node()
    rclpy.shutdown()


def is_torch(path: str) -> bool:
    """Whether a mapped file is a part of torch; a folder may have that word in its name."""
    return '/torch/' in path or Path(path).name.startswith('libtorch')


def serve(
    model: str, size: tuple[int, int], frames: int, *parameters: str
) -> tuple[list[FrameReport], dict[str, Any]]:
    """Runs node and camera as processes and returns the node's reports."""
    watcher = Watcher()
    flags = [part for p in (f'model:={model}', *parameters) for part in ('-p', p)]
    begun = time.monotonic()
    with program('anytime_dnn_ros.nodes.anytime_node', '--ros-args', *flags) as node:
        watcher.spin_until(lambda: watcher.active, 20.0)
        if not watcher.active:
            raise RuntimeError(f'anytime_node with {model} did not get active in 20 s')
        active_s = time.monotonic() - begun
        command = [sys.executable, __file__, '--camera', *map(str, size), str(frames)]
        with subprocess.Popen(command) as source:
            watcher.spin_until(lambda: source.poll() is not None, frames / CAMERA_HZ + 30.0)
        facts = {
            'active_s': active_s,
            'rss_mb': node.memory_info().rss / 1e6,
            'torch': any(is_torch(region.path) for region in node.memory_maps()),
        }
    watcher.destroy_node()
    if not watcher.reports:
        raise RuntimeError(
            f'anytime_node with model {model} answered none of {frames} frames of '
            f'{size[1]}x{size[0]}; start it alone, its log says why'
        )
    return watcher.reports, facts


def measure_monitor(seconds: float) -> dict[str, float]:
    """CPU time of monitor_node with a subscriber, as a share of one core."""
    from anytime_dnn_ros.msg import LoadProfile, SystemLoad  # noqa: PLC0415

    seen = []
    watcher = Watcher()
    watcher.create_subscription(SystemLoad, 'system_load', seen.append, 10)
    watcher.create_subscription(LoadProfile, 'load_profile', seen.append, 10)
    with program('anytime_dnn_ros.nodes.monitor_node') as monitor:
        watcher.spin_until(lambda: len(seen) > 10, 15.0)
        before = monitor.cpu_times()
        watcher.spin_until(lambda: False, seconds)
        after = monitor.cpu_times()
    watcher.destroy_node()
    if len(seen) < seconds:
        raise RuntimeError('monitor_node published nothing')
    busy_s = after.user + after.system - before.user - before.system
    return {'monitor_cpu_percent': 100 * busy_s / seconds}


def measure(model: str, frames: int) -> dict[str, Any]:
    """All figures, by key."""
    bundle = read_bundle(find_bundle(model))
    figures: dict[str, Any] = {}
    with CONSOLE.status('runner against bare engine'):
        figures |= measure_runner(bundle, frames)
    with CONSOLE.status('two threads against one'):
        figures |= measure_threads(bundle, frames)
    with CONSOLE.status('first answer over DDS, 640x480'):
        # The smallest target stops every frame after its first stage.
        reports, _ = serve(model, (480, 640), frames, 'confidence_target:=0.0001')
        overhead = [r.total_ms - r.infer_ms for r in reports if r.stages_run == 1]
        figures['first_answer_overhead_ms'] = float(np.median(overhead))
        figures['first_answer_overhead_p99_ms'] = float(np.percentile(overhead, 99))
    with CONSOLE.status('30 Hz 1280x720 over DDS'):
        reports, facts = serve(model, (720, 1280), frames)
        figures['delivered_ratio_720p'] = reports[-1].frames_received / frames
        figures['node_rss_mb'] = facts['rss_mb']
        figures['node_active_s'] = facts['active_s']
        figures['torch_loaded'] = facts['torch']
    with (
        CONSOLE.status('30 Hz 1280x720 over DDS, busy node'),
        tempfile.TemporaryDirectory() as tmp,
    ):
        slow = make_ladder(Path(tmp) / 'slow', convolutions=(1000, 1000, 1000))
        reports, _ = serve(str(slow.path), (720, 1280), frames, 'deadline_ms:=1000.0')
        age = [r.age_ms - r.total_ms + r.queue_ms for r in reports]
        figures['age_at_start_busy_ms'] = float(np.median(age))
        figures['age_at_start_busy_p99_ms'] = float(np.percentile(age, 99))
        figures['busy_work_ms'] = float(np.median([r.total_ms - r.queue_ms for r in reports]))
        figures['busy_delivered_ratio_720p'] = reports[-1].frames_received / frames
    with CONSOLE.status('monitor_node for 30 s'):
        figures |= measure_monitor(30.0)
    figures['model'] = model
    figures['frames'] = frames
    figures['versions'] = {
        'python': platform.python_version(),
        'onnxruntime': onnxruntime.__version__,
        'ros': os.environ.get('ROS_DISTRO', 'wheels'),
        'machine': f'{platform.machine()}, {psutil.cpu_count()} cores',
    }
    return figures


def main() -> int:
    """Measures, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--json', type=Path, help='write the figures to this file')
    parser.add_argument('--bundle', default='lite', help='bundle to run (default: lite)')
    parser.add_argument('--frames', type=int, default=300, help='frames per figure (default: 300)')
    parser.add_argument('--camera', nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        camera(*args.camera)
        return 0
    # A domain of its own, and the profile that the launch file sets.
    os.environ['ROS_DOMAIN_ID'] = str(random.randint(101, 199))  # noqa: S311 - no secret
    for name in ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'):
        os.environ[name] = str(ROOT / 'config' / 'fastdds_shm.xml')
    cv2.setNumThreads(1)
    rclpy.init()
    figures = measure(args.bundle, args.frames)
    rclpy.shutdown()
    table = Table('figure', 'measured', 'target', 'reached')
    for key, (what, unit, target, reached) in TARGETS.items():
        value = figures[key]
        shown = f'{value:.3f} {unit}' if isinstance(value, float) else str(value).lower()
        table.add_row(f'{key}\n[dim]{what}[/]', shown, target, 'yes' if reached(value) else 'NO')
    CONSOLE.print(table)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
        CONSOLE.print(f'written: {args.json}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
