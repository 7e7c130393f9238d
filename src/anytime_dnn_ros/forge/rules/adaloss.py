"""Exits weighted inversely to how large their losses are at present.

To make the product of the expected losses small is to weigh each exit by 1 / its loss (Hu et al.,
"Learning anytime predictions in neural networks via adaptive loss balancing", AAAI 2019). With ℓ̄
the running mean of the losses (momentum .99, beginning at the first losses), every 100 steps:

    w = 1 / ℓ̄;  w = w / max w;  w_last = w_last + 1;  w = w / max w;  w = (1 - γ) w + γ

and until then all weights are 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.rules.ranks import mean_over_ranks
from anytime_dnn_ros.forge.rules.sums import Sum
from anytime_dnn_ros.forge.staged import StagedNet

# A net that knows its training data by heart may have a loss of 0.
LEAST_LOSS = 1e-8


class AdaLoss(Sum):
    """Σ w_i · CE_i with the weights above.

    Args:
        name: The rule's name.
        net: The net to be trained.
        gamma: Share of every weight that is the same for all exits, 0..1.
        momentum: Of the running mean, 0..1.
        update_every: Steps between two updates of the weights.
        last_extra: Added to the last exit's weight, as a multiple of the largest one.
        label_smoothing: As for `Sum`; the losses that are averaged have it too.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        name: str,
        net: StagedNet,
        *,
        gamma: float = 0.07,
        momentum: float = 0.99,
        update_every: int = 100,
        last_extra: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        self.gamma = self.number('gamma', gamma, 0, 1)
        self.momentum = self.number('momentum', momentum, 0, 1)
        self.update_every = self.whole('update_every', update_every, 1)
        self.last_extra = self.number('last_extra', last_extra, 0)
        self.step = 0
        self.mean_losses = torch.zeros(self.num_stages)
        self.weights = torch.ones(self.num_stages)

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """See `Rule`; the weights are those that the steps before have led to."""
        losses = self.cross_entropies(logits, labels)
        self.weights = self.weights.to(losses.device)
        weighted = self.weights * losses
        if torch.is_grad_enabled():
            self._learn(mean_over_ranks(losses.detach()))
        return weighted

    def _learn(self, losses: Tensor) -> None:
        momentum = self.momentum if self.step else 0.0
        mean = self.mean_losses.to(losses.device)
        self.mean_losses = momentum * mean + (1 - momentum) * losses
        self.step += 1
        if self.step % self.update_every == 0:
            weights = 1 / self.mean_losses.clamp(min=LEAST_LOSS)
            weights = weights / weights.max()
            weights[-1] += self.last_extra
            weights = weights / weights.max()
            self.weights = (1 - self.gamma) * weights + self.gamma

    def state_dict(self) -> dict[str, Any]:
        """Steps done, running means and weights."""
        return {
            'step': self.step,
            'mean_losses': self.mean_losses.cpu().clone(),
            'weights': self.weights.cpu().clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`.

        Raises:
            ConfigurationError: The state is another rule's or of a net with other exits.
        """
        if sorted(state) != sorted(self.state_dict()):
            raise ConfigurationError(
                f'the checkpoint has no state of rule {self.name}; resume with the rule that '
                'wrote it'
            )
        if len(state['weights']) != self.num_stages:
            raise ConfigurationError(
                f'the checkpoint weighs {len(state["weights"])} exits and the net has '
                f'{self.num_stages}; resume with the net that wrote it'
            )
        self.step = int(state['step'])
        self.mean_losses = torch.as_tensor(state['mean_losses'], dtype=torch.float32).clone()
        self.weights = torch.as_tensor(state['weights'], dtype=torch.float32).clone()
