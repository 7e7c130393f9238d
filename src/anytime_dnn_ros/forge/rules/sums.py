"""Sums of the exits' cross-entropies with fixed weights, and what every rule has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.staged import StagedNet
from anytime_dnn_ros.ladder.manifest import CombineSpec

# BranchyNet's weights of its first and of its last exit.
FIRST_WEIGHT, LAST_WEIGHT = 1.0, 0.3


class Sum:
    """Plain sum of cross-entropies, each exit alike.

    Args:
        name: The rule's name.
        net: The net to be trained.
        label_smoothing: Share of each label spread evenly over all classes, 0..1.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(self, name: str, net: StagedNet, *, label_smoothing: float = 0.0) -> None:
        self.name = name
        self.equilibrium = False
        self.cycles = 1
        self.num_stages = len(net)
        self.label_smoothing = self.share('label_smoothing', label_smoothing)

    def share(self, option: str, value: float) -> float:
        """`value` as a share.

        Raises:
            ConfigurationError: It is not within 0..1.
        """
        if not 0 <= value <= 1:
            raise ConfigurationError(f'rule {self.name}: {option} is {value}; give 0 to 1')
        return float(value)

    def cross_entropies(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean cross-entropy of each exit, float32 [stages]."""
        return torch.stack(
            [
                functional.cross_entropy(
                    given.float(), labels, label_smoothing=self.label_smoothing
                )
                for given in logits
            ]
        )

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor, progress: float) -> Tensor:
        """See `Rule`."""
        del progress
        return self.cross_entropies(logits, labels)

    def backward(self, net: StagedNet, losses: Tensor) -> None:
        """Plain backward pass of the sum."""
        del net
        losses.sum().backward()

    def answers(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each exit's own answer."""
        return logits

    def combine(self, num_stages: int) -> CombineSpec:
        """The newest answer alone."""
        del num_stages
        return CombineSpec('last')

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take up.

        Raises:
            ConfigurationError: The state is another rule's.
        """
        if state:
            raise ConfigurationError(
                f'rule {self.name} keeps no state, but the checkpoint has {sorted(state)}; '
                'resume with the rule that wrote it'
            )


class Weighted(Sum):
    """Sum of w_i · CE_i (Teerapittayanon et al., "BranchyNet", ICPR 2016).

    Args:
        name: The rule's name.
        net: The net to be trained.
        weights: One per exit, none negative; by default falling in equal steps from 1.0 at the
            first exit to 0.3 at the last.
        label_smoothing: As for `Sum`.

    Raises:
        ConfigurationError: The weights do not fit the net.
    """

    def __init__(
        self,
        name: str,
        net: StagedNet,
        *,
        weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        if weights is None:
            self.weights = torch.linspace(FIRST_WEIGHT, LAST_WEIGHT, self.num_stages)
            return
        self.weights = torch.tensor(weights, dtype=torch.float32)
        if self.weights.shape != (self.num_stages,):
            raise ConfigurationError(
                f'rule {name}: {len(weights)} weights for {self.num_stages} exits; '
                'give one per exit'
            )
        if not (
            self.weights.isfinite().all() and (self.weights >= 0).all() and self.weights.any()
        ):
            raise ConfigurationError(
                f'rule {name}: weights are {list(weights)}; give numbers from 0 up, not all 0'
            )

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor, progress: float) -> Tensor:
        """See `Rule`."""
        del progress
        losses = self.cross_entropies(logits, labels)
        return self.weights.to(losses.device) * losses
