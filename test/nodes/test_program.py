import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    'arguments', [['-r', 'bad'], ['--params-file', '/no/such.yaml'], ['--log-level', 'silly']]
)
def test_ros_arguments_that_cannot_be_used_end_the_program_with_their_text(arguments):
    command = [sys.executable, '-m', 'anytime_dnn_ros.nodes.monitor_node', '--ros-args']
    outcome = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert outcome.returncode == 2
    assert 'the ROS arguments cannot be used' in outcome.stderr
    assert arguments[-1] in outcome.stderr
    assert 'Traceback' not in outcome.stderr
