"""What a user may trade accuracy for, set while the node runs; and a bundle that declares none."""

import math

import pytest

from anytime_dnn_ros.msg import AnytimePrediction
from ladders import make_ladder
from ros_harness import raw_image

pytestmark = pytest.mark.dds

# The middle one takes some 0.2 s, far longer than a message.
STAGES = (1, 6000, 1)


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    return tmp_path_factory.mktemp('bundles')


@pytest.fixture(scope='module')
def node(robot, bundles):
    """Of a ladder that declares 0.5, 0.6 and 0.7."""
    return robot.start_anytime_node(make_ladder(bundles / 'declared', convolutions=STAGES).path)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


def test_a_price_of_compute_that_nothing_brings_ends_every_frame_early(robot, camera):
    assert robot.set_parameter('compute_price', 1.0).successful
    final = robot.show(camera, raw_image(robot.stamp()))[-1]
    assert (final.stage, final.stop_reason) == (1, AnytimePrediction.STOP_NO_GAIN)
    robot.wait_for_value('compute_price', '1.0000')
    assert robot.set_parameter('compute_price', 0.0).successful
    assert robot.show(camera, raw_image(robot.stamp()))[-1].stage == 3


def test_a_report_declares_what_its_answer_does(robot, camera):
    final = robot.show(camera, raw_image(robot.stamp()))[-1]
    report = robot.wait_for(
        lambda: next((r for r in robot.reports if r.frame_seq == final.frame_seq), None),
        'its report',
    )
    assert report.expected_accuracy == final.expected_accuracy == pytest.approx(0.7)


def test_a_newer_frame_ends_the_one_in_flight_if_that_is_wished(robot, camera):
    assert robot.set_parameter('yield_to_newer', True).successful

    def attempt():
        older = raw_image(robot.stamp())
        camera.publish(older)

        def answers():
            return [p for p in robot.predictions if p.header.stamp == older.header.stamp]

        robot.wait_for(answers, 'a first answer')
        robot.show(camera, raw_image(robot.stamp()))
        (final,) = (p for p in answers() if p.is_final)
        # A machine that is busy elsewhere may have been done before the newer frame came.
        return final if final.stop_reason == AnytimePrediction.STOP_PREEMPTED else None

    assert robot.wait_for(attempt, 'a frame that gave way').stage < 3
    assert robot.set_parameter('yield_to_newer', False).successful


def test_the_guard_is_not_changed_under_an_active_node(robot, node, camera):
    refusal = robot.set_parameter('monotone', 'caching')
    assert not refusal.successful
    assert 'monotone cannot change while the node is active' in refusal.reason
    assert robot.transition('deactivate')
    assert not robot.set_parameter('monotone', 'off').successful
    for guard in ('none', 'caching', 'product'):
        assert robot.set_parameter('monotone', guard).successful
        assert robot.transition('activate')
        assert robot.show(robot.camera(), raw_image(robot.stamp()))[-1].stage == 3
        assert robot.transition('deactivate')
    assert node.end() == 0


def test_a_bundle_without_quality_data_runs_declares_nothing_and_says_so_once(robot, bundles):
    bundle = make_ladder(bundles / 'plain', with_quality=False)
    node = robot.start_anytime_node(bundle.path)
    camera = robot.camera()
    for _ in range(3):
        answers = robot.show(camera, raw_image(robot.stamp()))
        assert [p.stage for p in answers] == [1, 2, 3]
        assert all(math.isnan(p.expected_accuracy) for p in answers)
        assert not any(p.label_set for p in answers)
    assert node.log.count('expected_accuracy is published as NaN') == 1
    robot.wait_for_value('accuracy_counted_on', 'nothing: none is declared')
    assert robot.anytime_status().values['confidence_drift'] == 'nan'
    for name in ('compute_price', 'accuracy_target'):
        refusal = robot.set_parameter(name, 0.5)
        assert not refusal.successful
        assert f"{name} = 0.5 cannot be used with '{bundle.path}'" in refusal.reason
        assert 'anytime-dnn calibrate' in refusal.reason
    assert robot.show(camera, raw_image(robot.stamp()))[-1].stage == 3
    assert node.end() == 0
