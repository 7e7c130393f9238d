"""Models that cannot be used, given to one running node: it lives, says why, takes a good one."""

import json
import shutil

import pytest

from anytime_dnn_ros.ladder.bundle import write_bundle
from ladders import LABELS, make_ladder, stage_model
from ros_harness import best, raw_image

pytestmark = pytest.mark.dds


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    return tmp_path_factory.mktemp('bundles')


@pytest.fixture(scope='module')
def good(bundles):
    return make_ladder(bundles / 'good')


@pytest.fixture(scope='module')
def node(robot):
    return robot.start_anytime_node('/no/such/model')


@pytest.fixture
def bad(bundles, good):
    shutil.rmtree(bundles / 'bad', ignore_errors=True)
    return shutil.copytree(good.path, bundles / 'bad')


def edit(path, change):
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def remove_stage(path):
    (path / 'stages' / 'exit2.onnx').unlink()


def remove_manifest(path):
    (path / 'manifest.json').unlink()


def flip_byte(path):
    file = path / 'stages' / 'exit1.onnx'
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)


def spoil_schema(path):
    edit(path / 'manifest.json', lambda doc: doc.update(schema_version=99))


def point_outside(path):
    edit(
        path / 'manifest.json',
        lambda doc: doc['stages'][0].update(file='../good/stages/exit1.onnx'),
    )


def configure(robot, model):
    assert robot.set_parameter('model', str(model)).successful
    return robot.transition('configure')


def test_a_model_that_does_not_exist_is_named_in_diagnostics(robot, node):
    status = robot.wait_for_status('ERROR', '/no/such/model')
    assert 'parameter model' in status.message
    assert 'give one of' in status.message
    assert node.is_alive
    assert robot.state() == 'unconfigured'
    assert 'Traceback' not in node.log


@pytest.mark.parametrize(
    ('spoil', 'text'),
    [
        (remove_stage, 'exit2'),
        (remove_manifest, 'manifest.json'),
        (flip_byte, 'damaged or was changed'),
        (spoil_schema, 'schema_version'),
        (point_outside, 'points outside the bundle'),
    ],
)
def test_a_bad_bundle_is_refused_and_told(robot, node, bad, spoil, text):
    spoil(bad)
    assert not configure(robot, bad)
    assert 'parameter model' in robot.wait_for_status('ERROR', text).message
    assert robot.state() == 'unconfigured'


def test_labels_that_cannot_be_read_are_refused(robot, node, good):
    assert robot.set_parameter('labels_path', '/no/such/labels').successful
    assert not configure(robot, good.path)
    robot.wait_for_status('ERROR', 'parameter labels_path')
    assert robot.set_parameter('labels_path', '').successful


def test_stages_that_the_engine_cannot_load_leave_the_node_inactive(robot, node, good, bundles):
    files = {f'exit{i + 1}': stage_model(first=i == 0, last=i == 2) for i in range(3)}
    files['exit3'] = b'the right hash, but no network'
    unloadable = write_bundle(bundles / 'unloadable', good.manifest, files, LABELS, None)
    assert configure(robot, unloadable.path)
    assert not robot.transition('activate')
    robot.wait_for_status('ERROR', "cannot load stage 'exit3'")
    assert robot.state() == 'inactive'
    assert robot.transition('cleanup')


def test_after_all_this_the_same_node_serves_a_good_bundle(robot, node, good):
    assert configure(robot, good.path)
    assert robot.transition('activate')
    answers = robot.show(robot.camera(), raw_image(robot.stamp(), 'blue'))
    assert [p.stage for p in answers] == [1, 2, 3]
    assert best(answers[-1]) == 'blue'
    robot.wait_for_status('OK', 'answering')
    assert node.end() == 0
