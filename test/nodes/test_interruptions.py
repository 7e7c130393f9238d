"""A process that was stopped for two seconds, as a debugger or a full board does it."""

import signal
import time

import pytest

from ladders import make_ladder
from ros_harness import raw_image

pytestmark = pytest.mark.dds

STOPPED_S = 2.0
# Stages of a few milliseconds: long enough to be stopped in.
STAGES = (40, 40, 40)


@pytest.fixture(scope='module')
def node(robot, tmp_path_factory):
    bundle = make_ladder(tmp_path_factory.mktemp('bundles') / 'colours', convolutions=STAGES)
    return robot.start_anytime_node(bundle.path, deadline_ms=500.0, max_frame_age_ms=1000.0)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


def pause(seconds):
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(left_s)


def dropped_as_too_old(robot):
    robot.diagnostics.clear()
    values = robot.wait_for(robot.anytime_status, 'diagnostics').values
    return sum(int(values.get(f'dropped_{kind}', 0)) for kind in ('stamp_too_old', 'stale'))


def assert_as_before(robot, camera):
    """Answers again at once, and soon as good as ever."""
    stamps = robot.stream(camera, 40)
    answers = robot.finals(stamps)
    assert len(answers) >= 20
    assert max(p.stage for p in answers[:20]) == len(STAGES)
    assert [p.stage for p in answers[-5:]].count(len(STAGES)) >= 3


def test_a_frame_that_waited_in_a_stopped_process_is_counted_as_too_old(robot, node, camera):
    robot.stream(camera, 20)
    before = dropped_as_too_old(robot)
    node.process.send_signal(signal.SIGSTOP)
    try:
        frame = raw_image(robot.stamp())
        camera.publish(frame)
        pause(STOPPED_S)
    finally:
        node.process.send_signal(signal.SIGCONT)
    robot.wait_for(lambda: dropped_as_too_old(robot) > before, 'a frame refused for its age')
    stamp = frame.header.stamp
    assert not robot.finals([(stamp.sec, stamp.nanosec)])
    assert_as_before(robot, camera)


def test_under_a_running_camera_a_stop_costs_its_frames_and_no_more(robot, node, camera):
    before = robot.finals(robot.stream(camera, 20))
    node.process.send_signal(signal.SIGSTOP)
    try:
        while_stopped = robot.stream(camera, round(STOPPED_S / 0.05))
    finally:
        node.process.send_signal(signal.SIGCONT)
    assert_as_before(robot, camera)
    # The newest one that waited may have been young enough.
    assert len(robot.finals(while_stopped)) <= len(while_stopped) // 2
    numbers = [p.frame_seq for p in robot.predictions if p.is_final]
    assert numbers == sorted(set(numbers))
    assert before


def test_being_stopped_again_and_again_ends_nothing(robot, node, camera):
    for _ in range(5):
        node.process.send_signal(signal.SIGSTOP)
        robot.stream(camera, 4)
        node.process.send_signal(signal.SIGCONT)
        robot.stream(camera, 2)
    assert_as_before(robot, camera)
    assert node.is_alive
    assert 'Traceback' not in node.log
    assert node.end() == 0
