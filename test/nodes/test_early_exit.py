"""Exit rules as a robot sets them: while the node runs, and with a bundle that has none."""

from dataclasses import replace

import pytest

from anytime_dnn_ros.ladder.bundle import write_bundle
from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.msg import AnytimePrediction
from ladders import LABELS, make_ladder
from ros_harness import raw_image

pytestmark = pytest.mark.dds

NEVER, ALWAYS = (-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0)
RULES = (
    ExitRule('entropy', 1e6, 0.5, (ALWAYS, ALWAYS)),
    ExitRule('entropy', 3e6, 0.6, (NEVER, ALWAYS)),
)


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    return tmp_path_factory.mktemp('bundles')


@pytest.fixture(scope='module')
def plain(bundles):
    return make_ladder(bundles / 'plain')


@pytest.fixture(scope='module')
def ruled(bundles, plain):
    files = {s.name: plain.stage_file(i).read_bytes() for i, s in enumerate(plain.manifest.stages)}
    quality = replace(plain.quality, exit_rules=RULES)
    return write_bundle(bundles / 'ruled', plain.manifest, files, LABELS, quality)


@pytest.fixture(scope='module')
def node(robot, plain):
    """Asks for a rule from its start, of a bundle that has none."""
    return robot.start_anytime_node(plain.path, exit_rule='entropy')


def test_a_bundle_without_exit_rules_is_refused_with_the_mend(robot, node):
    status = robot.wait_for_status('ERROR', 'anytime-dnn calibrate')
    assert "exit_rule = 'entropy'" in status.message
    assert robot.state() == 'unconfigured'
    assert node.is_alive


def test_the_rule_of_the_bundle_decides_and_may_change_while_active(robot, node, ruled):
    assert robot.set_parameter('model', str(ruled.path)).successful
    assert robot.transition('configure')
    assert robot.transition('activate')
    camera = robot.camera()

    def stages_run():
        answers = robot.show(camera, raw_image(robot.stamp()))
        return len(answers), answers[-1].stop_reason

    assert stages_run() == (2, AnytimePrediction.STOP_CONFIDENT)
    assert robot.set_parameter('exit_mean_mmac', 2).successful
    assert stages_run() == (1, AnytimePrediction.STOP_CONFIDENT)

    for name, value, mend in (
        ('exit_mean_mmac', 0.5, 'the cheapest takes 1 MMAC'),
        ('exit_rule', 'learned', 'anytime-dnn calibrate'),
        ('exit_rule', 'luck', 'none, entropy, max_softmax, learned'),
    ):
        refusal = robot.set_parameter(name, value)
        assert not refusal.successful
        assert mend in refusal.reason
    assert stages_run() == (1, AnytimePrediction.STOP_CONFIDENT)

    assert robot.set_parameter('exit_rule', 'none').successful
    assert stages_run() == (3, AnytimePrediction.STOP_FINISHED)
    assert node.end() == 0
