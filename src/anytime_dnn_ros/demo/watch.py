"""Listens to the nodes and shows what they say, live."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.qos import QoSProfile, qos_profile_sensor_data
from rich.table import Table
from sensor_msgs.msg import Image

from anytime_dnn_ros.demo.recording import Answer, Frame, Load, Recording
from anytime_dnn_ros.msg import AnytimePrediction, FrameReport, SystemLoad

# Small messages in bursts, and a display that draws in between.
QUEUE_DEPTH = 200
BAR_CELLS = 20


class Watcher(Node):  # type: ignore[misc]  # rclpy has no types
    """Records predictions, frame reports and load, from the first answer on.

    Attributes:
        recording: What was seen so far.
        debug_image: The last frame of `~/debug_image` since `look`, BGR uint8 [H, W, 3].
    """

    def __init__(self, deadline_ms: float) -> None:
        super().__init__('demo_watcher')
        self.recording = Recording(deadline_ms)
        self.debug_image: NDArray[np.uint8] | None = None
        self._begin_s: float | None = None
        self._look: Any = None
        qos = QoSProfile(depth=QUEUE_DEPTH)
        listen: tuple[tuple[type, str, Callable[[Any], None]], ...] = (
            (AnytimePrediction, 'anytime_node/prediction', self._on_prediction),
            (FrameReport, 'anytime_node/frame_report', self._on_frame_report),
            (SystemLoad, 'system_load', self._on_load),
        )
        self._topics = [topic for _, topic, _ in listen]
        for kind, topic, callback in listen:
            self.create_subscription(kind, topic, callback, qos)

    @property
    def now_s(self) -> float:
        """Seconds since the first answer; 0 before it."""
        return 0.0 if self._begin_s is None else monotonic() - self._begin_s

    @property
    def hears_nodes(self) -> bool:
        """Whether somebody publishes on every topic that is recorded."""
        return all(self.count_publishers(topic) > 0 for topic in self._topics)

    def look(self, *, on: bool) -> None:
        """Subscribes to `~/debug_image`, which the node draws only for subscribers, or stops."""
        if on and self._look is None:
            self._look = self.create_subscription(
                Image, 'anytime_node/debug_image', self._on_debug_image, qos_profile_sensor_data
            )
        elif not on and self._look is not None:
            self.destroy_subscription(self._look)
            self._look = None

    def _on_prediction(self, message: Any) -> None:
        if self._begin_s is None:
            self._begin_s = monotonic()
        best = message.scores[0] if message.scores else None
        self.recording.answers.append(
            Answer(
                at_s=self.now_s,
                frame_seq=message.frame_seq,
                photo=message.header.frame_id,
                stage=message.stage,
                num_stages=message.num_stages,
                is_final=message.is_final,
                label=best.name if best else '',
                confidence=message.confidence,
                elapsed_ms=message.elapsed_ms,
                age_ms=message.age_ms,
            )
        )

    def _on_frame_report(self, message: Any) -> None:
        self.recording.frames.append(
            Frame(
                at_s=self.now_s,
                frame_seq=message.frame_seq,
                photo=message.header.frame_id,
                stages_run=message.stages_run,
                deadline_missed=message.deadline_missed,
                slack_ms=message.slack_ms,
                queue_ms=message.queue_ms,
                infer_ms=message.infer_ms,
                total_ms=message.total_ms,
                frames_received=message.frames_received,
                frames_dropped=message.frames_dropped,
            )
        )

    def _on_load(self, message: Any) -> None:
        if self._begin_s is not None:
            self.recording.loads.append(
                Load(self.now_s, message.cpu_percent, message.psi_cpu_some10)
            )

    def _on_debug_image(self, message: Image) -> None:
        # anytime_node sends it as bgr8 without padding.
        pixels = np.frombuffer(message.data, np.uint8)
        self.debug_image = pixels.reshape(message.height, message.width, 3)


def latest(recording: Recording) -> tuple[Frame, list[Answer]] | None:
    """The newest frame that is done, and its answers in order of their stages."""
    if not recording.frames:
        return None
    frame = recording.frames[-1]
    recent = recording.answers[-QUEUE_DEPTH:]
    return frame, [a for a in recent if a.frame_seq == frame.frame_seq]


def status_line(recording: Recording, now_s: float) -> str:
    """One line on how it goes."""
    seen = latest(recording)
    if seen is None or not seen[1]:
        return f'{now_s:5.1f} s  waiting for the first frame'
    frame, answers = seen
    final = answers[-1]
    missed = sum(f.deadline_missed for f in recording.frames)
    cpu = f'{recording.loads[-1].cpu_percent:3.0f} %' if recording.loads else '  ? %'
    burst = '  CPU BURST' if recording.in_burst(now_s) else ''
    stage = f'stage {final.stage}/{final.num_stages}' if final.stage else 'forecast'
    return (
        f'{now_s:5.1f} s  frame {frame.frame_seq:4d}  {frame.photo:10.10s} '
        f'{stage}: {final.label} ({final.confidence:.2f})  '
        f'slack {frame.slack_ms:+.1f} ms  missed {missed}/{len(recording.frames)}  '
        f'CPU {cpu}{burst}'
    )


def live_table(recording: Recording, now_s: float, duration_s: float) -> Table:
    """The newest frame's answers, stage by stage, and how it goes in all."""
    table = Table(
        expand=True,
        title_justify='left',
        title_style='none',
        caption_justify='left',
        caption_style='none',
    )
    # Fixed widths: columns that follow their content would jump from frame to frame.
    table.add_column('stage', justify='right', width=5)
    table.add_column('answer', ratio=1, no_wrap=True)
    table.add_column('confidence', width=BAR_CELLS + 5)
    table.add_column('after', justify='right', width=8)
    seen = latest(recording)
    if seen is None or not seen[1]:
        table.title = 'waiting for the first frame'
        return table
    frame, answers = seen
    by_stage = {a.stage: a for a in answers}
    for stage in range(answers[-1].num_stages + 1):
        answer = by_stage.get(stage)
        if answer is None:
            # Stage 0 is a forecast, which most frames do not need.
            if stage:
                table.add_row(str(stage), '[dim]not run[/]', '', '')
            continue
        bar = '█' * round(answer.confidence * BAR_CELLS)
        style = 'bold' if answer.is_final else None
        table.add_row(
            str(stage),
            answer.label if stage else f'{answer.label} [yellow](forecast)[/]',
            f'{answer.confidence:.2f} {bar}',
            f'{answer.elapsed_ms:.1f} ms',
            style=style,
        )
    missed = sum(f.deadline_missed for f in recording.frames)
    cpu = f'{recording.loads[-1].cpu_percent:.0f} %' if recording.loads else 'unknown'
    burst = '   [bold red]CPU BURST[/]' if recording.in_burst(now_s) else ''
    slack = f'[{"red" if frame.deadline_missed else "green"}]{frame.slack_ms:+.1f} ms[/]'
    table.title = (
        f'{now_s:.0f} of {duration_s:.0f} s   '
        f'frame {frame.frame_seq}: [bold]{frame.photo}[/]{burst}'
    )
    table.caption = (
        f'slack {slack} of {recording.deadline_ms:g} ms   '
        f'missed {missed} of {len(recording.frames)}   '
        f'skipped {frame.frames_dropped} of {frame.frames_received}   CPU {cpu}'
    )
    return table
