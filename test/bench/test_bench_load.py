"""Load plans, and real workers: they start, switch, and end with their parent whatever ends it."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from anytime_dnn_ros.bench.load import (
    BURSTS,
    LOADS,
    MOST_MEMORY_BYTES,
    LoadWorkers,
    load_plan,
    usable_cores,
)
from anytime_dnn_ros.errors import AnytimeError, ConfigurationError

WAIT_S = 30.0
SOURCE = Path(__file__).parents[2] / 'src'
FULL = 'cpu 1.0 1.0'


def wait_for(condition):
    end_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end_s, 'it did not happen'
        time.sleep(0.01)


def is_gone(pid):
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_no_load_never_comes_on():
    plan = load_plan('none', 9.0, cores=2)
    assert (plan.onset_s, plan.loaded_s) == (None, ())
    assert plan.commands == (('none', 'none'),)


def test_a_step_takes_every_core_from_a_third_on():
    plan = load_plan('step', 9.0, cores=3)
    assert plan.onset_s == 3.0
    assert plan.loaded_s == ((3.0, 9.0),)
    assert plan.commands[plan.index(2.99)] == ('none',) * 3
    assert plan.commands[plan.index(3.0)] == plan.commands[plan.index(9.0)] == (FULL,) * 3


def test_bursts_come_and_go_several_times():
    plan = load_plan('burst', 9.0, cores=1)
    states = [plan.commands[plan.index(t / 100)][0] for t in range(900)]
    rises = sum(b == FULL != a for a, b in pairwise(states))
    assert rises == BURSTS
    assert states[0] == states[-1] == 'none'
    assert len(plan.loaded_s) == BURSTS
    assert plan.loaded_s[0][0] == plan.onset_s == 3.0


def test_periodic_load_is_10_ms_in_each_100_ms():
    plan = load_plan('periodic', 9.0, cores=2)
    assert plan.commands[-1] == ('cpu 0.1 0.1',) * 2


def test_memory_pressure_is_bounded():
    cores = 4
    words = load_plan('memory', 9.0, cores=cores).commands[-1][0].split()
    assert words[0] == 'memory'
    assert 0 < cores * int(words[1]) <= MOST_MEMORY_BYTES


def test_a_recorded_load_is_played_core_by_core(tmp_path):
    file = tmp_path / 'load.csv'
    file.write_text(
        'time_s,cpu_percent,cpu_percent_per_core\n'
        '100.0,10,5 15\n100.5,,\n101.0,95,90 100\n102.0,50,\n',
        encoding='utf-8',
    )
    plan = load_plan(f'trace:{file}', 60.0, cores=2)
    assert plan.at_s == (0.0, 1.0, 2.0)
    assert plan.commands == (
        ('cpu 0.050 0.1', 'cpu 0.150 0.1'),
        ('cpu 0.900 0.1', 'cpu 1.000 0.1'),
        ('cpu 0.500 0.1', 'cpu 0.500 0.1'),
    )
    assert plan.onset_s == 1.0
    assert plan.loaded_s == ((1.0, 60.0),)
    assert load_plan(f'trace:{file}', 0.9, cores=2).loaded_s == ()


def test_a_recording_without_processor_load_is_refused(tmp_path):
    file = tmp_path / 'load.csv'
    file.write_text('time_s,power_w\n1,5\n', encoding='utf-8')
    with pytest.raises(ConfigurationError, match='no line tells the load'):
        load_plan(f'trace:{file}', 9.0)


@pytest.mark.parametrize('name', ['nonsense', '', 'trace:', 'trace:missing.csv'])
def test_an_unknown_load_is_refused(name):
    with pytest.raises(ConfigurationError):
        load_plan(name, 9.0)


@pytest.mark.parametrize('name', LOADS)
def test_workers_do_what_each_plan_tells_and_stop_when_quiet(name):
    with LoadWorkers(1) as workers:
        (worker,) = map(psutil.Process, workers.pids)
        commands = load_plan(name, 1.0, cores=1).commands
        workers.tell(commands[min(1, len(commands) - 1)])
        if name != 'none':
            before_s = worker.cpu_times().user + worker.cpu_times().system
            wait_for(lambda: sum(worker.cpu_times()[:2]) > before_s + 0.02)
        workers.quiet()
        # A worker that sleeps until it is told something uses nothing.
        wait_for(lambda: worker.status() == psutil.STATUS_SLEEPING)
        pids = workers.pids
    assert all(map(is_gone, pids))


def test_every_core_has_its_worker():
    with LoadWorkers() as workers:
        stay = [psutil.Process(pid).cpu_affinity() for pid in workers.pids]
        assert stay == [[core] for core in usable_cores()]


def test_workers_share_this_session_so_that_the_scheduler_shields_nobody():
    with LoadWorkers(1) as workers:
        assert os.getsid(workers.pids[0]) == os.getsid(0)
        assert psutil.Process(workers.pids[0]).nice() == psutil.Process().nice()


def test_a_worker_that_died_is_told():
    with LoadWorkers(1) as workers:
        os.kill(workers.pids[0], signal.SIGKILL)
        wait_for(lambda: is_gone(workers.pids[0]))
        with pytest.raises(AnytimeError, match='ended with code'):
            workers.tell([FULL])


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_parent(number):
    code = (
        'import time; from anytime_dnn_ros.bench.load import LoadWorkers\n'
        'with LoadWorkers() as workers:\n'
        f'    workers.tell(["{FULL}"] * len(workers.pids))\n'
        '    print(*workers.pids, flush=True); time.sleep(60)'
    )
    environment = {**os.environ, 'PYTHONPATH': str(SOURCE)}
    command = [sys.executable, '-c', code]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as parent:
        pids = [int(word) for word in parent.stdout.readline().split()]
        assert len(pids) == len(usable_cores())
        parent.send_signal(number)
    wait_for(lambda: all(map(is_gone, pids)))
