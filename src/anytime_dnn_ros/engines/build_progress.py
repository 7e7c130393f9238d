"""How far a TensorRT build is, as one share, from its tree of phases with steps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BuildProgress = Callable[[float], object]


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class ShareDone:
    """The share of a build that is done: a phase that runs is a part of its parent's next step."""

    def __init__(self) -> None:
        self._phases: dict[str, _Phase] = {}
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> float:
        """A phase of so many steps begins inside another, or as the whole (parent None)."""
        self._phases[name] = _Phase(parent, max(steps, 1))
        return self._grow(name)

    def step(self, name: str, step: int) -> float:
        """Step `step`, counted from 0, of a phase is done."""
        if name in self._phases:
            self._phases[name].done = step + 1
        return self._grow(name)

    def finish(self, name: str) -> float:
        """A phase is over, whether or not all its steps were taken."""
        phase = self._phases.pop(name, None)
        # Of several in a row each is the whole; only the last one is, which nobody knows.
        return self._share if phase is None or phase.parent is not None else self._to(1.0)

    def _grow(self, name: str) -> float:
        """The share with this phase and all it lies in; parallel ones take turns."""
        share, current = 0.0, self._phases.get(name)
        while current is not None:
            share = min((current.done + share) / current.steps, 1.0)
            current = self._phases.get(current.parent) if current.parent is not None else None
        return self._to(share)

    def _to(self, share: float) -> float:
        self._share = max(self._share, share)
        return self._share


def progress_monitor(trt_: Any, progress: BuildProgress) -> Any:
    """A `trt.IProgressMonitor` that gives a callback the share done.

    Args:
        trt_: `TensorRT.module`, 10 or newer.
        progress: Called from TensorRT's threads, one at a time. What it raises stops the build
            at its next step and is kept in `raised`.
    """

    # The base class exists only once the module has been imported.
    class Monitor(trt_.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt_.IProgressMonitor.__init__(self)
            self.raised: BaseException | None = None
            self._done = ShareDone()
            self._lock = threading.Lock()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._tell(lambda: self._done.start(phase_name, parent_phase, num_steps))

        def step_complete(self, phase_name: str, step: int) -> bool:
            self._tell(lambda: self._done.step(phase_name, step))
            return self.raised is None

        def phase_finish(self, phase_name: str) -> None:
            self._tell(lambda: self._done.finish(phase_name))

        def _tell(self, change: Callable[[], float]) -> None:
            with self._lock:
                if self.raised is not None:
                    return
                try:
                    progress(change())
                # Ctrl-C arrives here too, since the main thread is inside the build.
                except BaseException as error:  # noqa: BLE001
                    self.raised = error

    return Monitor()
