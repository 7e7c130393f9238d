"""Real load on this machine: what it is over a run, and the processes that make it."""

from __future__ import annotations

import bisect
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from time import monotonic
from types import TracebackType

import psutil

from anytime_dnn_ros.bench import load_worker
from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from anytime_dnn_ros.monitor.recorded import read_recording
from anytime_dnn_ros.monitor.regime import BUSY_PERCENT

LOADS = ('none', 'step', 'burst', 'periodic', 'memory')
TRACE = 'trace:'
# When the load comes on, as a share of the run.
ONSET_SHARE = 1 / 3
BURSTS, BURST_DUTY = 6, 0.5
# "10 ms in each 100 ms on every core", the load of the paper on Anytime ROS 2.
PERIODIC_SHARE, PERIODIC_S = 0.1, 0.1
FULL_SHARE, FULL_PERIOD_S = 1.0, 1.0
# A recorded share of a core is played in slices as long as the monitor's own sampling.
TRACE_PERIOD_S = 0.1
# Memory that all workers press on together: enough to run through every cache, at most this
# share of what is free, so that nothing is killed.
MEMORY_SHARE, MOST_MEMORY_BYTES = 1 / 8, 512 * 2**20
START_TIMEOUT_S, END_TIMEOUT_S = 10.0, 5.0

Commands = tuple[str, ...]
"""What each worker is told, one line per core."""


@dataclass(frozen=True)
class LoadPlan:
    """What the load is over a run.

    Attributes:
        name: As the user named it.
        at_s: When the workers are told something else, seconds from the start, rising from 0.
        commands: What they are told then.
        loads: Whether that is load.
        length_s: Of the run.
    """

    name: str
    at_s: tuple[float, ...]
    commands: tuple[Commands, ...]
    loads: tuple[bool, ...]
    length_s: float

    def index(self, time_s: float) -> int:
        """Which of the commands holds at a time since the start, seconds."""
        return max(0, bisect.bisect_right(self.at_s, time_s) - 1)

    @property
    def onset_s(self) -> float | None:
        """When load first comes on where there was none; None if it never does."""
        return next((begin_s for begin_s, _ in self.loaded_s if begin_s > 0), None)

    @property
    def loaded_s(self) -> tuple[tuple[float, float], ...]:
        """From when to when there is load."""
        spans: list[tuple[float, float]] = []
        ends = (*self.at_s[1:], self.length_s)
        for begin_s, end_s, is_load in zip(self.at_s, ends, self.loads, strict=True):
            if is_load and begin_s < self.length_s:
                goes_on = bool(spans) and spans[-1][1] == begin_s
                first_s = spans.pop()[0] if goes_on else begin_s
                spans.append((first_s, min(end_s, self.length_s)))
        return tuple(spans)


