"""anytime_node as a robot meets it: its own process, through real DDS."""

import math
import signal

import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import Image

from anytime_dnn_ros.msg import AnytimePrediction, Deadline, PerformanceProfile
from ladders import LABELS, make_ladder
from ros_harness import best, raw_image

pytestmark = pytest.mark.dds


@pytest.fixture(scope='module')
def node(robot, tmp_path_factory):
    bundle = make_ladder(tmp_path_factory.mktemp('bundles') / 'colours')
    return robot.start_anytime_node(bundle.path)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


@pytest.mark.parametrize('color', LABELS)
def test_a_frame_is_answered_after_every_stage_with_its_own_header(robot, camera, color):
    frame = raw_image(robot.stamp(), color)
    answers = robot.show(camera, frame)
    assert [p.stage for p in answers] == [1, 2, 3]
    assert [p.is_final for p in answers] == [False, False, True]
    assert {best(p) for p in answers} == {color}
    assert {p.header.frame_id for p in answers} == {'camera'}
    assert {p.num_stages for p in answers} == {3}
    assert len({p.frame_seq for p in answers}) == 1
    final = answers[-1]
    assert final.stop_reason == AnytimePrediction.STOP_FINISHED
    assert final.scores[0].class_id == str(LABELS.index(color))
    assert final.confidence == pytest.approx(final.scores[0].score)
    assert sum(s.score for s in final.scores) == pytest.approx(1, abs=1e-5)
    assert final.deadline_ms == 60_000
    assert final.expected_accuracy == pytest.approx(0.7)


def test_each_frame_has_one_report(robot, camera):
    frame = raw_image(robot.stamp())
    final = robot.show(camera, frame)[-1]

    def reports():
        return [r for r in robot.reports if r.header.stamp == frame.header.stamp]

    robot.wait_for(reports, 'a frame report')
    robot.show(camera, raw_image(robot.stamp()))
    (report,) = reports()
    assert report.frame_seq == final.frame_seq
    assert report.stages_run == 3
    assert not report.deadline_missed
    assert report.frames_received >= report.frame_seq
    assert report.queue_ms + report.preprocess_ms + report.infer_ms <= report.total_ms
    assert report.age_ms >= report.total_ms


def test_the_performance_profile_reaches_those_who_come_late(robot, camera):
    profiles = []
    qos = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    robot.node.create_subscription(
        PerformanceProfile, 'anytime_node/performance_profile', profiles.append, qos
    )
    robot.wait_for(lambda: profiles, 'a performance profile')
    profile = profiles[0]
    assert (profile.model, profile.engine) == ('colours', 'onnxruntime')
    assert [s.name for s in profile.stages] == ['exit1', 'exit2', 'exit3']
    assert [s.expected_accuracy for s in profile.stages] == pytest.approx([0.5, 0.6, 0.7])
    total_ms = 0.0
    for stage in profile.stages:
        total_ms += stage.expected_time_ms
        assert stage.expected_time_ms > 0
        assert stage.cumulative_time_ms == pytest.approx(total_ms)


def test_the_debug_picture_comes_while_somebody_looks(robot, camera):
    pictures = []
    looking = robot.node.create_subscription(Image, 'anytime_node/debug_image', pictures.append, 1)

    def seen():
        robot.show(camera, raw_image(robot.stamp(), 'blue'))
        return pictures

    robot.wait_for(seen, 'a debug picture')
    robot.node.destroy_subscription(looking)
    picture = pictures[0]
    assert picture.encoding == 'bgr8'
    assert len(picture.data) == picture.step * picture.height > 0
    assert picture.header.frame_id == 'camera'


