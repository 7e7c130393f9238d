"""Real-time priority for the threads that answer: a busy machine must not make them wait."""

from __future__ import annotations

import os

# The least is enough: it goes before every thread of the usual scheduler.
USUAL_PRIORITY, MOST_PRIORITY = 1, 99
# How a refusal is named among the faults of a runner.
REFUSED_PRIORITY = 'realtime_priority'
# Threads wait for the interpreter at most this long; Python's 5 ms eat deadlines.
SWITCH_INTERVAL_S = 0.0005
MEND = (
    'give the user `rtprio` in /etc/security/limits.conf, a container --cap-add SYS_NICE or '
    '--ulimit rtprio=99; or set realtime_priority to 0'
)


def take_realtime_priority(priority: int) -> str:
    """Puts the calling thread, and no thread or process that it starts, under SCHED_FIFO.

    Under the usual scheduler a thread that wakes on a core where another runs waits for some
    milliseconds every now and then, and one that is preempted in a stage as well.

    Args:
        priority: 1 (least) to 99; 0 does nothing.

    Returns:
        Why it could not be had, with the mend; empty if it was.
    """
    if not priority:
        return ''
    if not hasattr(os, 'sched_setscheduler'):
        return 'this system knows no SCHED_FIFO; set realtime_priority to 0'
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
    except OSError as error:
        return f'real-time priority {priority} is refused ({error.strerror}): {MEND}'
    return ''


def take_timer_priority(priority: int) -> str:
    """As `take_realtime_priority`, but one higher where the system gives that.

    Among equals nobody gives way: where stages run on every core, a timer of their priority would
    wait until one of them ends, and could cut none.
    """
    if not priority or not take_realtime_priority(min(priority + 1, MOST_PRIORITY)):
        return ''
    return take_realtime_priority(priority)


def leave_realtime_priority() -> None:
    """Puts the calling thread back under the usual scheduler, if it was moved from there."""
    if not hasattr(os, 'sched_setscheduler'):
        return
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_FIFO:
        # Who has the priority by a limit, and no capability, may not take the flag away again.
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
