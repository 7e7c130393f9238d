"""The installed programs start, answer a frame over DDS and stop cleanly.

`ANYTIME_DNN_PROGRAMS` names the folder they lie in; without it, that of this Python: what
`pip install` made. `make colcon` and `make kilted` run this file on what colcon made.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ladders import make_ladder, solid

rclpy = pytest.importorskip('rclpy', reason='no ROS 2 in this Python')
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from sensor_msgs.msg import Image  # noqa: E402

from anytime_dnn_ros.msg import AnytimePrediction, SystemLoad  # noqa: E402

pytestmark = pytest.mark.dds

ROOT = Path(__file__).parent.parent
PROGRAMS = Path(os.environ.get('ANYTIME_DNN_PROGRAMS', Path(sys.executable).parent)).absolute()
DOMAIN = 1 + os.getpid() % 100
PATIENCE_S = 30.0  # only how long a broken program is waited for


def environment() -> dict[str, str]:
    """This process's, without the source tree: the installed package is what is tested."""
    env = dict(os.environ, ROS_DOMAIN_ID=str(DOMAIN))
    paths = env.get('PYTHONPATH', '').split(os.pathsep)
    outside = [path for path in paths if path and Path(path).absolute() != ROOT / 'src']
    env['PYTHONPATH'] = os.pathsep.join(outside)
    return env


class Program:
    """A running program and what it printed."""

    def __init__(self, name: str, *arguments: str, log: Path) -> None:
        self.log = log
        with log.open('w') as output:
            self.process = subprocess.Popen(
                [PROGRAMS / name, *arguments],
                env=environment(),
                cwd=log.parent,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def stop(self, by: signal.Signals) -> tuple[int, str]:
        """Exit status after the signal, and the whole output."""
        self.process.send_signal(by)
        return self.process.wait(PATIENCE_S), self.log.read_text()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts programs; none outlives the test."""
    started: list[Program] = []

    def run(name: str, *arguments: str) -> Program:
        started.append(Program(name, *arguments, log=tmp_path / f'{name}.log'))
        return started[-1]

    yield run
    for program in started:
        if program.process.poll() is None:
            program.process.kill()
            program.process.wait()


class Listener:
    """A camera and an audience in this process."""

    def __init__(self) -> None:
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node('listener', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.camera = self.node.create_publisher(Image, 'image', 1)
        self.predictions: list[AnytimePrediction] = []
        self.loads: list[SystemLoad] = []
        self.node.create_subscription(
            AnytimePrediction, 'anytime_node/prediction', self.predictions.append, 10
        )
        self.node.create_subscription(SystemLoad, 'system_load', self.loads.append, 10)

    def publish(self, pixels: np.ndarray) -> None:
        """Send one frame, rgb uint8 [H, W, 3]."""
        image = Image(height=pixels.shape[0], width=pixels.shape[1], encoding='rgb8')
        image.step = 3 * pixels.shape[1]
        image.header.stamp = self.node.get_clock().now().to_msg()
        image.header.frame_id = 'camera'
        image.data = pixels.tobytes()
        self.camera.publish(image)

    def wait(self, done: Callable[[], bool], program: Program, send: bool = False) -> None:
        """Spin, sending a green frame each turn if asked, until done or the program is gone."""
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert program.process.poll() is None, program.log.read_text()
            assert time.monotonic() < end, program.log.read_text()
            if send:
                self.publish(solid('green'))
            self.executor.spin_once(timeout_sec=0.05)

    def close(self) -> None:
        """Leave the domain."""
        self.executor.shutdown()
        self.node.destroy_node()
        self.context.shutdown()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A listener in this test's domain."""
    made = Listener()
    yield made
    made.close()


def parameters(**values: object) -> list[str]:
    """Command-line arguments that set parameters."""
    pairs = [('-p', f'{name}:={value}') for name, value in values.items()]
    return ['--ros-args', *(word for pair in pairs for word in pair)]


@pytest.mark.parametrize('program', ['anytime_node', 'anytime_composed'])
def test_answers_a_frame_and_stops(program, start, listener, tmp_path):
    model = tmp_path / 'colors'
    make_ladder(model)
    running = start(program, *parameters(model=model, deadline_ms=5000))
    listener.wait(lambda: any(p.is_final for p in listener.predictions), running, send=True)

    answer = next(p for p in listener.predictions if p.is_final)
    assert answer.scores[0].name == 'green'
    assert answer.header.frame_id == 'camera'
    if program == 'anytime_composed':
        listener.wait(lambda: bool(listener.loads), running)
    status, output = running.stop(signal.SIGINT)
    assert status == 0, output
    assert 'Traceback' not in output


@pytest.mark.parametrize('by', [signal.SIGINT, signal.SIGTERM])
def test_monitor_tells_the_load_and_stops(by, start, listener):
    running = start('monitor_node')
    listener.wait(lambda: len(listener.loads) > 1, running)

    assert 0 <= listener.loads[-1].memory_percent <= 100
    status, output = running.stop(by)
    assert status == 0, output
    assert 'Traceback' not in output


@pytest.mark.parametrize(
    ('program', 'parameter'),
    [
        ('anytime_node', 'deadline_ms'),
        ('anytime_composed', 'deadline_ms'),
        ('anytime_composed', 'rate_hz'),
        ('monitor_node', 'rate_hz'),
    ],
)
def test_unusable_parameter_ends_with_its_name_and_value(program, parameter, start):
    running = start(program, *parameters(**{parameter: -3.0}))
    status = running.process.wait(PATIENCE_S)
    output = running.log.read_text()

    assert status == 2, output
    assert parameter in output
    assert '-3' in output
    assert 'Traceback' not in output


def test_command_line_lists_its_commands():
    done = subprocess.run(
        [PROGRAMS / 'anytime-dnn', '--help'],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert 'demo' in done.stdout
