"""How late a thread wakes that waits for a moment, on this machine at rest."""

from __future__ import annotations

import threading
from time import monotonic

WAIT_S = 0.001


def measure_timer_lateness(count: int = 20) -> tuple[float, ...]:
    """Waits for one moment after the other, as the runner's timer does.

    Args:
        count: How often; each takes about a millisecond.

    Returns:
        Seconds from the moment to the wake-up.
    """
    condition = threading.Condition()
    late_s = []
    with condition:
        for _ in range(count):
            instant_s = monotonic() + WAIT_S
            condition.wait(WAIT_S)
            late_s.append(max(0.0, monotonic() - instant_s))
    return tuple(late_s)
