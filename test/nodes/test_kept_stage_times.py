"""The stage times that anytime_node keeps between its starts, and what spoils them."""

import json

import pytest

from ladders import make_ladder
from ros_harness import best, raw_image

pytestmark = pytest.mark.dds
MEASURED, KEPT = '(measured now)', '(kept from an earlier start)'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp('kept') / 'cache'


@pytest.fixture(scope='module')
def node(robot, folder, tmp_path_factory):
    bundle = make_ladder(tmp_path_factory.mktemp('bundles') / 'colours')
    node = robot.start_anytime_node(bundle.path, cache_dir=str(folder))
    robot.wait_for(lambda: 'active after' in node.log, 'the first activation')
    return node


@pytest.fixture
def file(node, folder):
    (file,) = folder.iterdir()
    return file


def activate_again(robot, node, **parameters):
    """What the node says while it does, with parameters changed in between."""
    before = len(node.log)
    assert robot.transition('deactivate')
    for name, value in parameters.items():
        assert robot.set_parameter(name, value).successful
    assert robot.transition('activate')
    robot.wait_for(lambda: 'active after' in node.log[before:], 'activation')
    return node.log[before:]


def test_a_bundle_that_is_new_to_the_machine_is_measured(node, file):
    assert MEASURED in node.log
    assert len(json.loads(file.read_text())['samples_s'][0]) == 3


def test_what_is_kept_is_taken_at_the_next_activate(robot, node, file):
    document = json.loads(file.read_text())
    # Five times as fast as this machine ever is, so that its load now cannot spoil the test.
    document['samples_s'] = [[0.2 * s for s in row] for row in document['samples_s']]
    file.write_text(json.dumps(document))
    assert KEPT in activate_again(robot, node)
    assert json.loads(file.read_text()) == document


def test_a_truncated_file_is_said_once_and_replaced(robot, node, file):
    whole = file.read_text()
    file.write_text(whole[: len(whole) // 2])
    said = activate_again(robot, node)
    assert MEASURED in said
    assert said.count('cannot be used') == 1
    assert set(json.loads(file.read_text())) == set(json.loads(whole))


def test_nothing_is_kept_if_nobody_wants_it(robot, node, file):
    file.unlink()
    assert MEASURED in activate_again(robot, node, cache_dir='none')
    assert not file.exists()


def test_a_folder_that_cannot_be_made_costs_a_warning_not_the_start(robot, node, folder):
    (folder / 'file').write_text('')
    said = activate_again(robot, node, cache_dir=str(folder / 'file' / 'cache'))
    assert said.count('cannot be kept') == 1
    assert best(robot.show(robot.camera(), raw_image(robot.stamp(), 'blue'))[-1]) == 'blue'
