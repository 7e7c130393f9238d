"""Our nodes as processes of their own, and a robot around them, joined by real DDS."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from anytime_dnn_ros.msg import AnytimePrediction, FrameReport
from ladders import solid

SOURCE = Path(__file__).parents[1] / 'src'
# Patience with a busy machine; nothing here is measured.
WAIT_S = 30.0
LEVELS = {b'\x00': 'OK', b'\x01': 'WARN', b'\x02': 'ERROR', b'\x03': 'STALE'}
# Fast DDS takes its ports from the domain; up to 101 they lie below those the system hands out.
# The offset keeps them off the domains of test_programs.py, which counts from the process too.
_domains = itertools.count(os.getpid() + 17)


@dataclass(frozen=True)
class Status:
    """A DiagnosticStatus in plain values; `level` is one of `LEVELS`."""

    level: str
    message: str
    values: dict


class Program:
    """One of our nodes as a process, with everything it printed."""

    def __init__(self, module, parameters, *, domain_id, folder, remappings):
        self.log_file = folder / f'{module}-{len(list(folder.iterdir()))}.log'
        parameter_file = self.log_file.with_suffix('.yaml')
        # JSON is YAML.
        parameter_file.write_text(json.dumps({'/**': {'ros__parameters': parameters}}))
        command = [sys.executable, '-m', f'anytime_dnn_ros.nodes.{module}', '--ros-args']
        command += ['--params-file', str(parameter_file)]
        command += [word for rule in remappings for word in ('-r', rule)]
        path = [str(SOURCE), os.environ.get('PYTHONPATH', '')]
        environment = {
            **os.environ,
            'PYTHONPATH': os.pathsep.join(filter(None, path)),
            'ROS_DOMAIN_ID': str(domain_id),
            'ROS_LOG_DIR': str(folder),
        }
        with self.log_file.open('wb') as log:
            self.process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    @property
    def log(self):
        return self.log_file.read_text(errors='replace')

    @property
    def is_alive(self):
        return self.process.poll() is None

    def end(self, with_signal=signal.SIGINT):
        """Ends the process as a terminal does and gives its exit code."""
        if self.is_alive:
            self.process.send_signal(with_signal)
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()


class Robot:
    """A ROS node of the test's own, in a domain of its own, that talks to our nodes.

    Attributes:
        predictions: Every AnytimePrediction received.
        reports: Every FrameReport received.
        diagnostics: The newest `Status` by name.
    """

    def __init__(self, folder):
        self.folder = folder
        self.domain_id = next(_domains) % 100 + 1
        self.context = rclpy.Context()
        rclpy.init(args=[], context=self.context, domain_id=self.domain_id)
        self.node = rclpy.create_node('robot', context=self.context)
        self._executor = SingleThreadedExecutor(context=self.context)
        self._executor.add_node(self.node)
        self.programs = []
        self.predictions, self.reports, self.diagnostics = [], [], {}
        for kind, topic, callback in (
            (AnytimePrediction, 'anytime_node/prediction', self.predictions.append),
            (FrameReport, 'anytime_node/frame_report', self.reports.append),
            (DiagnosticArray, '/diagnostics', self._on_diagnostics),
        ):
            self.node.create_subscription(kind, topic, callback, 1000)

    def start(self, module, *, name=None, **parameters):
        program = Program(
            module,
            parameters,
            domain_id=self.domain_id,
            folder=self.folder,
            remappings=[f'__node:={name or module}'],
        )
        self.programs.append(program)
        return program

    def start_anytime_node(self, model, **parameters):
        """Starts anytime_node with settings that suit a test: nothing is ever too late."""
        defaults = {
            'model': str(model),
            'deadline_ms': 60_000.0,
            'max_frame_age_ms': 60_000.0,
            'diagnostics_period_s': 0.1,
        }
        return self.start('anytime_node', **{**defaults, **parameters})

    def close(self):
        for program in self.programs:
            program.end(signal.SIGKILL)
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)

    def spin(self, seconds=0.02):
        self._executor.spin_once(timeout_sec=seconds)

    def wait_for(self, condition, what):
        """Spins until `condition` holds and gives what it gave."""
        end = time.monotonic() + WAIT_S
        while not (result := condition()):
            assert time.monotonic() < end, f'{what}: did not happen.\n' + '\n'.join(
                p.log[-3000:] for p in self.programs
            )
            self.spin()
        return result

    def publisher(self, kind, topic, *, reliable=True, depth=10):
        """A publisher that our node has found."""
        reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=depth, reliability=reliability)
        publisher = self.node.create_publisher(kind, topic, qos)
        self.wait_for(publisher.get_subscription_count, f'a subscription to {topic}')
        return publisher

    def listen(self, name):
        """Predictions and reports of a node that is not called anytime_node, as they come."""
        predictions, reports = [], []
        for kind, topic, heard in (
            (AnytimePrediction, 'prediction', predictions),
            (FrameReport, 'frame_report', reports),
        ):
            self.node.create_subscription(kind, f'{name}/{topic}', heard.append, 1000)
        return predictions, reports

    def camera(self, *, compressed=False, reliable=True, stamp=None):
        """A publisher of frames whose first one has been answered.

        `stamp` gives what the frames are stamped with, in place of the system's clock. DDS finds
        each side in its own time: the first frames may reach nobody.
        """
        kind, topic = (CompressedImage, 'image/compressed') if compressed else (Image, 'image')
        camera = self.publisher(kind, topic, reliable=reliable)
        # The node follows a camera within half a second, and a new subscription loses frames.
        word = 'reliable' if reliable else 'best_effort'
        self.wait_for_value('image_reliability', word)
        make = jpeg_image if compressed else raw_image
        before, sent_s = len(self.predictions), 0.0

        def answered():
            nonlocal sent_s
            if time.monotonic() - sent_s > 0.5:
                sent_s = time.monotonic()
                camera.publish(make((stamp or self.stamp)()))
            return any(p.is_final for p in self.predictions[before:])

        self.wait_for(answered, 'an answer to the first frames of a camera')
        return camera

    def stream(self, camera, frames, *, color='red', period_s=0.05):
        """Publishes frames at a steady rate, and gives their stamps, `(sec, nanosec)`."""
        stamps = []
        for _ in range(frames):
            message = raw_image(self.stamp(), color)
            camera.publish(message)
            stamps.append((message.header.stamp.sec, message.header.stamp.nanosec))
            due_s = time.monotonic() + period_s
            while (left_s := due_s - time.monotonic()) > 0:
                self.spin(left_s)
        return stamps

    def finals(self, stamps):
        """The final answers to frames of these stamps, in order of arrival."""
        wanted = set(stamps)
        return [
            p
            for p in self.predictions
            if p.is_final and (p.header.stamp.sec, p.header.stamp.nanosec) in wanted
        ]

    def call(self, kind, name, request):
        client = self.node.create_client(kind, f'/anytime_node/{name}')
        try:
            self.wait_for(client.service_is_ready, f'service {name}')
            future = client.call_async(request)
            self.wait_for(future.done, f'answer of service {name}')
            return future.result()
        finally:
            self.node.destroy_client(client)

    def set_parameter(self, name, value):
        parameters = [Parameter(name, value=value).to_parameter_msg()]
        request = SetParameters.Request(parameters=parameters)
        return self.call(SetParameters, 'set_parameters', request).results[0]

    def transition(self, label):
        """Whether the lifecycle transition succeeded."""
        request = ChangeState.Request()
        request.transition.label = label
        return self.call(ChangeState, 'change_state', request).success

    def state(self):
        return self.call(GetState, 'get_state', GetState.Request()).current_state.label

    def stamp(self, shift_s=0.0):
        now = self.node.get_clock().now().nanoseconds + int(shift_s * 1e9)
        return {'sec': now // 10**9, 'nanosec': now % 10**9}

    def show(self, camera, message):
        """Publishes a good frame and gives its predictions, up to the final one."""
        stamp = message.header.stamp
        camera.publish(message)

        def answers():
            mine = [p for p in self.predictions if p.header.stamp == stamp]
            return mine if mine and mine[-1].is_final else None

        return self.wait_for(answers, 'a final answer to a good frame')

    def anytime_status(self):
        return self.diagnostics.get('/anytime_node: inference')

    def wait_for_value(self, key, value):
        """Waits until `/diagnostics` say so; what they said before the call does not count."""
        self.diagnostics.clear()

        def said():
            status = self.anytime_status()
            return status is not None and status.values.get(key) == value

        self.wait_for(said, f'{key} = {value} in /diagnostics')

    def wait_for_count(self, key, count):
        """Waits until a counter in `/diagnostics` has come to `count`."""

        def reached():
            status = self.anytime_status()
            return status is not None and int(status.values.get(key, 0)) >= count

        self.wait_for(reached, f'{key} = {count} in /diagnostics')

    def wait_for_status(self, level, text):
        """Waits for a status of anytime_node; a status from before the call does not count."""
        self.diagnostics.clear()

        def said():
            status = self.anytime_status()
            return status and status.level == level and text in status.message and status

        return self.wait_for(said, f'{level} {text!r} in /diagnostics')

    def _on_diagnostics(self, message):
        for status in message.status:
            self.diagnostics[status.name] = Status(
                LEVELS[status.level], status.message, {v.key: v.value for v in status.values}
            )


def raw_image(stamp, color='red', **changes):
    """A small `sensor_msgs/Image` of one colour; `changes` spoil single fields."""
    pixels = solid(color)
    message = Image(
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding='rgb8',
        step=pixels.shape[1] * 3,
        data=pixels.tobytes(),
    )
    _stamp(message, stamp)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def jpeg_image(stamp, color='red', data=None):
    """A JPEG of one colour, or `data` in place of it."""
    bgr = np.ascontiguousarray(solid(color)[..., ::-1])
    jpeg = cv2.imencode('.jpg', bgr)[1].tobytes()
    message = CompressedImage(format='jpeg', data=jpeg if data is None else data)
    _stamp(message, stamp)
    return message


def _stamp(message, stamp):
    message.header.frame_id = 'camera'
    message.header.stamp.sec, message.header.stamp.nanosec = stamp['sec'], stamp['nanosec']


def best(prediction):
    """Name of the most likely class."""
    return prediction.scores[0].name
