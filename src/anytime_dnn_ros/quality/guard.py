"""What keeps a later answer from being worse than an earlier one.

- `none`: each stage's own answer;
- `caching`: the most confident answer so far, at the stages' temperatures;
- `product`: the product of all answers so far, each to a power that doubles from stage to stage,
  so that the newest counts as much as all before it, and their sum is 1 (Jazbec et al., "Towards
  anytime classification in early-exit architectures by enforcing conditional monotonicity",
  NeurIPS 2023). They multiply max(logits, 0); here it is the probabilities: that product comes
  out calibrated, and no class is ruled out for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.answer import Answer, make_answer
from anytime_dnn_ros.ladder.profile import Monotone

# What a factor of the product counts against the one before.
GROWTH = 2.0
TINY = np.float32(np.finfo(np.float32).tiny)


class Guard:
    """The answer to publish, from the answers of one frame's stages. For one thread at a time.

    Args:
        monotone: Which guard.
        temperatures: Of the guarded answer after each stage: to be the likeliest of several makes
            an answer look surer than it is.
    """

    def __init__(self, monotone: Monotone, temperatures: Sequence[float]) -> None:
        self._monotone = monotone
        self._temperatures = temperatures
        self._kept: Answer | None = None
        self._sum: NDArray[np.float32] | None = None

    def reset(self) -> None:
        """Forgets the frame before."""
        self._kept = self._sum = None

    def guarded(self, answer: Answer) -> Answer:
        """Takes the next stage's own answer; gives what is to be published after it."""
        temperature = self._temperatures[answer.stage - 1]
        if self._monotone == 'product':
            return self._product(answer, temperature)
        kept = self._kept
        if kept is None or self._monotone == 'none' or answer.confidence >= kept.confidence:
            kept = self._kept = answer
        if temperature == 1.0:
            return replace(kept, stage=answer.stage)
        return make_answer(answer.stage, _logs(kept), temperature)

    def _product(self, answer: Answer, temperature: float) -> Answer:
        weight = GROWTH ** (answer.stage - 1)
        logs = np.float32(weight) * _logs(answer)
        self._sum = logs if self._sum is None else self._sum + logs
        weights = (GROWTH * weight - 1) / (GROWTH - 1)  # 1 + 2 + 4 + ...
        return make_answer(answer.stage, self._sum, temperature * weights)


def guarded_probabilities(
    probabilities: NDArray[np.float32], monotone: Monotone, temperatures: Sequence[float]
) -> NDArray[np.float32]:
    """What a guard publishes of many images: both float32 [images, stages, classes]."""
    published = np.empty_like(probabilities)
    guard = Guard(monotone, temperatures)
    for image, answers in enumerate(probabilities):
        guard.reset()
        for k, p in enumerate(answers):
            answer = Answer(k + 1, p, float(p.max()))
            published[image, k] = guard.guarded(answer).probabilities
    return published


def _logs(answer: Answer) -> NDArray[np.float32]:
    logs: NDArray[np.float32] = np.log(np.maximum(answer.probabilities, TINY))
    return logs
