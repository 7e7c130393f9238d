"""The same passes through DDS: camera messages to the installed anytime_node, predictions back.

Only this module of the room needs rclpy and the package's generated messages.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import cv2
import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rich.console import Console
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from anytime_dnn_ros.bench.deadlines import Deadline
from anytime_dnn_ros.bench.film import Film
from anytime_dnn_ros.bench.live import Bench
from anytime_dnn_ros.bench.load import LoadPlan, load_plan
from anytime_dnn_ros.bench.machine import EnergyMeter, energy_counters, load_by_others_percent
from anytime_dnn_ros.bench.options import load_names
from anytime_dnn_ros.bench.outcome import REPLACED, FrameOutcome, Pass, Published
from anytime_dnn_ros.bench.policies import OURS
from anytime_dnn_ros.bench.table import pass_line
from anytime_dnn_ros.demo.processes import Children, dds_environment, free_domain_id
from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.msg import AnytimePrediction, FrameReport
from anytime_dnn_ros.nodes.messages import image_message

NODE, MONITOR = 'anytime_node', 'monitor_node'
QUEUE_DEPTH, CAMERA_DEPTH = 1000, 5
START_TIMEOUT_S = 60.0
# The node follows a camera's reliability within half a second, and loses frames meanwhile.
WARM_UP_S, POLL_S, DRAIN_S = 2.0, 0.05, 1.0
MS = 1e3


def run_through_dds(
    bench: Bench,
    args: argparse.Namespace,
    deadlines: Sequence[Deadline],
    console: Console,
    progress: Callable[[str, int, int], None],
) -> tuple[Pass, ...]:
    """A pass of the node for each load and deadline; the node is started anew for each.

    Deadlines count from the receipt of a frame by the node, as those of the other passes.

    Raises:
        AnytimeError: A program ended, or nothing was predicted.
    """
    todo = [(load, d.ms) for load in load_names(args) for d in deadlines]
    passes = []
    with _ros_context():
        for done, (load, deadline_ms) in enumerate(todo):
            progress('passes', done, len(todo))
            others = load_by_others_percent()
            plan = load_plan(load, bench.length_s)
            one = _run_pass(bench, plan, deadline_ms, _parameters(args, deadline_ms), others)
            passes.append(one)
            console.print(pass_line(one), highlight=False, soft_wrap=True)
        progress('passes', len(todo), len(todo))
    return tuple(passes)


@contextmanager
def _ros_context() -> Iterator[None]:
    """A domain of our own, for this process and its children."""
    before = dict(os.environ)
    os.environ.update(dds_environment(free_domain_id()))
    # Ctrl-C is the command line's.
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield
    finally:
        rclpy.shutdown()
        os.environ.clear()
        os.environ.update(before)


def _parameters(args: argparse.Namespace, deadline_ms: float) -> list[str]:
    values = {
        'model': f"'{args.bundle}'",
        'engine': args.engine,
        'threads': args.threads,
        'deadline_ms': deadline_ms,
        'deadline_reference': 'receive',
        'miss_rate_target': args.miss_target,
        'realtime_priority': args.realtime_priority,
        'top_k': 1,
    }
    words = ['--ros-args']
    for name, value in values.items():
        words += ['-p', f'{name}:={value}']
    return words


@dataclass
class _Heard:
    """What the node said, by the stamp of the frame in nanoseconds."""

    predictions: dict[int, list[Any]] = field(default_factory=lambda: defaultdict(list))
    reports: dict[int, Any] = field(default_factory=dict)

    def on_prediction(self, message: Any) -> None:
        self.predictions[_stamp_ns(message)].append(message)

    def on_report(self, message: Any) -> None:
        self.reports[_stamp_ns(message)] = message


def _run_pass(
    bench: Bench,
    plan: LoadPlan,
    deadline_ms: float,
    parameters: list[str],
    others_percent: float,
) -> Pass:
    heard = _Heard()
    node = rclpy.create_node('bench_camera')
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    spinner = threading.Thread(target=_spin, args=(executor,), daemon=True)
    qos = QoSProfile(depth=QUEUE_DEPTH)
    node.create_subscription(AnytimePrediction, f'{NODE}/prediction', heard.on_prediction, qos)
    node.create_subscription(FrameReport, f'{NODE}/frame_report', heard.on_report, qos)
    camera = node.create_publisher(Image, 'image', QoSProfile(depth=CAMERA_DEPTH))
    spinner.start()
    try:
        with (
            tempfile.TemporaryDirectory() as logs,
            # Of the load's own session: see `LoadWorkers`.
            Children(Path(logs), own_sessions=False) as children,
        ):
            children.start(MONITOR, 'anytime_dnn_ros.nodes.monitor_node')
            children.start(NODE, 'anytime_dnn_ros.nodes.anytime_node', parameters)
            _warm_up(node, camera, bench.film, heard, children)
            energy = EnergyMeter(energy_counters())
            sent, begin_s = _film(node, camera, bench, plan)
            _await(lambda: sent[-1][0] in heard.reports, children, DRAIN_S)
            children.check()
    finally:
        bench.workers.quiet()
        executor.shutdown()
        spinner.join()
        node.destroy_node()
    return Pass(
        load=plan.name,
        deadline_ms=deadline_ms,
        policy=OURS,
        frames=tuple(
            _outcome(heard, stamp_ns, at_s - begin_s, deadline_ms, label)
            for stamp_ns, at_s, label in sent
        ),
        onset_s=plan.onset_s,
        loaded_s=plan.loaded_s,
        energy_j=energy.joules(),
        others_percent=others_percent,
    )


def _spin(executor: SingleThreadedExecutor) -> None:
    with suppress(ExternalShutdownException):
        executor.spin()


def _warm_up(node: Any, camera: Any, film: Film, heard: _Heard, children: Children) -> None:
    """Shows frames until the node answers, and for a while more."""
    give_up_s = monotonic() + START_TIMEOUT_S
    settled_s = float('inf')
    while monotonic() < settled_s:
        if camera.get_subscription_count():
            _show(node, camera, film, 0)
        if heard.reports:
            settled_s = min(settled_s, monotonic() + WARM_UP_S)
        children.check()
        if monotonic() > give_up_s:
            raise AnytimeError(
                f'anytime_node predicted nothing within {START_TIMEOUT_S:.0f} s; `anytime-dnn '
                f'doctor` says what is missing. The ends of the logs:\n{children.log_tails()}'
            )
        sleep(POLL_S)


def _film(
    node: Any, camera: Any, bench: Bench, plan: LoadPlan
) -> tuple[list[tuple[int, float, int]], float]:
    """Shows the film at the camera's rate; gives stamp, moment and label of each frame."""
    sent = []
    begin_s = monotonic()
    for index in range(bench.count):
        arrival_s = index / bench.rate_hz
        bench.workers.tell(plan.commands[plan.index(arrival_s)])
        sleep(max(0.0, begin_s + arrival_s - monotonic()))
        at_s = monotonic()
        stamp_ns = _show(node, camera, bench.film, index)
        sent.append((stamp_ns, at_s, bench.film.labels[index % len(bench.film)]))
    return sent, begin_s


