"""The threads that receive and answer get their priority, or one line says why not."""

import os
from pathlib import Path

import pytest

from ladders import make_ladder
from ros_harness import raw_image

pytestmark = pytest.mark.dds


def first_in_first_out(pid):
    """How many threads of a process are under SCHED_FIFO."""
    threads = [int(task.name) for task in Path(f'/proc/{pid}/task').iterdir()]
    # The kernel gives the flag SCHED_RESET_ON_FORK with the policy.
    policies = [os.sched_getscheduler(tid) & ~os.SCHED_RESET_ON_FORK for tid in threads]
    return policies.count(os.SCHED_FIFO)


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('bundles') / 'colours')


def test_at_0_no_thread_is_moved(robot, bundle):
    node = robot.start_anytime_node(bundle.path, realtime_priority=0)
    robot.show(robot.camera(), raw_image(robot.stamp()))
    assert first_in_first_out(node.process.pid) == 0
    assert 'real-time priority' not in node.log
    assert node.end() == 0


def test_executor_worker_and_timer_are_moved_or_the_mend_is_told_once(robot, bundle):
    node = robot.start_anytime_node(bundle.path)
    assert robot.show(robot.camera(), raw_image(robot.stamp()))[-1].stage == 3
    moved = first_in_first_out(node.process.pid)
    told = node.log.count('real-time priority 1 is refused')
    assert (moved, told) in ((3, 0), (0, 1))
    assert node.end() == 0
