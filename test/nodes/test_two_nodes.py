"""Two nodes on one machine with one monitor: each is the other's load."""

import pytest
from sensor_msgs.msg import Image

from ladders import make_ladder
from ros_harness import raw_image

pytestmark = pytest.mark.dds

NAMES = ('front', 'rear')
FRAMES = 80
# Stages of a few milliseconds, and a deadline that even a machine busy elsewhere can keep.
STAGES, DEADLINE_MS = (30, 30, 30), 1000.0


@pytest.fixture(scope='module')
def heard(robot, tmp_path_factory):
    """Predictions and reports of both nodes, once both answer."""
    bundle = make_ladder(tmp_path_factory.mktemp('bundles') / 'colours', convolutions=STAGES)
    heard = {name: robot.listen(name) for name in NAMES}
    robot.start('monitor_node')
    for name in NAMES:
        robot.start_anytime_node(bundle.path, name=name, deadline_ms=DEADLINE_MS)
    camera = robot.node.create_publisher(Image, 'image', 10)

    def both_answer():
        robot.stream(camera, 5)
        return all(predictions for predictions, _ in heard.values())

    robot.wait_for(both_answer, 'answers of both nodes')
    for _, reports in heard.values():
        reports.clear()
    robot.stream(camera, FRAMES)
    robot.wait_for(
        lambda: all(len(reports) >= FRAMES // 2 for _, reports in heard.values()), 'their reports'
    )
    return heard


@pytest.mark.parametrize('name', NAMES)
def test_both_answer_by_their_deadlines_without_a_forecast(heard, name):
    _, reports = heard[name]
    assert sum(r.deadline_missed for r in reports) <= len(reports) // 10
    assert sum(r.stages_run == 0 for r in reports) <= len(reports) // 10


@pytest.mark.parametrize('name', NAMES)
def test_neither_drives_the_other_back_to_its_first_stage(heard, name):
    _, reports = heard[name]
    later = reports[len(reports) // 2 :]
    assert sum(r.stages_run == len(STAGES) for r in later) >= len(later) // 2


@pytest.mark.parametrize('name', NAMES)
def test_both_hear_the_monitor_and_believe_it(robot, heard, name):
    status = robot.wait_for(lambda: robot.diagnostics.get(f'/{name}: inference'), 'diagnostics')
    assert status.values['load_signal'] == 'ok'
    assert float(status.values['slowdown']) > 0


def test_one_may_end_and_the_other_goes_on(robot, heard):
    _, front, rear = robot.programs
    assert front.end() == 0
    _, reports = heard['rear']
    reports.clear()
    camera = robot.node.create_publisher(Image, 'image', 10)
    robot.wait_for(
        lambda: camera.publish(raw_image(robot.stamp())) or len(reports) >= 5,
        'answers of one node',
    )
    assert rear.end() == 0
    for program in (front, rear):
        assert 'Traceback' not in program.log
