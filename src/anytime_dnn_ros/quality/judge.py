"""What may be said of a frame's answer after each stage, and what going on would bring."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import Quality
from anytime_dnn_ros.ladder.profile import Monotone
from anytime_dnn_ros.quality.guard import Guard
from anytime_dnn_ros.quality.label_sets import Classes, shrunk
from anytime_dnn_ros.quality.performance_profile import find_profile, stage_tables

# On the validation images of `fashion` as accurate as no guard, better calibrated, and a third
# fewer images are right first and then wrong; `caching` loses 0.3 points of accuracy.
DEFAULT_MONOTONE: Monotone = 'product'


@dataclass(frozen=True)
class Judgement:
    """The state of one frame after a stage.

    Attributes:
        answer: To be published after this stage; its `stage` is the stage that has just run, also
            where the guard kept an earlier answer.
        newest: This stage's own answer, which exit rules look at.
        expected_accuracy: Probability that `answer` is right, 0..1, never below that of an
            earlier stage; NaN if nothing may be declared.
        expected_later: For each later stage the probability that the answer published after it
            will be right; NaN for one of which nothing may be declared.
        label_set: Classes, likeliest first, of which one is the true one with the coverage that
            the bundle states; empty if it states none.
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
        self, quality: Quality | None, num_stages: int, monotone: Monotone = DEFAULT_MONOTONE
    ) -> None:
        self._tables = stage_tables(quality, num_stages, monotone)
        profile = find_profile(quality, monotone)
        temperatures = [1.0] * num_stages
        self._thresholds: list[float | None] = [None] * num_stages
        if quality is not None and profile is not None:
            temperatures = [stage.temperature for stage in profile.stages]
            if quality.held_out:
                self._thresholds = [stage.label_threshold for stage in profile.stages]
        self._guard = Guard(monotone, temperatures)
        self.reset()

    def reset(self) -> None:
        """Forgets the frame before."""
        self._guard.reset()
        self._named: int | None = None
        self._declared = 0.0
        self._classes: Classes | None = None

    def accuracy(self, stage: int) -> float:
        """Declared share of right answers published after a stage (0-based); may be NaN."""
        return self._tables[stage].accuracy

    def judge(self, answer: Answer) -> Judgement:
        """Judges the next stage's answer.

        Args:
            answer: That stage's own, at the bundle's temperature.
        """
        stage = answer.stage - 1
        published = self._guard.guarded(answer)
        named = int(answer.probabilities.argmax())
        agrees = self._named is None or named == self._named
        self._named = named
        table = self._tables[stage]
        cell = table.cell(published.confidence, agrees=agrees)
        chance, *chances = (row[cell] for row in table.chances)
        declared = chance
        if not isnan(chance):
            declared = self._declared = max(self._declared, chance - table.held_back)
        return Judgement(
            answer=published,
            newest=answer,
            expected_accuracy=declared,
            expected_later=_promised(declared, [later - chance for later in chances]),
            label_set=self._label_set(published, self._thresholds[stage]),
        )

    def _label_set(self, answer: Answer, threshold: float | None) -> tuple[int, ...]:
        if threshold is None:
            return ()
        self._classes = shrunk(self._classes, answer.probabilities, threshold)
        return tuple(self._classes.tolist())


def _promised(declared: float, gains: Sequence[float]) -> tuple[float, ...]:
    """What is expected of each later stage; it gains on what was declared, and never falls.

    Args:
        declared: Of the answer now; may be NaN.
        gains: By the profile, up to each later stage; NaN for one that declares nothing.
    """
    best, promised = declared, []
    for gain in gains:
        # Compared with a NaN, `best` stays.
        best = max(best, min(declared + gain, 1.0))
        promised.append(nan if isnan(gain) else best)
    return tuple(promised)
