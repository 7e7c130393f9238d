"""Snapshot ensembles: one training, several nets (Huang et al., ICLR 2017).

The learning rate falls from its start to 0 along a cosine and starts anew, `cycles` times in one
training: lr(progress) = lr_0 / 2 · (1 + cos(π · (progress · cycles mod 1))). Each cycle ends in
another minimum, whose net is kept.

Who does what:

- The trainer, for a rule with `cycles` > 1, uses that schedule and keeps the net's state dict at
  the end of each cycle, in the checkpoint too. Early stop does not apply.
- The exporter puts each state dict into a net of its own, in the order of the training, and
  evaluates and exports `snapshot_ladder(nets)` with `rule.combine(len(ladder))`.

The ladder begins with the newest net, which is the best of them, stage by stage with all its
exits; each further stage is one whole older net, newest first, that reads the image anew and
answers by its last exit. The answer after a further stage is the mean of the probabilities of all
whole nets so far, as in the paper, where the ensemble of m nets is the last m; the early exits of
the newest net have no voice in it. Such a ladder is of the kind `contract`, and its sequential
cost is `cycles` whole nets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.rules.sums import Sum
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet
from anytime_dnn_ros.ladder.manifest import CombineSpec


class Snapshot(Sum):
    """Sum of cross-entropies, with cyclic learning rate.

    Args:
        name: The rule's name.
        net: The net to be trained.
        cycles: How many nets to keep, at least 2.
        label_smoothing: As for `Sum`.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self, name: str, net: StagedNet, *, cycles: int = 4, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        self.cycles = self.whole('cycles', cycles, 2)

    def answers(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each exit's own answer; after it, of a ladder of snapshots, the mean of the members."""
        if len(logits) == self.num_stages:
            return logits
        members = [functional.log_softmax(g.float(), 1) for g in logits[self.num_stages - 1 :]]
        means = [
            torch.logsumexp(torch.stack(members[:count]), 0) - math.log(count)
            for count in range(2, len(members) + 1)
        ]
        return (*logits[: self.num_stages], *means)

    def combine(self, num_stages: int) -> CombineSpec:
        """The mean, in which earlier exits of the newest net have weight 0."""
        if num_stages == self.num_stages:
            return CombineSpec('last')
        last = self.num_stages - 1
        rows = (
            tuple(float(i == k or last <= i < k) for i in range(k + 1)) for k in range(num_stages)
        )
        return CombineSpec('average', tuple(rows))


class LastAnswer(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A whole net from the image to its last exit's logits, without the other exits."""

    def __init__(self, net: StagedNet) -> None:
        super().__init__()
        steps: list[Stage] = []
        needed: set[str] = set()
        for stage in reversed(net.stages):
            if not steps or needed & set(stage.writes):
                needed |= set(stage.reads)
                steps.append(Stage(stage.body, nn.Identity(), stage.reads, stage.writes))
        self.steps = nn.ModuleList(reversed(steps))
        self.head = net.stages[-1].head

    def forward(self, image: Tensor) -> Tensor:
        """From float [batch, channels, height, width] to logits [batch, classes]."""
        tensors = {IMAGE: image}
        features: tuple[Tensor, ...] = ()
        for step in self.steps:
            features = step.features(*(tensors[name] for name in step.reads))
            tensors.update(zip(step.writes, features, strict=True))
        return cast('Tensor', self.head(*features))


def snapshot_ladder(nets: Sequence[StagedNet]) -> StagedNet:
    """The ladder of the nets that a cyclic training kept; see the module.

    Args:
        nets: In the order of the training; the ladder shares their parameters.

    Raises:
        ConfigurationError: Less than two nets, or nets of different numbers of exits.
    """
    if len(nets) < 2 or len({len(net) for net in nets}) > 1:
        raise ConfigurationError(
            f'a ladder of snapshots is made of two or more nets alike, not of nets with '
            f'{[len(net) for net in nets]} exits; give every snapshot of one training'
        )
    older = [
        Stage(LastAnswer(net), nn.Identity(), (IMAGE,), (f'snapshot_{number}',))
        for number, net in enumerate(reversed(nets[:-1]), 2)
    ]
    return StagedNet([*nets[-1].stages, *older], kind='contract')
