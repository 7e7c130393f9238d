"""A monitor that lies, jumps and dies changes no answer, and is told of."""

import itertools
import math

import pytest

from anytime_dnn_ros.msg import LoadProfile, SystemLoad
from ladders import make_ladder
from ros_harness import raw_image

pytestmark = pytest.mark.dds

LIES = (
    {'cpu_percent': math.nan, 'cpu_freq_ratio': math.nan},
    {'cpu_percent': 1e9, 'cpu_freq_ratio': 1e9},
    {'cpu_percent': -50.0, 'cpu_freq_ratio': -1.0},
    {'cpu_percent': math.inf, 'throttled': -math.inf},
    {'cpu_percent': 100.0, 'cpu_freq_ratio': 1e-30, 'throttled': 1e30},
    {'cpu_percent': 0.0, 'cpu_percent_per_core': [1e30] * 10_000},
)


@pytest.fixture(scope='module')
def node(robot, tmp_path_factory):
    bundle = make_ladder(tmp_path_factory.mktemp('bundles') / 'colours')
    return robot.start_anytime_node(bundle.path)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


class Monitor:
    """Tells whatever it is told to tell, in another regime each time."""

    def __init__(self, robot):
        self._robot = robot
        self._load = robot.publisher(SystemLoad, 'system_load')
        self._profile = robot.publisher(LoadProfile, 'load_profile')
        self._regimes = itertools.cycle((0, 1, 255, 3, 2, 77))

    def tell(self, **numbers):
        regime = next(self._regimes)
        self._profile.publish(LoadProfile(regime=regime, regime_name=f'regime {regime}'))
        self._load.publish(SystemLoad(**numbers))
        self._robot.spin()


@pytest.fixture(scope='module')
def monitor(robot, camera):
    return Monitor(robot)


def test_lies_change_no_answer_and_are_told(robot, camera, monitor):
    for _, lie in zip(range(60), itertools.cycle(LIES), strict=False):
        monitor.tell(**lie)
        answers = robot.show(camera, raw_image(robot.stamp()))
        assert [p.stage for p in answers] == [1, 2, 3]

    def complains():
        monitor.tell(cpu_percent=1e9)
        status = robot.anytime_status()
        return status and status.values['load_signal'] == 'implausible' and status

    robot.diagnostics.clear()
    status = robot.wait_for(complains, 'load_signal implausible')
    assert status.level == 'WARN'
    assert 'cpu_percent = 1e+09: its load is not used' in status.message
    assert math.isfinite(float(status.values['slowdown']))


def test_jumps_from_idle_to_saturated_and_back_change_no_answer(robot, camera, monitor):
    for _, cpu_percent in zip(range(60), itertools.cycle((0.0, 100.0)), strict=False):
        monitor.tell(cpu_percent=cpu_percent, cpu_freq_ratio=1.0 - cpu_percent / 200)
        answers = robot.show(camera, raw_image(robot.stamp()))
        assert [p.stage for p in answers] == [1, 2, 3]


def test_the_truth_is_believed_again_and_silence_is_told(robot, node, camera, monitor):
    def is_believed():
        monitor.tell(cpu_percent=20.0, cpu_freq_ratio=1.0)
        robot.show(camera, raw_image(robot.stamp()))
        return robot.anytime_status().values['load_signal'] == 'ok'

    robot.wait_for(is_believed, 'load_signal ok')

    def is_lost():
        robot.show(camera, raw_image(robot.stamp()))
        return robot.anytime_status().values['load_signal'] == 'lost'

    robot.wait_for(is_lost, 'load_signal lost')
    assert [p.stage for p in robot.show(camera, raw_image(robot.stamp()))] == [1, 2, 3]
    assert 'Traceback' not in node.log
    assert node.end() == 0