def test_a_deadline_message_holds_for_as_many_frames_as_it_says(robot, camera):
    deadline = robot.publisher(Deadline, 'anytime_node/deadline')

    def budgets(count):
        return [robot.show(camera, raw_image(robot.stamp()))[-1].deadline_ms for _ in range(count)]

    def send(**fields):
        """Sends until it holds: the first message may reach nobody."""

        def holds():
            deadline.publish(Deadline(**fields))
            robot.spin(0.1)
            return budgets(1) == [fields['budget_ms'] or 60_000]

        robot.wait_for(holds, f'deadline {fields}')

    send(budget_ms=7000.0, frames=0)
    assert budgets(3) == [7000] * 3
    send(budget_ms=0.0)
    assert budgets(1) == [60_000]
    deadline.publish(Deadline(budget_ms=8000.0, frames=2))
    robot.wait_for(lambda: budgets(1) == [8000], 'the deadline of two frames')
    assert budgets(2) == [8000, 60_000]


def test_parameters_change_at_once(robot, camera):
    try:
        assert robot.set_parameter('top_k', 1).successful
        assert robot.set_parameter('publish_intermediate', False).successful
        assert robot.set_parameter('deadline_ms', 50_000).successful
        answers = robot.show(camera, raw_image(robot.stamp()))
        assert [p.stage for p in answers] == [3]
        assert len(answers[0].scores) == 1
        assert answers[0].deadline_ms == 50_000
        assert robot.set_parameter('confidence_target', 0.01).successful
        (answer,) = robot.show(camera, raw_image(robot.stamp()))
        assert (answer.stage, answer.stop_reason) == (1, AnytimePrediction.STOP_CONFIDENT)
    finally:
        for name, value in (
            ('top_k', 5),
            ('publish_intermediate', True),
            ('deadline_ms', 60_000.0),
            ('confidence_target', 0.0),
        ):
            assert robot.set_parameter(name, value).successful


def test_what_needs_a_new_configuration_is_refused_while_active(robot, camera):
    result = robot.set_parameter('threads', 2)
    assert not result.successful
    assert 'threads' in result.reason
    assert 'deactivate' in result.reason


def test_diagnostics_tell_what_runs(robot, camera):
    robot.show(camera, raw_image(robot.stamp()))
    robot.diagnostics.clear()
    status = robot.wait_for(robot.anytime_status, 'diagnostics')
    assert status.level in ('OK', 'WARN')
    assert status.values['engine'].startswith('onnxruntime')
    assert status.values['image_reliability'] == 'reliable'
    assert int(status.values['frames_answered']) > 0
    assert not math.isnan(float(status.values['slowdown']))


def test_deactivation_frees_and_activation_serves_again(robot, camera):
    assert robot.transition('deactivate')
    assert robot.state() == 'inactive'
    status = robot.wait_for_status('OK', 'not active')
    assert 'engine' not in status.values
    robot.wait_for(lambda: not camera.get_subscription_count(), 'the subscription to go')
    assert robot.set_parameter('threads', 2).successful
    assert robot.transition('activate')
    assert robot.state() == 'active'
    again = robot.camera()
    assert best(robot.show(again, raw_image(robot.stamp(), 'blue'))[-1]) == 'blue'
    robot.wait_for_value('threads', '2')
    assert robot.transition('deactivate')
    assert robot.transition('cleanup')
    assert robot.state() == 'unconfigured'
    assert robot.set_parameter('threads', 1).successful
    assert robot.transition('configure')
    assert robot.transition('activate')
    assert robot.show(robot.camera(), raw_image(robot.stamp()))[-1].is_final


def test_a_node_told_to_wait_waits_for_a_lifecycle_manager(robot, node):
    waiting = robot.start('anytime_node', name='waiting', autostart=False, model='none such')
    status = robot.wait_for(lambda: robot.diagnostics.get('/waiting: inference'), 'diagnostics')
    assert (status.level, status.message) == ('OK', 'not active')
    assert waiting.end(signal.SIGTERM) == 0
    assert waiting.log == ''


def test_the_node_ends_cleanly_in_the_middle_of_its_work(robot, node, camera):
    for _ in range(20):
        camera.publish(raw_image(robot.stamp()))
        robot.spin(0.001)
    assert node.end(signal.SIGINT) == 0, node.log
    assert 'Traceback' not in node.log
