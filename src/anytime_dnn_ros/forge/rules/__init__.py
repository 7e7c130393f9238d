"""The training rules that `anytime-dnn train` knows: each exit's loss, and what is stepped along.

A rule sees a net only as logits and parameters, so it goes with every network it makes sense for;
`make_rule` says clearly where it does not. The equations stand with the rules, in the modules
beside this one. Nothing here needs torch before a rule is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol

from anytime_dnn_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from torch import Tensor

    from anytime_dnn_ros.forge.staged import StagedNet
    from anytime_dnn_ros.ladder.manifest import CombineSpec


class Rule(Protocol):
    """How a staged net is trained and how its answers are read.

    Attributes:
        name: A key of `RULES`.
        equilibrium: In training the net is called as `net(image, equilibrium=rule.equilibrium)`.
        cycles: 1, or how many times the learning rate falls to 0 and starts anew; the nets at the
            ends of the cycles then become one ladder, see `snapshot`.
    """

    name: str
    equilibrium: bool
    cycles: int

    def losses(self, logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
        """The loss of every exit, in float32 whatever the logits are.

        A rule with memory learns from each call made while gradients are on, and from no other.

        Args:
            logits: One [batch, classes] per stage.
            labels: int64 [batch].

        Returns:
            float32 [stages]; plain training steps along the gradient of their sum.
        """
        ...

    def backward(self, net: StagedNet, losses: Tensor) -> None:
        """Adds to every parameter's `grad` what the optimiser shall step along.

        Args:
            net: The bare net, not a wrapper around it.
            losses: What `losses` gave, perhaps times one factor (loss scaling, accumulation).
        """
        ...

    def answers(self, logits: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What is scored after each stage: just what `combine` makes of the logits."""
        ...

    def combine(self, num_stages: int) -> CombineSpec:
        """How a bundle of that many stages combines their answers."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training must know, as plain numbers and tensors."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict`.

        Raises:
            ConfigurationError: The state is of another rule or another net.
        """
        ...


@dataclass(frozen=True)
class _Entry:
    """Where a rule is written and what it needs.

    Attributes:
        needs: Of the net: two `exits`, a `trunk` that stages read from earlier ones, or exits
            that are `shared` in the parameters below them.
    """

    where: str
    summary: str
    needs: Literal['', 'exits', 'trunk', 'shared'] = ''


_ENTRIES = {
    'sum': _Entry('sums:Sum', 'sum of the cross-entropies (MSDNet, Huang et al., ICLR 2018)'),
    'weighted': _Entry(
        'sums:Weighted',
        'weighted sum, early exits heavier (BranchyNet, Teerapittayanon et al., ICPR 2016)',
        'exits',
    ),
    'adaloss': _Entry(
        'adaloss:AdaLoss',
        'weights inverse to the running losses (AdaLoss, Hu et al., AAAI 2019)',
        'exits',
    ),
    'equilibrium': _Entry(
        'sums:Equilibrium',
        'sum, the trunk hearing every exit alike (gradient equilibrium, Li et al., ICCV 2019)',
        'trunk',
    ),
    'imta': _Entry(
        'distillation:Imta',
        'equilibrium, and the last exit teaches the others (IMTA, Li et al., ICCV 2019)',
        'trunk',
    ),
    'boost': _Entry(
        'boosting:Boost',
        'each exit corrects the sum of those before (BoostNet, Yu et al., AAAI 2023)',
        'trunk',
    ),
    'orthogonal_layer': _Entry(
        'orthogonal:OrthogonalLayer',
        'gradients made orthogonal in each parameter tensor (OSGD, Wan et al., ICML 2020)',
        'shared',
    ),
    'orthogonal_global': _Entry(
        'orthogonal:OrthogonalGlobal',
        'gradients made orthogonal over all parameters at once (OSGD, Wan et al., ICML 2020)',
        'shared',
    ),
    'snapshot': _Entry(
        'snapshot:Snapshot',
        'one net kept at the end of each cosine cycle (snapshot ensembles, Huang et al., 2017)',
    ),
    'ladder_distill': _Entry(
        'distillation:LadderDistill',
        'all exits together, the later ones more, teach each one (ours)',
        'exits',
    ),
}
RULES = {name: entry.summary for name, entry in _ENTRIES.items()}


def sensible_rules(net: StagedNet) -> list[str]:
    """Names of the rules that make sense for `net` with their default options."""
    return [name for name, entry in _ENTRIES.items() if not _obstacle(entry.needs, net)]


def make_rule(name: str, net: StagedNet, **options: Any) -> Rule:
    """Makes the rule `name` for `net`.

    Args:
        name: A key of `RULES`.
        net: The net to be trained.
        options: The rule's own settings; `label_smoothing` (0..1, default 0) for every rule.

    Raises:
        ConfigurationError: No such rule, an option it does not have or cannot use, or a rule that
            makes no sense for this net.
    """
    if name not in _ENTRIES:
        raise ConfigurationError(f'no training rule {name!r}; give one of {", ".join(RULES)}')
    module, _, class_name = _ENTRIES[name].where.partition(':')
    rule_class: Callable[..., Rule] = getattr(import_module(f'{__package__}.{module}'), class_name)
    known = [*inspect.signature(rule_class).parameters][2:]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigurationError(
            f'rule {name} has no option {", ".join(unknown)}; it has {", ".join(known)}'
        )
    needs = _ENTRIES[name].needs
    if needs == 'trunk' and options.get('equilibrium', True) is False:
        needs = 'exits'
    if obstacle := _obstacle(needs, net):
        mend = f'give one of {", ".join(sensible_rules(net))}'
        if needs == 'trunk' and 'equilibrium' in known and len(net) > 1:
            mend += ', or the option equilibrium=false'
        raise ConfigurationError(
            f'rule {name} makes no sense for this {net.kind} net: {obstacle}; {mend}'
        )
    return rule_class(name, net, **options)


def _obstacle(needs: str, net: StagedNet) -> str:
    """Why a rule with those needs cannot train `net`; empty where it can."""
    sharing = import_module(f'{__package__}.sharing')
    if needs and len(net) < 2:
        return 'it has one exit only'
    if needs == 'trunk' and not sharing.has_trunk(net):
        return 'no stage reads what an earlier one wrote, so there is no trunk to equalise'
    if needs == 'shared' and not sharing.has_shared_parameters(net):
        return 'no two of its exits share a parameter'
    return ''
