"""Bad frames, deadlines and neighbours: the node lives, counts, warns once, answers the next."""

import math
import signal

import pytest

from anytime_dnn_ros.msg import Deadline, LoadProfile, SystemLoad
from ladders import make_ladder
from ros_harness import best, jpeg_image, raw_image

pytestmark = pytest.mark.dds


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('bundles') / 'colours')


@pytest.fixture(scope='module')
def node(robot, bundle):
    return robot.start_anytime_node(bundle.path)


@pytest.fixture(scope='module')
def camera(robot, node):
    return robot.camera()


def dropped(robot, kind):
    robot.diagnostics.clear()
    status = robot.wait_for(robot.anytime_status, 'diagnostics')
    return int(status.values.get(f'dropped_{kind}', 0))


def assert_refused(robot, camera, message, kind, *, good):
    """`message` is counted as `kind`, and the good frame after it is answered."""
    before, answers_before = dropped(robot, kind), len(robot.predictions)
    camera.publish(message)
    robot.wait_for_count(f'dropped_{kind}', before + 1)
    assert len(robot.predictions) == answers_before
    answers = robot.show(camera, good(robot.stamp(), 'blue'))
    assert best(answers[-1]) == 'blue'
    assert kind in robot.wait_for_status('WARN', 'frames refused').message


@pytest.mark.parametrize(
    ('changes', 'kind'),
    [
        ({'encoding': 'hsv42'}, 'unknown_encoding'),
        ({'step': 7}, 'wrong_step'),
        ({'step': 100_000}, 'truncated_image'),
        ({'data': bytes(100)}, 'truncated_image'),
        ({'width': 0}, 'empty_image'),
        ({'height': 0, 'data': b''}, 'empty_image'),
        ({'width': 10_000, 'height': 10_000, 'step': 30_000}, 'image_too_large'),
    ],
    ids=str,
)
def test_a_bad_frame_is_counted_and_the_next_is_answered(robot, camera, changes, kind):
    message = raw_image(robot.stamp(), **changes)
    assert_refused(robot, camera, message, kind, good=raw_image)


@pytest.mark.parametrize(
    ('stamp', 'kind'),
    [
        ({'sec': 0, 'nanosec': 0}, 'stamp_zero'),
        ({'sec': 2**31 - 1, 'nanosec': 0}, 'stamp_future'),
        (+5.0, 'stamp_future'),
        (-5.0, 'stamp_backwards'),
        ({'sec': -(2**31), 'nanosec': 0}, 'stamp_backwards'),
    ],
    ids=str,
)
def test_an_absurd_stamp_is_counted_and_the_next_is_answered(robot, camera, stamp, kind):
    stamp = robot.stamp(stamp) if isinstance(stamp, float) else stamp
    assert_refused(robot, camera, raw_image(stamp), kind, good=raw_image)


def test_the_same_kind_is_warned_of_once_however_often_it_comes(robot, node, camera):
    before = dropped(robot, 'unknown_encoding')
    lines_before = node.log.count('unknown_encoding: ')
    for count in range(1, 9):
        camera.publish(raw_image(robot.stamp(), encoding='hsv42'))
        robot.wait_for_count('dropped_unknown_encoding', before + count)
    lines = node.log.count('unknown_encoding: ')
    assert lines >= 1
    assert lines - lines_before <= 1
    assert "'hsv42' is not supported: publish one of" in node.log


def test_without_stamps_the_deadline_may_count_from_receipt(robot, camera):
    assert robot.set_parameter('deadline_reference', 'receive').successful
    try:
        answers = robot.show(camera, raw_image({'sec': 0, 'nanosec': 7}))
        assert answers[-1].stage == 3
        assert math.isnan(answers[-1].age_ms)
    finally:
        assert robot.set_parameter('deadline_reference', 'stamp').successful
    assert robot.show(camera, raw_image(robot.stamp()))[-1].age_ms > 0


@pytest.mark.parametrize('value', [0.0, -5.0, math.nan, math.inf, 1e12, 0, 'fast', True])
def test_a_bad_deadline_parameter_is_refused_with_name_value_and_mend(robot, camera, value):
    result = robot.set_parameter('deadline_ms', value)
    assert not result.successful
    assert 'deadline_ms' in result.reason
    assert str(value) in result.reason
    assert '60000' in result.reason
    assert robot.show(camera, raw_image(robot.stamp()))[-1].deadline_ms == 60_000


@pytest.mark.parametrize(
    ('name', 'value', 'mend'),
    [
        ('deadline_reference', 'yesterday', 'stamp, receive'),
        ('top_k', 0, '1'),
        ('miss_rate_target', 2.0, '0.5'),
    ],
)
def test_other_bad_parameters_are_refused_likewise(robot, camera, name, value, mend):
    result = robot.set_parameter(name, value)
    assert not result.successful
    assert name in result.reason
    assert str(value) in result.reason
    assert mend in result.reason


