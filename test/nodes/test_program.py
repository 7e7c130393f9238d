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


def test_a_node_that_is_done_ends_the_program_with_success():
    code = (
        'import sys, rclpy.node; from anytime_dnn_ros.nodes.program import run_nodes\n'
        'class Done(rclpy.node.Node):\n'
        '    is_done = True\n'
        "sys.exit(run_nodes('done', [lambda: Done('done')], []))"
    )
    outcome = subprocess.run(
        [sys.executable, '-c', code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (outcome.returncode, outcome.stderr) == (0, '')


def test_engines_that_cannot_be_built_end_the_program_with_their_text(monkeypatch):
    # Nowhere is a GPU then, whatever the machine has.
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '')
    command = [sys.executable, '-m', 'anytime_dnn_ros.nodes.anytime_node', '--ros-args']
    command += ['-p', 'build_only:=true', '-p', 'engine:=tensorrt']
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert outcome.returncode == 2
    assert 'needs an NVIDIA GPU' in outcome.stderr
    assert 'Traceback' not in outcome.stderr
