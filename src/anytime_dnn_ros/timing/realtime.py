"""Real-time priority for the threads that answer: a busy machine must not make them wait."""

from __future__ import annotations

import os

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
