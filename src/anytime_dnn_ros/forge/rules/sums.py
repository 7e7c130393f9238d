"""Sums of the exits' cross-entropies with fixed weights, and what all rules have in common."""

from __future__ import annotations

import math
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
    """Plain sum of cross-entropies: Σ CE_i.

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
        self.label_smoothing = self.number('label_smoothing', label_smoothing, 0, 1)

    def number(self, option: str, value: float, low: float, high: float = math.inf) -> float:
        """An option's value, checked to be a finite number from `low` to `high`.

        Raises:
            ConfigurationError: It is not.
        """
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not is_number or not (low <= value <= high and math.isfinite(value)):
            span = f'from {low:g} up' if math.isinf(high) else f'from {low:g} to {high:g}'
            raise ConfigurationError(f'rule {self.name}: {option} is {value!r}; give {span}')
        return float(value)

    def whole(self, option: str, value: float, low: int) -> int:
        """An option's value, checked to be a whole number from `low` up.

        Raises:
            ConfigurationError: It is not.
        """
        if self.number(option, value, low) % 1:
            raise ConfigurationError(
                f'rule {self.name}: {option} is {value!r}; give a whole number'
            )
        return int(value)

    def flag(self, option: str, value: bool) -> bool:
        """An option that is on or off.

        Raises:
            ConfigurationError: It is neither.
        """
        if not isinstance(value, bool):
            raise ConfigurationError(
                f'rule {self.name}: {option} is {value!r}; give true or false'
            )
        return value

    def cross_entropies(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Mean cross-entropy of each exit over the batch, float32 [stages]."""
        smoothing = self.label_smoothing
        return torch.stack(
            [
                functional.cross_entropy(g.float(), labels, label_smoothing=smoothing)
                for g in logits
            ]
        )

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """See `Rule`."""
        return self.cross_entropies(logits, labels)

    def backward(self, net: StagedNet, losses: Tensor) -> None:
        """Plain backward pass of the sum."""
        losses.sum().backward()

    def answers(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Each exit's own answer."""
        return logits

    def combine(self, num_stages: int) -> CombineSpec:
        """The newest answer alone."""
        return CombineSpec('last')

    def state_dict(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes nothing up.

        Raises:
            ConfigurationError: The state is another rule's.
        """
        if state:
            raise ConfigurationError(
                f'rule {self.name} remembers nothing, but the checkpoint has '
                f'{", ".join(sorted(state))}; resume with the rule that wrote it'
            )


class Equilibrium(Sum):
    """Σ CE_i with gradient equilibrium; the scaling itself is done by `StagedNet.forward`.

    Without it a piece of trunk below k exits gets k gradients, and the more the earlier it lies;
    with it their mean (Li et al., "Improved techniques for training adaptive deep networks", ICCV
    2019).

    Args:
        name: The rule's name.
        net: The net to be trained; a stage must read what an earlier one wrote.
        label_smoothing: As for `Sum`.
    """

    def __init__(self, name: str, net: StagedNet, *, label_smoothing: float = 0.0) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        self.equilibrium = True


class Weighted(Sum):
    """Σ w_i · CE_i (Teerapittayanon et al., "BranchyNet", ICPR 2016).

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
        if not isinstance(weights, (list, tuple)) or len(weights) != self.num_stages:
            raise ConfigurationError(
                f'rule {name}: weights are {weights!r} for a net of {self.num_stages} exits; '
                'give a list with one number per exit'
            )
        checked = [self.number('a weight', weight, 0) for weight in weights]
        if not any(checked):
            raise ConfigurationError(f'rule {name}: all weights are 0; give one more than that')
        self.weights = torch.tensor(checked)

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """See `Rule`."""
        losses = self.cross_entropies(logits, labels)
        return self.weights.to(losses.device) * losses
