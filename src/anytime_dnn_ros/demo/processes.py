"""The demo's processes: the nodes, each with its log, and a burst of load."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from types import TracebackType

import psutil
from ament_index_python.packages import PackageNotFoundError, get_package_share_directory

from anytime_dnn_ros.errors import AnytimeError

STOP_TIMEOUT_S = 5.0
LOG_TAIL_LINES = 15
# Above this, DDS ports meet Linux's ephemeral ports; 0 is everybody's.
MAX_DOMAIN_ID = 101
DDS_BASE_PORT, DDS_DOMAIN_GAIN, DDS_FIRST_UNICAST = 7400, 250, 10
# Fast DDS 3 (Kilted) reads the first, Fast DDS 2 (Humble, Jazzy) the second.
PROFILE_VARIABLES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')
# Ends by itself even if nobody is left to end it.
BUSY = 'import sys, time\nend = time.monotonic() + {:f}\nwhile time.monotonic() < end: pass'


def free_domain_id() -> int:
    """A ROS domain that no participant on this machine uses, by its first DDS port."""
    domains = list(range(1, MAX_DOMAIN_ID + 1))
    random.shuffle(domains)
    for domain in domains:
        port = DDS_BASE_PORT + DDS_DOMAIN_GAIN * domain + DDS_FIRST_UNICAST
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', port))
            except OSError:
                continue
            return domain
    raise AnytimeError('every ROS domain of this machine is in use; end some ROS programs first')


def dds_profile() -> Path:
    """The Fast DDS profile that ships with the package: shared memory large enough for images.

    Raises:
        AnytimeError: The package is not installed, so its share folder is not known.
    """
    try:
        share = Path(get_package_share_directory('anytime_dnn_ros'))
    except PackageNotFoundError as error:
        raise AnytimeError(
            'the share folder of anytime_dnn_ros is not in AMENT_PREFIX_PATH; run `make setup`, '
            "or source the workspace's install/setup.bash"
        ) from error
    return share / 'config' / 'fastdds_shm.xml'


def dds_environment(domain_id: int) -> dict[str, str]:
    """What the demo's processes need in their environment to speak only to each other.

    Args:
        domain_id: From `free_domain_id`.
    """
    # A profile that the user chose stays.
    chosen = any(os.environ.get(variable) for variable in PROFILE_VARIABLES)
    profile = {} if chosen else dict.fromkeys(PROFILE_VARIABLES, str(dds_profile()))
    return {'ROS_DOMAIN_ID': str(domain_id), **profile}


class Children:
    """Named child processes whose output goes to `<name>.log`; ended when the block is left.

    Args:
        logs: Folder of the logs.
        own_sessions: Whether Ctrl-C reaches this program alone, which then ends its children in
            order. Linux may also schedule processes by session (`sched_autogroup`): load from
            another session then weighs less.
    """

    def __init__(self, logs: Path, *, own_sessions: bool = True) -> None:
        self._logs = logs
        self._own_sessions = own_sessions
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in list(self._processes):
            self.stop(name)

    def start(self, name: str, module: str, arguments: Sequence[str] = ()) -> None:
        """Starts `python -m module arguments`."""
        with (self._logs / f'{name}.log').open('wb') as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, '-m', module, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=self._own_sessions,
            )

    def process(self, name: str) -> psutil.Process:
        """Handle to measure a child with."""
        return psutil.Process(self._processes[name].pid)

    def check(self) -> None:
        """Raises if a child has ended by itself.

        Raises:
            AnytimeError: With the end of its log.
        """
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise AnytimeError(
                    f'{name} ended with code {process.returncode}; the end of '
                    f'{self._logs / name}.log:\n{self._tail(name)}'
                )

    def stop(self, name: str) -> None:
        """Ends a child: SIGINT, then SIGTERM, then SIGKILL."""
        process = self._processes.pop(name)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is not None:
                return
            process.send_signal(number)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                continue

    def log_tails(self) -> str:
        """The end of every log so far, for an error message."""
        names = sorted(path.stem for path in self._logs.glob('*.log'))
        return '\n'.join(f'--- {name}.log\n{self._tail(name)}' for name in names)

    def _tail(self, name: str) -> str:
        text = (self._logs / f'{name}.log').read_text(encoding='utf-8', errors='replace')
        return '\n'.join(text.splitlines()[-LOG_TAIL_LINES:])


class CpuBurst:
    """As many busy processes as there are cores, for a while."""

    def __init__(self, duration_s: float) -> None:
        # Isolated and without site-packages: busy from the first moment.
        command = [sys.executable, '-I', '-S', '-c', BUSY.format(duration_s)]
        self.end_s = monotonic() + duration_s
        self._workers = [subprocess.Popen(command) for _ in range(os.cpu_count() or 1)]

    def stop(self) -> None:
        """Ends the burst now."""
        for worker in self._workers:
            worker.kill()
            worker.wait()
