"""Clocks that step: the camera's, and a simulated one that runs backwards."""

import itertools
import math

import pytest
from rosgraph_msgs.msg import Clock

from ladders import make_ladder
from ros_harness import best, raw_image

pytestmark = pytest.mark.dds

HOUR_S = 3600.0


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('bundles') / 'colours')


@pytest.fixture(scope='module')
def node(robot, bundle):
    return robot.start_anytime_node(bundle.path)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


def reasons(robot):
    robot.diagnostics.clear()
    values = robot.wait_for(robot.anytime_status, 'diagnostics').values
    return {
        key.removeprefix('dropped_'): int(count)
        for key, count in values.items()
        if key.startswith('dropped_')
    }


def fate(robot, camera, stamp):
    """`answered`, or the reason why a frame of that stamp was refused."""
    before = reasons(robot)
    frame = raw_image(stamp)
    camera.publish(frame)

    def known():
        if any(p.is_final and p.header.stamp == frame.header.stamp for p in robot.predictions):
            return 'answered'
        now = reasons(robot)
        return next((kind for kind in now if now[kind] > before.get(kind, 0)), None)

    return robot.wait_for(known, 'the fate of a frame')


@pytest.mark.parametrize(
    ('step_s', 'expected'),
    [
        (HOUR_S, ['stamp_future'] * 3),
        (-HOUR_S, ['stamp_backwards', 'stamp_too_old', 'stamp_too_old']),
    ],
)
def test_frames_of_a_stepped_camera_are_counted_and_the_first_good_one_is_answered(
    robot, camera, step_s, expected
):
    assert fate(robot, camera, robot.stamp()) == 'answered'
    assert [fate(robot, camera, robot.stamp(step_s)) for _ in expected] == expected
    assert fate(robot, camera, robot.stamp()) == 'answered'
    # A step that lasts is told with the mend.
    fate(robot, camera, robot.stamp(step_s))
    assert 'stamp_' in robot.wait_for_status('WARN', 'frames refused').message


def test_half_a_second_into_the_future_is_refused_as_well(robot, node, camera):
    # A machine that is busy elsewhere may take so long that the stamp has come true.
    robot.wait_for(
        lambda: fate(robot, camera, robot.stamp(0.5)) == 'stamp_future', 'a refused frame'
    )
    assert fate(robot, camera, robot.stamp()) in ('answered', 'stamp_backwards')
    assert fate(robot, camera, robot.stamp()) == 'answered'
    assert 'set deadline_reference to receive' in node.log


@pytest.mark.parametrize('step_s', [HOUR_S, -HOUR_S])
def test_with_the_receipt_as_reference_a_step_costs_no_frame(robot, camera, step_s):
    assert robot.set_parameter('deadline_reference', 'receive').successful
    try:
        before = reasons(robot)
        for _ in range(3):
            answer = robot.show(camera, raw_image(robot.stamp(step_s)))[-1]
            assert answer.stage == 3
            assert math.isnan(answer.age_ms)
        assert reasons(robot) == before
    finally:
        assert robot.set_parameter('deadline_reference', 'stamp').successful
    assert fate(robot, camera, robot.stamp()) in ('answered', 'stamp_backwards')
    assert fate(robot, camera, robot.stamp()) == 'answered'


def test_the_stepped_node_ends_cleanly(node):
    assert 'Traceback' not in node.log
    assert node.end() == 0


class SimulatedTime:
    """Publishes `/clock` whenever it is looked at, so that a node that comes late has it too."""

    def __init__(self, robot, at_s):
        self.at_s = at_s
        self._frames = itertools.count()
        self._robot = robot
        self._publisher = robot.node.create_publisher(Clock, '/clock', 10)
        robot.node.create_timer(0.02, self._tell)

    def stamp(self):
        """Now, but a little different each time: that tells one frame from the other."""
        return {'sec': self.at_s, 'nanosec': next(self._frames)}

    def step_to(self, at_s):
        """Steps, and waits until the node has heard of it."""
        self.at_s = at_s
        # A frame of now is refused by a node whose clock is elsewhere.
        for _ in range(20):
            self._robot.spin()

    def _tell(self):
        message = Clock()
        message.clock.sec = self.at_s
        self._publisher.publish(message)


def test_a_simulated_clock_may_stand_still_and_run_backwards(robot, bundle):
    node = robot.start_anytime_node(bundle.path, use_sim_time=True)
    # Before any clock runs there are diagnostics nevertheless.
    robot.wait_for_status('OK', '')
    clock = SimulatedTime(robot, 10_000)
    camera = robot.camera(stamp=clock.stamp)
    # It stands still.
    assert [fate(robot, camera, clock.stamp()) for _ in range(3)] == ['answered'] * 3
    for back_s in (5000, 100):
        clock.step_to(back_s)
        robot.wait_for(
            lambda: fate(robot, camera, clock.stamp()) == 'answered', 'an answer after the step'
        )
        assert fate(robot, camera, clock.stamp()) == 'answered'
    assert reasons(robot)['stamp_backwards'] == 2
    clock.step_to(20_000)
    robot.wait_for(
        lambda: fate(robot, camera, clock.stamp()) == 'answered', 'an answer after the step'
    )
    answer = robot.show(camera, raw_image(clock.stamp(), 'blue'))[-1]
    assert (answer.stage, best(answer)) == (3, 'blue')
    assert 'Traceback' not in node.log
    assert node.end() == 0
