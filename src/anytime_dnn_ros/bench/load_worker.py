"""One process that keeps a core or the memory busy, as its parent tells it, line by line.

Started as a script, isolated and without site-packages, so that it is there within milliseconds;
its argument is the number of the core on which it stays.
A line `cpu SHARE PERIOD_S` asks for that share of every period, `memory BYTES` for streaming
through so many bytes and allocating more, `none` for quiet. The end of the input ends it: a
parent that dies in any way, SIGKILL included, closes the pipe.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

# How often a busy worker looks for the next word, seconds: a switch is as good as instant.
LOOK_S = 0.0005
# Copied in one go: a few milliseconds, so that memory load ends about as fast.
CHUNK_BYTES = 8 * 2**20
LARGEST_LINE = 4096


def main() -> None:
    """Serves its parent until the pipe is closed."""
    # Ctrl-C reaches the whole foreground group: the parent ends its workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Should memory run out all the same, this process goes first and not the bench.
    with suppress(OSError):
        Path('/proc/self/oom_score_adj').write_text('1000', encoding='ascii')
    if hasattr(os, 'sched_setaffinity'):
        os.sched_setaffinity(0, {int(sys.argv[1])})
    os.write(1, b'ready\n')
    words = ['none']
    block = bytearray()
    while True:
        line = _next_line(wait=words[0] == 'none')
        if line is not None:
            words = line.split() or ['none']
            # Memory is taken when it is asked for and given back with the next word.
            block = bytearray(int(words[1])) if words[0] == 'memory' else bytearray()
        if words[0] == 'cpu':
            _busy(float(words[1]), float(words[2]))
        elif words[0] == 'memory':
            _press(block)


def _next_line(*, wait: bool) -> str | None:
    """The newest line of the parent; None if there is none and nobody waits. Exits at the end."""
    ready, _, _ = select.select([0], [], [], None if wait else 0)
    if not ready:
        return None
    text = os.read(0, LARGEST_LINE).decode('ascii')
    if not text:
        sys.exit(0)
    return text.splitlines()[-1]


def _busy(share: float, period_s: float) -> None:
    """Is busy for a moment, or sleeps it through: the same phase in every worker."""
    now_s = time.monotonic()
    phase_s = now_s % period_s
    if phase_s < share * period_s:
        until_s = min(now_s + LOOK_S, now_s + share * period_s - phase_s)
        while time.monotonic() < until_s:
            continue
    else:
        select.select([0], [], [], period_s - phase_s)


def _press(block: bytearray) -> None:
    """Streams one chunk through the caches and makes the kernel map new pages for it."""
    chunk = min(CHUNK_BYTES, len(block) // 2)
    steps = max(1, len(block) // chunk - 1)
    at = chunk * (time.monotonic_ns() % steps)
    fresh = bytearray(chunk)
    memoryview(fresh)[:] = memoryview(block)[at : at + chunk]
    memoryview(block)[:chunk] = fresh


if __name__ == '__main__':
    main()