def _show(node: Any, camera: Any, film: Film, index: int) -> int:
    pixels = film.frames[index % len(film)]
    stamp = node.get_clock().now()
    header = Header(stamp=stamp.to_msg(), frame_id='bench')
    code = cv2.COLOR_GRAY2BGR if film.color_order == 'gray' else cv2.COLOR_RGB2BGR
    bgr = np.asarray(cv2.cvtColor(pixels, code), np.uint8)
    camera.publish(image_message(bgr, header))
    return int(stamp.nanoseconds)


def _await(happened: Callable[[], bool], children: Children, timeout_s: float) -> None:
    give_up_s = monotonic() + timeout_s
    while not happened() and monotonic() < give_up_s:
        children.check()
        sleep(POLL_S)


def _stamp_ns(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _outcome(
    heard: _Heard, stamp_ns: int, arrival_s: float, deadline_ms: float, label: int
) -> FrameOutcome:
    """A frame from what the node said of it; ages count from the camera's stamp."""
    report = heard.reports.get(stamp_ns)
    messages = heard.predictions.get(stamp_ns, [])
    published = [
        Published(
            arrival_s + m.age_ms / MS,
            int(m.stage),
            int(m.scores[0].class_id),
            float(m.expected_accuracy),
        )
        for m in messages
    ]
    due_s = arrival_s + deadline_ms / MS
    if messages:
        due_s = published[-1].at_s + messages[-1].slack_ms / MS
    if report is not None:
        # Until the final answer was out, not until its publishing began.
        out_s = arrival_s + report.age_ms / MS
        due_s = out_s + report.slack_ms / MS
        if published and messages[-1].is_final:
            last = published[-1]
            published[-1] = Published(out_s, last.stage, last.named, last.declared)
    return FrameOutcome(
        arrival_s=arrival_s,
        due_s=due_s,
        label=label,
        published=tuple(published),
        answered=bool(messages) and bool(messages[-1].is_final),
        # Replaced in the node's slot, or lost on the way: it had no turn.
        dropped='' if messages or report is not None else REPLACED,
    )
