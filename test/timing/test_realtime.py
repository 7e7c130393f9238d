import os
import subprocess
import sys
import threading

import pytest

from anytime_dnn_ros.timing.realtime import (
    leave_realtime_priority,
    take_realtime_priority,
    take_timer_priority,
)


def in_thread(function):
    """What a function gives in a thread of its own, which ends with it."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_none_is_asked_for():
    def plain():
        return take_realtime_priority(0), os.sched_getscheduler(0)

    assert in_thread(plain) == ('', os.SCHED_OTHER)


def test_only_the_thread_that_asks_has_it():
    def scheduled():
        refusal = take_realtime_priority(1)
        inherited = in_thread(lambda: os.sched_getscheduler(0))
        own = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK
        leave_realtime_priority()
        return refusal, own, inherited, os.sched_getscheduler(0)

    refusal, own, inherited, left = in_thread(scheduled)
    if refusal:
        pytest.skip(refusal)
    assert (own, inherited) == (os.SCHED_FIFO, os.SCHED_OTHER)
    assert left & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
    # The flag alone may be there, of a bench that ran in this process before.
    assert os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER


# A process of its own: there is no way back to root.
LIMITED = """
import os
from anytime_dnn_ros.timing.realtime import leave_realtime_priority, take_realtime_priority
refusal = take_realtime_priority(1)
os.setresuid(65534, 65534, 65534)
leave_realtime_priority()
left = os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_OTHER
print(refusal or left)
"""


@pytest.mark.skipif(os.getuid() != 0, reason='only root can become who has no capability')
def test_who_has_it_without_a_capability_can_leave_it_too():
    command = [sys.executable, '-c', LIMITED]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    if 'is refused' in said.stdout:
        pytest.skip(said.stdout)
    assert said.stdout == 'True\n', said.stderr


def test_the_timer_goes_before_the_threads_that_it_cuts(monkeypatch):
    asked, most = [], 99

    def give(_, policy, parameters):
        asked.append(parameters.sched_priority)
        if parameters.sched_priority > most:
            raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'sched_setscheduler', give)
    assert [take_timer_priority(priority) for priority in (0, 1, 99)] == ['', '', '']
    assert asked == [2, 99]
    asked.clear()
    # Where a limit gives no more than what the user asks for, that is enough.
    most = 1
    assert take_timer_priority(1) == ''
    assert 'priority 3 is refused' in take_timer_priority(3)
    assert asked == [2, 1, 4, 3]


def test_a_refusal_says_how_to_mend_it(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'sched_setscheduler', refuse)
    refusal = in_thread(lambda: take_realtime_priority(3))
    assert 'priority 3 is refused (Operation not permitted)' in refusal
    assert 'limits.conf' in refusal


def test_a_system_without_it_is_said_so(monkeypatch):
    monkeypatch.delattr(os, 'sched_setscheduler')
    assert 'SCHED_FIFO' in take_realtime_priority(1)
