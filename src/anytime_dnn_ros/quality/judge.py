"""What may be said of a frame's answer after each stage, and what going on would bring."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import Literal

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import Quality

Monotone = Literal['none', 'caching', 'product']


@dataclass(frozen=True)
class Judgement:
    """The state of one frame after a stage.

    Attributes:
        answer: To be published after this stage; its `stage` is the stage that has just run, also
            where an earlier stage's answer was kept.
        newest: This stage's own answer, which exit rules look at.
        expected_accuracy: Probability that `answer` is right, 0..1; NaN if nothing may be
            declared.
        expected_later: For each later stage the probability that the answer published after it
            will be right; NaN likewise.
        label_set: Classes, best first, of which one is the true one with the coverage that the
            bundle states; empty if it states none.
    """

    answer: Answer
    newest: Answer
    expected_accuracy: float
    expected_later: tuple[float, ...]
    label_set: tuple[int, ...] = ()


class Judge:
    """Judges the answers of one frame after another. For one thread at a time.

    Args:
        quality: The bundle's; None = nothing may be declared.
        num_stages: Of the ladder.
        monotone: What keeps a later answer from being worse than an earlier one.
    """

    def __init__(
        self, quality: Quality | None, num_stages: int, monotone: Monotone = 'caching'
    ) -> None:
        self._num_stages = num_stages
        self._monotone = monotone
        self._accuracies = [nan] * num_stages
        if quality is not None and quality.held_out:
            known = [s.accuracy for s in quality.stages]
            self._accuracies = [nan if a is None else a for a in known]

    def reset(self) -> None:
        """Forgets the frame before."""

    def judge(self, answer: Answer) -> Judgement:
        """Judges the next stage's answer.

        Args:
            answer: That stage's own, at the bundle's temperature.
        """
        now, *later = self._accuracies[answer.stage - 1 :]
        return Judgement(answer, answer, now, tuple(later))
