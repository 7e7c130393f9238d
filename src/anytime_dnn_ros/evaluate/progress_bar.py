"""How far a run over many images is, on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)


@contextmanager
def image_progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar per ladder, gone when the block ends.

    Yields:
        A function of the ladder's name, how many of its images are done, and how many there are.
    """
    columns = (TextColumn('{task.description}'), BarColumn(), MofNCompleteColumn())
    # A thread that redraws would disturb the times that are measured under the bar.
    with Progress(
        *columns, TimeRemainingColumn(), console=console, transient=True, auto_refresh=False
    ) as bars:
        tasks: dict[str, TaskID] = {}
        shown: dict[str, int] = {}

        def show(name: str, done: int, of: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=of)
            percent = 100 * done // of
            if percent != shown.get(name):
                shown[name] = percent
                bars.update(tasks[name], completed=done, refresh=True)

        yield show
