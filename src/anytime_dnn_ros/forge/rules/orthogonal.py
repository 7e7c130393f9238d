"""Orthogonalised SGD: no exit's gradient undoes that of an exit with a right before it.

With g_i the gradient of exit i's loss on the parameters below it, in order of priority

    g̃_1 = g_1,   g̃_i = g_i − its projection on the span of g̃_1 … g̃_{i-1},

and the step goes along Σ g̃_i (Wan et al., "Orthogonalized SGD and nested architectures for anytime
neural networks", ICML 2020: gradients of later outputs are projected so that they do not interfere
with those of earlier ones, hence earlier exits first by default). `orthogonal_layer` does so in
each parameter tensor by itself, `orthogonal_global` with all tensors as one long vector. Two
gradients are compared only on the parameters that both exits have.

Each exit has a backward pass of its own, so a step costs about as many of them as there are exits.
Each g̃_i is a linear combination of the g_j, so all that is needed of the gradients is their inner
products; everything else is arithmetic on matrices of exits × exits, done for all tensors at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.rules.ranks import mean_over_ranks
from anytime_dnn_ros.forge.rules.sharing import exit_parameters
from anytime_dnn_ros.forge.rules.sums import Sum
from anytime_dnn_ros.forge.staged import StagedNet

PRIORITIES = ('earlier', 'later')
# What is left of a gradient is rounding noise, not a direction, below this share of its length.
LEAST_SHARE = 1e-5


def combinations(
    gradients: Sequence[Tensor], owned: Tensor, order: Sequence[int], *, together: bool
) -> Tensor:
    """How every g̃ is made of the gradients.

    Args:
        gradients: One float32 [exits, numbers] per parameter tensor; 0 where an exit lacks it.
        owned: Which exit has which tensor, bool [tensors, exits].
        order: Exits, the one with the first right first.
        together: All tensors are one vector; otherwise each is one.

    Returns:
        C, float64 [tensors, exits, exits] on the CPU: in tensor t, g̃_i = Σ_j C[t, i, j] g_j.
    """
    # Products of float32 numbers are exact in float64, which small differences need.
    inner = torch.stack([(g.double() @ g.double().T) for g in gradients]).cpu()
    squares = inner.diagonal(dim1=1, dim2=2)
    squares = (squares.sum(0, keepdim=True) if together else squares).clamp(min=0)
    scales = torch.where(squares > 0, squares, 1).rsqrt()
    inner = inner * scales[:, :, None] * scales[:, None, :]
    made = torch.zeros_like(inner)
    for exit_index in order:
        has = owned[:, exit_index, None, None]
        before = made * has
        span = before @ inner @ before.mT
        along = before @ inner[:, :, exit_index, None]
        if together:
            span, along = span.sum(0, keepdim=True), along.sum(0, keepdim=True)
        share = torch.linalg.pinv(span, atol=LEAST_SHARE**2, rtol=0.0, hermitian=True) @ along
        made[:, exit_index] = -(before.mT @ share)[..., 0]
        made[:, exit_index, exit_index] += has[:, 0, 0]
    # From gradients of length 1 back to the gradients as they are.
    return made * scales[:, None, :] / scales[:, :, None]


class Orthogonal(Sum):
    """Sum of cross-entropies, its gradients made orthogonal exit by exit.

    Args:
        name: The rule's name.
        net: The net to be trained; two exits must share parameters.
        priority: Which exits come first, the `earlier` or the `later`.
        label_smoothing: As for `Sum`.

    Raises:
        ConfigurationError: An option cannot be used.
    """

    together = False

    def __init__(
        self,
        name: str,
        net: StagedNet,
        *,
        priority: Literal['earlier', 'later'] = 'earlier',
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        if priority not in PRIORITIES:
            raise ConfigurationError(
                f'rule {name}: priority is {priority!r}; give {" or ".join(PRIORITIES)}'
            )
        self.order = range(self.num_stages)
        if priority == 'later':
            self.order = self.order[::-1]

    def backward(self, net: StagedNet, losses: Tensor) -> None:
        """One backward pass per exit; `grad` gets Σ g̃_i.

        With several processes the gradients are averaged here, for this way is not seen by
        torch's own averaging and the mean of projections is not the projection of means.
        """
        parameters = [p for p in net.parameters() if p.requires_grad]
        gradients = [torch.empty(len(losses), *p.shape, device=p.device) for p in parameters]
        for i, loss in enumerate(losses):
            given = torch.autograd.grad(
                loss,
                parameters,
                retain_graph=i + 1 < len(losses),
                allow_unused=True,
                materialize_grads=True,
            )
            for all_exits, one in zip(gradients, given, strict=True):
                all_exits[i] = one
        gradients = [mean_over_ranks(g.flatten(1)) for g in gradients]
        exits = exit_parameters(net)
        owned = torch.tensor([[p in below for below in exits] for p in parameters])
        made = combinations(gradients, owned, self.order, together=self.together)
        weights = made.sum(1).to(gradients[0].device, torch.float32)
        for parameter, all_exits, weight in zip(parameters, gradients, weights, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad += (weight @ all_exits).view(parameter.shape)


class OrthogonalLayer(Orthogonal):
    """Orthogonal in each parameter tensor by itself."""


class OrthogonalGlobal(Orthogonal):
    """Orthogonal over all parameters as one vector."""

    together = True
