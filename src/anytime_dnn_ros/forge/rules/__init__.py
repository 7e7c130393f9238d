"""The training rules that `anytime-dnn train` knows: each exit's loss, and what is stepped along.

A rule sees a net only as logits and parameters, so it goes with every network it makes sense for;
`make_rule` says clearly where it does not. Rules are named after their papers; their modules give
the equations.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from anytime_dnn_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from anytime_dnn_ros.forge.staged import StagedNet
    from anytime_dnn_ros.ladder.manifest import CombineSpec


class Rule(Protocol):
    """How a staged net is trained and how its answers are read.

    Attributes:
        name: A key of `RULES`.
        equilibrium: The net is called as `net(image, equilibrium=rule.equilibrium)` in training.
        cycles: 1, or how many times the learning rate falls to 0 and restarts; the net at the end
            of each cycle is then kept and all become one ladder, see `snapshot`.
    """

    name: str
    equilibrium: bool
    cycles: int

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor, progress: float) -> Tensor:
        """The loss of every exit, in float32 whatever the logits are.

        A rule with memory learns from each call made while gradients are on, and from no other.

        Args:
            logits: One [batch, classes] per stage.
            labels: int64 [batch].
            progress: Share of the training done, 0..1.

        Returns:
            float32 [stages].
        """
        ...

    def backward(self, net: StagedNet, losses: Tensor) -> None:
        """Adds to every parameter's `grad` what the optimiser shall step along."""
        ...

    def answers(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What is scored after each stage, as the bundle's combination would give it."""
        ...

    def combine(self, num_stages: int) -> CombineSpec:
        """How the bundle combines the answers of its stages."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must know, as plain numbers and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`."""
        ...


RULES = {
    'sum': "sum of the exits' cross-entropies (MSDNet, Huang et al., ICLR 2018)",
    'weighted': 'weighted sum, early exits heavier (BranchyNet, ICPR 2016)',
}
_CLASSES = {
    'sum': 'sums:Sum',
    'weighted': 'sums:Weighted',
}


def make_rule(name: str, net: StagedNet, **options: Any) -> Rule:
    """Makes the rule `name` for `net`.

    Args:
        name: A key of `RULES`.
        net: The net to be trained.
        options: The rule's own settings, `label_smoothing` (0..1, default 0) for every rule.

    Raises:
        ConfigurationError: No such rule, an option it does not have or cannot use, or a rule that
            makes no sense for this net.
    """
    if name not in RULES:
        raise ConfigurationError(f'no training rule {name!r}; give one of {", ".join(RULES)}')
    module, _, class_name = _CLASSES[name].partition(':')
    rule_class = getattr(import_module(f'{__package__}.{module}'), class_name)
    known = [*inspect.signature(rule_class).parameters][2:]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigurationError(
            f'rule {name} has no option {", ".join(unknown)}; it has {", ".join(known)}'
        )
    rule: Rule = rule_class(name, net, **options)
    return rule
