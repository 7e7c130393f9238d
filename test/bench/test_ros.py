"""The bench through real DDS, and what it says where that cannot be."""

import json
import subprocess
import sys

import psutil
import pytest

from anytime_dnn_ros import cli
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