def test_bad_deadline_messages_and_a_flood_change_nothing(robot, node, camera):
    deadline = robot.publisher(Deadline, 'anytime_node/deadline')

    def refused():
        robot.diagnostics.clear()
        return int(robot.wait_for(robot.anytime_status, 'diagnostics').values['deadlines_refused'])

    # The first message may reach nobody.
    def arrives():
        deadline.publish(Deadline(budget_ms=-1.0))
        return refused() > 0

    robot.wait_for(arrives, 'a refused deadline')
    for value in (math.nan, math.inf, -math.inf, 1e12, 0.001):
        before = refused()
        deadline.publish(Deadline(budget_ms=value))
        robot.wait_for_count('deadlines_refused', before + 1)
    assert robot.show(camera, raw_image(robot.stamp()))[-1].deadline_ms == 60_000
    for count in range(5000):
        deadline.publish(Deadline(budget_ms=math.nan if count % 2 else 5000.0 + count))
    assert robot.show(camera, raw_image(robot.stamp(), 'green'))[-1].is_final
    # Whatever the flood left behind, a good message has the last word.
    deadline.publish(Deadline(budget_ms=0.0))
    robot.wait_for(
        lambda: robot.show(camera, raw_image(robot.stamp()))[-1].deadline_ms == 60_000,
        'the way back to the parameter',
    )
    assert node.log.count('deadline_refused: ') < 20


def test_a_monitor_that_sends_nan_changes_no_answer(robot, camera):
    load = robot.node.create_publisher(SystemLoad, 'system_load', 10)
    profile = robot.node.create_publisher(LoadProfile, 'load_profile', 10)
    numbers = {
        name: math.nan
        for name, kind in SystemLoad.get_fields_and_field_types().items()
        if kind == 'float'
    }

    def is_heard():
        load.publish(SystemLoad(**numbers))
        profile.publish(LoadProfile(window_s=math.nan, regime=255, mean=SystemLoad(**numbers)))
        robot.spin(0.1)
        status = robot.anytime_status()
        return status and status.values['load_signal'] == 'implausible'

    robot.wait_for(is_heard, 'the complaint')
    assert 'no cpu_percent' in robot.wait_for_status('WARN', 'the monitor').message
    answers = robot.show(camera, raw_image(robot.stamp(), 'green'))
    assert [p.stage for p in answers] == [1, 2, 3]
    assert best(answers[-1]) == 'green'
    assert robot.anytime_status().values['cpu_percent'] == 'nan'
    robot.node.destroy_publisher(load)
    robot.node.destroy_publisher(profile)


def test_a_monitor_that_dies_is_told_and_frames_are_answered(robot, camera):
    monitor = robot.start('monitor_node')

    # The test before has left a signal behind; only the machine's own number is this monitor's.
    robot.wait_for(
        lambda: robot.anytime_status().values['cpu_percent'] != 'nan', 'a number of the monitor'
    )
    robot.wait_for_value('load_signal', 'ok')
    monitor.end(signal.SIGKILL)

    def is_lost():
        robot.show(camera, raw_image(robot.stamp()))
        return robot.anytime_status().values['load_signal'] == 'lost'

    robot.wait_for(is_lost, 'the loss of the monitor in /diagnostics')
    assert 'monitor has gone silent' in robot.wait_for_status('WARN', 'monitor').message
    assert [p.stage for p in robot.show(camera, raw_image(robot.stamp()))] == [1, 2, 3]


def test_a_camera_may_vanish_and_return_with_another_reliability(robot, camera):
    robot.node.destroy_publisher(camera)
    robot.wait_for_status('WARN', 'no camera frame')
    for reliable in (False, True):
        # Waits for the node to follow the reliability.
        again = robot.camera(reliable=reliable)
        assert best(robot.show(again, raw_image(robot.stamp(), 'blue'))[-1]) == 'blue'
        robot.node.destroy_publisher(again)


@pytest.fixture(scope='module')
def compressed_camera(robot, node):
    """Turns the running node to compressed images, as an operator does."""
    assert robot.transition('deactivate')
    assert robot.transition('cleanup')
    assert robot.set_parameter('image_transport', 'compressed').successful
    assert robot.transition('configure')
    assert robot.transition('activate')
    return robot.camera(compressed=True)


@pytest.mark.parametrize(
    ('spoil', 'kind'),
    [
        (lambda data: b'', 'corrupt_image'),
        (lambda data: b'no picture at all', 'corrupt_image'),
        (lambda data: data[: len(data) // 2], 'truncated_image'),
        (lambda data: data[:20] + data[-2:], 'corrupt_image'),
    ],
    ids=['empty', 'text', 'cut', 'holed'],
)
def test_a_bad_jpeg_is_counted_and_the_next_is_answered(robot, compressed_camera, spoil, kind):
    good = jpeg_image(robot.stamp())
    message = jpeg_image(robot.stamp(), data=spoil(bytes(good.data)))
    assert_refused(robot, compressed_camera, message, kind, good=jpeg_image)


def test_after_all_this_the_node_is_the_one_that_started_and_ends_cleanly(
    robot, node, compressed_camera
):
    assert node.is_alive
    assert 'Traceback' not in node.log
    assert node.end() == 0
    assert 'Traceback' not in node.log


@pytest.mark.parametrize(
    ('name', 'value'), [('deadline_ms', -5.0), ('threads', 0), ('engine', 'magic')]
)
def test_a_bad_parameter_at_start_ends_the_node_with_the_mend(robot, bundle, name, value):
    program = robot.start_anytime_node(bundle.path, name='unstartable', **{name: value})
    assert program.process.wait(30) == 2
    assert f'parameter {name} = {value!r} cannot be used' in program.log
    assert 'Traceback' not in program.log


def test_a_whole_number_at_start_is_a_good_deadline(robot, bundle):
    program = robot.start_anytime_node(bundle.path, name='whole', deadline_ms=50)
    robot.wait_for(lambda: robot.diagnostics.get('/whole: inference'), 'diagnostics')
    assert program.end() == 0
