"""The whole demo, as a newcomer starts it: real processes, real DDS, the shipped ladder."""

import json
import os
import signal
import subprocess
import sys

import cv2
import psutil
import pytest

from anytime_dnn_ros.demo.photos import PHOTO_FILES

pytestmark = pytest.mark.dds

DEMO = [sys.executable, '-m', 'anytime_dnn_ros.cli', 'demo']


def tail(out) -> str:
    """What a failing test shows of the children."""
    return '\n'.join(f'{f.name}:\n{f.read_text()[-2000:]}' for f in out.glob('*.log'))


def test_the_main_job_runs_and_reports(tmp_path):
    out = tmp_path / 'demo'
    command = [*DEMO, '--duration-s', '6', '--out', str(out), '--json', str(tmp_path / 'f.json')]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + tail(out)

    summary = json.loads((out / 'summary.json').read_text())
    assert json.loads((tmp_path / 'f.json').read_text()) == summary
    assert 0 < summary['frames_answered'] <= summary['frames_received']
    assert summary['frames_received'] <= summary['frames_published']
    assert 0 < summary['finals'] <= summary['predictions']
    assert summary['labels']
    assert set(summary['labels']) <= set(PHOTO_FILES)
    assert all(summary['labels'].values())
    assert summary['node_rss_mb'] > 0
    assert '<svg' in (out / 'report.html').read_text()
    picture = cv2.imread(str(out / 'debug.png'))
    assert picture.shape[1] == 640
    assert picture.std() > 10
    assert 'Traceback' not in tail(out)


def test_ctrl_c_ends_every_process(tmp_path):
    out = tmp_path / 'demo'
    command = [*DEMO, '--duration-s', '60', '--out', str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        lines = iter(demo.stdout.readline, '')
        assert any(' missed ' in line for line in lines), tail(out)
        children = psutil.Process(demo.pid).children(recursive=True)
        os.kill(demo.pid, signal.SIGINT)
        demo.communicate()
        assert demo.returncode == 130
    assert len(children) >= 3
    assert not [child for child in children if child.is_running()]
    assert not (out / 'summary.json').exists()


def test_a_node_that_refuses_its_parameters_is_quoted(tmp_path):
    out = tmp_path / 'demo'
    done = subprocess.run(
        [*DEMO, '--deadline-ms', '-3', '--out', str(out)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert 'anytime_node ended with code 2' in done.stderr
    assert 'parameter deadline_ms = -3.0' in done.stderr
    assert not (out / 'summary.json').exists()
