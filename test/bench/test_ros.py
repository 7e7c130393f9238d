"""The bench through real DDS, and what it says where that cannot be."""

import argparse
import json
import subprocess
import sys

import psutil
import pytest

from anytime_dnn_ros import cli
from anytime_dnn_ros.bench.options import add_arguments
from evaluate.colour_images import write_images
from ladders import make_ladder

BENCH = [sys.executable, '-m', 'anytime_dnn_ros.cli', 'bench']


@pytest.mark.dds
def test_a_pass_through_dds(tmp_path):
    pytest.importorskip('rclpy')
    bundle = make_ladder(tmp_path / 'colours').path
    data = write_images(tmp_path / 'tints')
    words = ['--ros', '--bundle', bundle, '--data', data, '--frames', '40', '--rate-hz', '20']
    words += ['--deadlines', '5000', '--loads', 'step', '--json', tmp_path / 'ros.json']
    done = subprocess.run(
        [*BENCH, *map(str, words)], check=False, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr + done.stdout
    (row,) = json.loads((tmp_path / 'ros.json').read_text())['rows']
    assert (row['policy'], row['source'], row['frames']) == ('ours', 'ros', 40)
    assert row['miss_rate_first_2s'] is not None
    mine = psutil.Process().children(recursive=True)
    assert not [p for p in mine if 'anytime_dnn_ros' in ' '.join(p.cmdline())]


def test_without_rclpy_the_mend_is_told(monkeypatch, capsys):
    for name in ('rclpy', 'rclpy.executors'):
        monkeypatch.setitem(sys.modules, name, None)
    for name in [m for m in sys.modules if m == 'anytime_dnn_ros.bench.ros']:
        monkeypatch.delitem(sys.modules, name)
    assert cli.main(['bench', '--ros', '--deadlines', '20']) == 1
    assert 'setup.bash' in capsys.readouterr().err


def test_the_node_is_told_what_the_other_passes_have():
    ros = pytest.importorskip('anytime_dnn_ros.bench.ros')
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    words = '--threads 2 --realtime-priority 0 --miss-target 0.05 --engine onnxruntime'
    told = ros._parameters(parser.parse_args(words.split()), 20.0)
    for parameter in (
        'threads:=2',
        'realtime_priority:=0',
        'miss_rate_target:=0.05',
        'engine:=onnxruntime',
        'deadline_ms:=20.0',
    ):
        assert parameter in told