def load_plan(name: str, length_s: float, cores: int | None = None) -> LoadPlan:
    """What a load of that name does over a run.

    Args:
        name: One of `LOADS`, or `trace:FILE` with a CSV file of the monitor's.
        length_s: Length of the run, seconds.
        cores: How many workers there are; None = one for each core this process may use.

    Raises:
        ConfigurationError: No such load, or the file cannot be read.
    """
    cores = cores or len(usable_cores())
    if name.startswith(TRACE):
        return _trace_plan(name, length_s, cores)
    quiet: Commands = ('none',) * cores
    full = _same(cores, 'cpu', FULL_SHARE, FULL_PERIOD_S)
    on_s = ONSET_SHARE * length_s
    if name == 'none':
        return LoadPlan(name, (0.0,), (quiet,), (False,), length_s)
    if name == 'burst':
        pitch_s = (length_s - on_s) / BURSTS
        times = [on_s + pitch_s * (i + on) for i in range(BURSTS) for on in (0.0, BURST_DUTY)]
        loads = (False, *(True, False) * BURSTS)
        commands = tuple(full if is_load else quiet for is_load in loads)
        return LoadPlan(name, (0.0, *times), commands, loads, length_s)
    steady = {
        'step': full,
        'periodic': _same(cores, 'cpu', PERIODIC_SHARE, PERIODIC_S),
        'memory': _same(cores, 'memory', _memory_bytes(cores)),
    }
    if name not in steady:
        raise ConfigurationError(
            f'no load {name!r}: give some of {", ".join(LOADS)} and {TRACE}FILE, with commas '
            'between them; FILE is a CSV file that monitor_node wrote with record_to_file'
        )
    return LoadPlan(name, (0.0, on_s), (quiet, steady[name]), (False, True), length_s)


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may run on."""
    if hasattr(os, 'sched_getaffinity'):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _same(cores: int, *words: object) -> Commands:
    return (' '.join(map(str, words)),) * cores


def _memory_bytes(cores: int) -> int:
    free = psutil.virtual_memory().available
    return int(min(MOST_MEMORY_BYTES, MEMORY_SHARE * free) / cores)


def _trace_plan(name: str, length_s: float, cores: int) -> LoadPlan:
    """The recorded load of each core played on one of ours; the mean where they are unknown."""
    recording = read_recording(Path(name.removeprefix(TRACE)))
    begin_s = recording.times_s[0]
    times: list[float] = []
    commands: list[Commands] = []
    loads: list[bool] = []
    for time_s, sample in zip(recording.times_s, recording.samples, strict=True):
        known = [core for core in sample.cpu_percent_per_core if not isnan(core)]
        mean = sum(known) / len(known) if known else sample.cpu_percent
        if isnan(mean):
            continue
        shares = [known[i % len(known)] if known else mean for i in range(cores)]
        times.append(time_s - begin_s)
        commands.append(tuple(f'cpu {share / 100:.3f} {TRACE_PERIOD_S}' for share in shares))
        loads.append(mean >= BUSY_PERCENT)
    if not times:
        raise ConfigurationError(
            f'{name}: no line tells the load of the processor; record it again with monitor_node'
        )
    return LoadPlan(name, (0.0, *times[1:]), tuple(commands), tuple(loads), length_s)


class LoadWorkers:
    """One worker per core, waiting; they end when the block is left, or with this process.

    Each stays on its own core: every core busy means every one, in every pass.
    They stay in this process's session: Linux groups processes for the scheduler by session
    (`sched_autogroup`), and load from another group would leave us half of the machine.

    Args:
        cores: At most so many; None = one for each core this process may use.
    """

    def __init__(self, cores: int | None = None) -> None:
        self._cores = usable_cores()[:cores]
        self._workers: list[subprocess.Popen[bytes]] = []
        self._told: Commands = ()

    def __enter__(self) -> LoadWorkers:
        """Starts the workers, all of them quiet.

        Raises:
            AnytimeError: One does not come up.
        """
        command = [sys.executable, '-I', '-S', '-u', str(Path(load_worker.__file__))]
        try:
            for core in self._cores:
                self._workers.append(
                    subprocess.Popen(
                        [*command, str(core)],
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        bufsize=0,
                    )
                )
            for worker in self._workers:
                assert worker.stdout is not None
                ready, _, _ = select.select([worker.stdout], [], [], START_TIMEOUT_S)
                if not ready or not worker.stdout.read(1):
                    raise AnytimeError(
                        f'a load worker did not start ({" ".join(command)}); see what it printed'
                    )
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return [worker.pid for worker in self._workers]

    def tell(self, commands: Sequence[str]) -> None:
        """Switches the load.

        Args:
            commands: One per worker, from a `LoadPlan`.

        Raises:
            AnytimeError: A worker has ended: the load is not what it should be.
        """
        commands = tuple(commands)
        if commands == self._told:
            return
        for worker, line in zip(self._workers, commands, strict=True):
            assert worker.stdin is not None
            try:
                worker.stdin.write(f'{line}\n'.encode('ascii'))
            except OSError as error:
                raise AnytimeError(
                    f'a load worker ended with code {worker.poll()}: the load was not what this '
                    'run says; run it again, with more free memory if the load is memory'
                ) from error
        self._told = commands

    def quiet(self) -> None:
        """Ends all load for now."""
        self.tell(('none',) * len(self._cores))

    def _end(self) -> None:
        for worker in self._workers:
            for pipe in (worker.stdin, worker.stdout):
                with suppress(OSError):
                    if pipe is not None:
                        pipe.close()
        give_up_s = monotonic() + END_TIMEOUT_S
        for worker in self._workers:
            with suppress(subprocess.TimeoutExpired):
                worker.wait(max(0.0, give_up_s - monotonic()))
            worker.kill()
            worker.wait()
        self._workers.clear()
