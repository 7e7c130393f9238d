"""What can be said of a frame before any stage has run on it: the last answer, grown older."""

from __future__ import annotations

from dataclasses import replace
from math import exp, isnan, nan

import numpy as np

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.quality.judge import Judgement

# Until changes have been seen, one is supposed to come in this many seconds.
FIRST_SECONDS_PER_CHANGE = 2.0
# What was seen this long ago counts half.
HALF_LIFE_S = 30.0


class Forecaster:
    """Carries the last answer over to a frame that gets none of its own.

    The named class is taken to change at random moments, at a rate counted on the answers
    themselves, so that a forecast loses confidence with its age. Answers to consecutive frames
    err together; the rate counts what is *named*, and the answer's own confidence what is true.
    """

    def __init__(self) -> None:
        self._last: Judgement | None = None
        self._last_s = nan
        self._changes, self._seconds = 1.0, FIRST_SECONDS_PER_CHANGE

    @property
    def has_answer(self) -> bool:
        """Whether there is an answer to carry over."""
        return self._last is not None

    def observe(self, judgement: Judgement, taken_s: float) -> None:
        """Takes the final answer to a frame.

        Args:
            judgement: After its last stage.
            taken_s: When the frame was taken, on a monotonic clock; earlier than the one before
                is allowed and counts nothing.
        """
        passed_s = taken_s - self._last_s
        if self._last is not None and passed_s > 0:
            kept = 0.5 ** (passed_s / HALF_LIFE_S)
            changed = _named(judgement.answer) != _named(self._last.answer)
            self._changes = kept * self._changes + changed
            self._seconds = kept * self._seconds + passed_s
        if self._last is None or not passed_s < 0:
            self._last, self._last_s = judgement, taken_s

    def forecast(self, taken_s: float, num_stages: int) -> Judgement | None:
        """The last answer as that of a frame taken at `taken_s`; stage 0.

        Args:
            taken_s: On the clock of `observe`.
            num_stages: Of the ladder.

        Returns:
            None while there is no answer to carry over.
        """
        if self._last is None:
            return None
        age_s = max(0.0, taken_s - self._last_s)
        same = exp(-age_s * self._changes / self._seconds)
        last = self._last.answer
        flat = np.float32((1 - same) / last.probabilities.size)
        probabilities = np.float32(same) * last.probabilities + flat
        answer = replace(
            last, stage=0, probabilities=probabilities, confidence=float(probabilities.max())
        )
        expected = self._last.expected_accuracy
        declared = nan if isnan(expected) else same * expected
        return Judgement(answer, answer, declared, (nan,) * num_stages)


def _named(answer: Answer) -> int:
    return int(answer.probabilities.argmax())
