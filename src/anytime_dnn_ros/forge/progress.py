"""What a training shows while it runs: a bar on a terminal, one plain line per epoch elsewhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.trainer import EpochFigures


class TrainingProgress:
    """Shows a training; use as a context manager.

    Args:
        epochs: Of the whole training.
        steps_per_epoch: Steps in each.
        done: Epochs done before this start.
        quiet: Show nothing, as all processes but the first do.
    """

    def __init__(self, epochs: int, steps_per_epoch: int, *, done: int, quiet: bool) -> None:
        self._console = Console(quiet=quiet, highlight=False)
        self._bar = Progress(
            TextColumn('{task.description}'),
            BarColumn(),
            TextColumn('{task.percentage:3.0f} %'),
            TimeElapsedColumn(),
            TextColumn('left'),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._epochs, self._steps_per_epoch = epochs, steps_per_epoch
        self._steps_before = done * steps_per_epoch
        self._task = self._bar.add_task(
            f'epoch {done + 1}/{epochs}',
            total=epochs * steps_per_epoch,
            completed=self._steps_before,
        )

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, done: int) -> None:
        """Tells that `done` steps of the running epoch are done."""
        self._bar.update(self._task, completed=self._steps_before + done)

    def epoch(self, figures: EpochFigures) -> None:
        """Tells what an epoch came to."""
        self._steps_before = figures.epoch * self._steps_per_epoch
        exits = ' '.join(f'{100 * share:.1f}' for share in figures.accuracies)
        losses = ' '.join(f'{loss:.3f}' for loss in figures.losses)
        self.say(
            f'epoch {figures.epoch}/{self._epochs}  validation {exits} %  loss {losses}  '
            f'lr {figures.learning_rate:.4f}  {figures.images_per_s:.0f} images/s  '
            f'{figures.seconds:.1f} s'
        )
        next_epoch = min(figures.epoch + 1, self._epochs)
        self._bar.update(
            self._task, description=f'epoch {next_epoch}/{self._epochs}  exits {exits} %'
        )

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._console.print(line, soft_wrap=True, markup=False)
