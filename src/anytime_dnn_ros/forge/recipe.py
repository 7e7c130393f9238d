"""What decides, with network, rule and data, the weights that a training comes to."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from anytime_dnn_ros.errors import ConfigurationError

# SGD as in the papers of the networks (ResNet, MSDNet).
MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4
# A trained trunk forgets what it knows at the first.
LEARNING_RATE, FINE_TUNING_RATE = 0.1, 0.01
# Share of all steps over which the learning rate rises (Goyal et al., 2017: 5 of 90 epochs).
WARMUP_SHARE = 0.05
PRECISIONS = ('bf16-mixed', '32-true')


@dataclass(frozen=True)
class Recipe:
    """What decides, with network, rule and data, the weights that come out.

    Attributes:
        augmentation: Changes a batch at random before each step.
        batch: Images per step, over all processes together.
        learning_rate: At the top of the cosine.
        ema: Decay per step of the average of the weights that is scored and exported; 0 = none.
        patience: Stop after so many epochs without a better mean accuracy and keep the weights of
            the best one; 0 = train to the end and keep the last.
        precision: One of `PRECISIONS`.

    Raises:
        ConfigurationError: A value is out of range.
    """

    epochs: int
    augmentation: Callable[[Tensor, torch.Generator], Tensor]
    batch: int = 128
    learning_rate: float = LEARNING_RATE
    seed: int = 0
    ema: float = 0.0
    weight_decay: float = WEIGHT_DECAY
    patience: int = 0
    precision: str = 'bf16-mixed'

    def __post_init__(self) -> None:
        for name, fits, mend in (
            ('epochs', self.epochs >= 1, 'at least 1'),
            ('batch', self.batch >= 1, 'at least 1'),
            ('learning_rate', self.learning_rate > 0, 'more than 0'),
            ('seed', self.seed >= 0, '0 or more'),
            ('ema', 0 <= self.ema < 1, '0 (none) or a decay below 1, such as 0.999'),
            ('weight_decay', self.weight_decay >= 0, 'at least 0'),
            ('patience', self.patience >= 0, 'a number of epochs, or 0 for no early stop'),
            ('precision', self.precision in PRECISIONS, f'one of {", ".join(PRECISIONS)}'),
        ):
            if not fits:
                raise ConfigurationError(f'{name} is {getattr(self, name)}; give {mend}')


def learning_rate(step: int, steps: int, peak: float, cycles: int = 1) -> float:
    """Cosine from `peak` towards 0 in each cycle, with a linear warm-up before the first.

    Args:
        step: From 0.
        steps: Of the whole training.
        peak: At the top.
        cycles: How many times it falls (Loshchilov & Hutter, "SGDR", ICLR 2017).
    """
    # In whole numbers: the remainder of fractions calls some cycle's first step its last.
    fall = 0.5 * (1 + math.cos(math.pi * (step * cycles % steps) / steps))
    rise = min(1.0, (step + 1) / max(1.0, steps * WARMUP_SHARE))
    return peak * rise * fall


def parameter_groups(net: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weights decay; biases, BatchNorm's and other vectors do not."""
    parameters = [p for p in net.parameters() if p.requires_grad]
    return [
        {'params': [p for p in parameters if p.ndim > 1], 'weight_decay': weight_decay},
        {'params': [p for p in parameters if p.ndim <= 1], 'weight_decay': 0.0},
    ]
