"""Exits that learn from each other as well as from the labels.

With p_i(T) = softmax(logits_i / T), a teacher q that gets no gradient, and KL(q‖p) = Σ q log q/p:

    imta            CE_last + Σ_{i<last} [(1 - γ) CE_i + γ T² KL(p_last(T) ‖ p_i(T))]
    ladder_distill  Σ_i [(1 - α) CE_i + α T² KL(q(T) ‖ p_i(T))],
                    log q = Σ_i i log p_i(1) / Σ_i i,   q(T) ∝ q^(1/T),   i from 1

`imta` is Li et al., "Improved techniques for training adaptive deep networks", ICCV 2019, in one
training instead of the authors' two. `ladder_distill` is ours: the teacher is the ensemble of the
net's own exits, as the product of their probabilities; it knows more than the last exit alone,
and so has something to teach that one too.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.rules.sharing import has_trunk
from anytime_dnn_ros.forge.rules.sums import Sum
from anytime_dnn_ros.forge.staged import StagedNet

LEAST_TEMPERATURE = 1e-3


def divergences(students: Sequence[Tensor], teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of each student, mean over the batch, float32 [students].

    Args:
        students: Logits, [batch, classes] each.
        teacher: Logits [batch, classes]; no gradient goes there.
        temperature: T, divides all logits.
    """
    target = functional.log_softmax(teacher.detach().float() / temperature, 1)
    return temperature**2 * torch.stack(
        [
            functional.kl_div(
                functional.log_softmax(student.float() / temperature, 1),
                target,
                reduction='batchmean',
                log_target=True,
            )
            for student in students
        ]
    )


class Imta(Sum):
    """The last exit teaches the others, with gradient equilibrium.

    Args:
        name: The rule's name.
        net: The net to be trained.
        gamma: Share of the teacher's word, 0..1.
        temperature: T.
        equilibrium: Off for a net whose stages share no trunk: the distillation alone.
        label_smoothing: As for `Sum`.

    Raises:
        ConfigurationError: An option is out of range.
    """

    def __init__(
        self,
        name: str,
        net: StagedNet,
        *,
        gamma: float = 0.1,
        temperature: float = 1.0,
        equilibrium: bool = True,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        self.equilibrium = self.flag('equilibrium', equilibrium)
        self.gamma = self.number('gamma', gamma, 0, 1)
        self.temperature = self.number('temperature', temperature, LEAST_TEMPERATURE)

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """See `Rule`."""
        entropies = self.cross_entropies(logits, labels)
        taught = divergences(logits[:-1], logits[-1], self.temperature)
        early = (1 - self.gamma) * entropies[:-1] + self.gamma * taught
        return torch.cat([early, entropies[-1:]])


class LadderDistill(Sum):
    """All exits together, the later ones more, teach each one.

    Args:
        name: The rule's name.
        net: The net to be trained.
        alpha: Share of the teacher's word, 0..1.
        temperature: T.
        equilibrium: Gradient equilibrium; by default where the net has a trunk for it.
        label_smoothing: As for `Sum`.

    Raises:
        ConfigurationError: An option is out of range, or equilibrium is asked of a net that has
            no trunk.
    """

    def __init__(
        self,
        name: str,
        net: StagedNet,
        *,
        alpha: float = 0.3,
        temperature: float = 2.0,
        equilibrium: bool | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(name, net, label_smoothing=label_smoothing)
        trunk = has_trunk(net)
        if equilibrium and not trunk:
            raise ConfigurationError(
                f'rule {name}: no stage of this net reads what an earlier one wrote, so there is '
                'no trunk to equalise; leave the option equilibrium out'
            )
        self.equilibrium = trunk if equilibrium is None else self.flag('equilibrium', equilibrium)
        self.alpha = self.number('alpha', alpha, 0, 1)
        self.temperature = self.number('temperature', temperature, LEAST_TEMPERATURE)

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """See `Rule`."""
        entropies = self.cross_entropies(logits, labels)
        with torch.no_grad():
            answers = functional.log_softmax(torch.stack(logits).float(), 2)
            weights = torch.arange(1.0, len(logits) + 1, device=answers.device)
            teacher = torch.tensordot(weights / weights.sum(), answers, 1)
        taught = divergences(logits, teacher, self.temperature)
        return (1 - self.alpha) * entropies + self.alpha * taught
