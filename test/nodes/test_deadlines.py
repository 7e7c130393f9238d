"""Deadlines that change while a frame is served, and deadlines that no stage can keep."""

import pytest

from anytime_dnn_ros.msg import AnytimePrediction, Deadline
from ladders import make_ladder
from ros_harness import best, raw_image

pytestmark = pytest.mark.dds

# A stage of some 0.2 s, far longer than a message takes.
LONG = 6000


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    return tmp_path_factory.mktemp('bundles')


@pytest.fixture(scope='module')
def node(robot, bundles):
    return robot.start_anytime_node(make_ladder(bundles / 'late', convolutions=(1, LONG)).path)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


def cut_by(robot, camera, shorten):
    """The final answer to a frame whose last stage ran when `shorten` was called."""

    def attempt():
        frame = raw_image(robot.stamp())
        camera.publish(frame)

        def answers():
            return [p for p in robot.predictions if p.header.stamp == frame.header.stamp]

        robot.wait_for(answers, 'a first answer')
        under_way = not answers()[-1].is_final
        shorten()
        final = robot.wait_for(
            lambda: next((p for p in answers() if p.is_final), None), 'a final answer'
        )
        # A machine that is busy elsewhere may have been done before the message came.
        return (
            final if under_way and final.stop_reason == AnytimePrediction.STOP_DEADLINE else None
        )

    return robot.wait_for(attempt, 'a frame that was cut')


def test_a_deadline_message_holds_for_the_frame_in_flight_and_does_not_count_it(robot, camera):
    deadline = robot.publisher(Deadline, 'anytime_node/deadline')
    final = cut_by(robot, camera, lambda: deadline.publish(Deadline(budget_ms=1.0, frames=1)))
    assert (final.stage, final.deadline_ms) == (1, 1.0)
    report = robot.wait_for(
        lambda: next((r for r in robot.reports if r.frame_seq == final.frame_seq), None),
        'its report',
    )
    assert report.deadline_ms == 1.0
    # The one frame that the message was for comes now.
    assert robot.show(camera, raw_image(robot.stamp()))[-1].deadline_ms == 1.0
    last = robot.show(camera, raw_image(robot.stamp()))[-1]
    assert (last.stage, last.deadline_ms) == (2, 60_000)


def test_a_longer_deadline_gives_the_frame_in_flight_no_more_time(robot, camera):
    assert robot.set_parameter('deadline_ms', 30_000.0).successful
    frame = raw_image(robot.stamp())
    camera.publish(frame)
    robot.wait_for(
        lambda: any(p.header.stamp == frame.header.stamp for p in robot.predictions), 'an answer'
    )
    assert robot.set_parameter('deadline_ms', 60_000.0).successful
    robot.wait_for(
        lambda: any(
            p.header.stamp == frame.header.stamp and p.is_final for p in robot.predictions
        ),
        'the final answer',
    )
    mine = [p for p in robot.predictions if p.header.stamp == frame.header.stamp]
    assert {p.deadline_ms for p in mine} == {30_000}
    assert robot.show(camera, raw_image(robot.stamp()))[-1].deadline_ms == 60_000


def test_a_smaller_parameter_holds_for_the_frame_in_flight(robot, node, camera):
    def shorten():
        assert robot.set_parameter('deadline_ms', 1.0).successful
        assert robot.set_parameter('deadline_ms', 60_000.0).successful

    final = cut_by(robot, camera, shorten)
    assert (final.stage, final.deadline_ms) == (1, 1.0)
    assert robot.show(camera, raw_image(robot.stamp()))[-1].stage == 2
    assert node.end() == 0


def test_a_deadline_below_the_first_stage_brings_forecasts_that_say_so(robot, bundles):
    bundle = make_ladder(bundles / 'slow', convolutions=(LONG, 1))
    node = robot.start_anytime_node(bundle.path)
    camera = robot.camera()
    red = robot.show(camera, raw_image(robot.stamp()))[-1]
    assert (red.stage, best(red)) == (2, 'red')
    assert robot.set_parameter('deadline_ms', 5.0).successful
    reports_before = len(robot.reports)
    robot.diagnostics.clear()
    for _ in range(4):
        (answer,) = robot.show(camera, raw_image(robot.stamp()))
        assert (answer.stage, answer.stop_reason) == (0, AnytimePrediction.STOP_FORECAST)
        assert best(answer) == 'red'
        # No more is claimed than of the answer it comes from.
        assert 0 < answer.expected_accuracy < red.expected_accuracy
        assert 0 < answer.confidence <= red.confidence
        assert not answer.label_set
    robot.wait_for(lambda: len(robot.reports) >= reports_before + 4, 'their reports')
    reports = robot.reports[reports_before:]
    assert {r.stages_run for r in reports} == {0}
    assert [r.frames_forecast for r in reports] == [1, 2, 3, 4]
    robot.wait_for_count('frames_forecast', 4)

    # What a forecast says follows what the first stage sees, one frame later.
    def says_blue():
        return best(robot.show(camera, raw_image(robot.stamp(), 'blue'))[-1]) == 'blue'

    robot.wait_for(says_blue, 'a forecast of the new scene')

    def warned():
        robot.show(camera, raw_image(robot.stamp(), 'blue'))
        status = robot.anytime_status()
        return status and status.level == 'WARN' and 'raise deadline_ms' in status.message

    robot.wait_for(warned, 'a warning of forecasts')
    assert robot.set_parameter('deadline_ms', 60_000.0).successful
    assert robot.show(camera, raw_image(robot.stamp(), 'blue'))[-1].stage == 2
    assert node.end() == 0
