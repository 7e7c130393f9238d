import os
import threading

import pytest

from anytime_dnn_ros.timing.realtime import leave_realtime_priority, take_realtime_priority


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
    assert (own, inherited, left) == (os.SCHED_FIFO, os.SCHED_OTHER, os.SCHED_OTHER)
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


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
