"""The networks that `anytime-dnn train` knows, and how one is built to a cost.

Nothing here needs torch before a network is built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING

from anytime_dnn_ros.errors import ConfigurationError

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.normalisation import Normalisation
    from anytime_dnn_ros.forge.staged import StagedNet


@dataclass(frozen=True)
class NetworkSpec:
    """Everything needed to build a network again.

    Attributes:
        name: A key of `NETWORKS`.
        image_shape: Channels, height, width.
        width: Channel multiplier; 1 is the network's own middle size.
        stages: How many; 0 is the network's own number.
        cuts: Of a trained trunk: the modules to cut behind, in place of a number of stages.
        features: Of a trained trunk: the module that gives its last features; '' is found.
        frozen: Leave a trained trunk as it is.
    """

    name: str
    image_shape: tuple[int, int, int]
    num_classes: int
    width: float = 1.0
    stages: int = 0
    cuts: tuple[str, ...] = ()
    features: str = ''
    frozen: bool = False


@dataclass(frozen=True)
class Network:
    """One kind of network.

    Attributes:
        module: In this package; its `build(spec: NetworkSpec) -> StagedNet` makes the network.
        summary: One line with its source.
        pretrained: Its module also has `normalisation(spec) -> Normalisation`, what the weights
            were trained with.
    """

    module: str
    summary: str
    pretrained: bool = False

    @property
    def build(self) -> Callable[[NetworkSpec], StagedNet]:
        """The builder; its module is imported only when asked for."""
        builder: Callable[[NetworkSpec], StagedNet] = import_module(
            f'{__package__}.{self.module}'
        ).build
        return builder


NETWORKS = {
    'early_exit_resnet': Network(
        'early_exit_resnet', 'residual net with exits after its blocks (BranchyNet, 2016)'
    ),
    'msdnet': Network('msdnet', 'multi-scale dense net (Huang et al., ICLR 2018)'),
    'fractalnet': Network('fractalnet', 'columns of rising depth (Larsson et al., 2016)'),
    'nested_slices': Network(
        'nested_slices', 'groups added slice by slice, own BatchNorm each (Lee & Shin, 2018)'
    ),
    'nested_masks': Network('nested_masks', 'masks within masks (NestedNet, Kim et al., 2018)'),
    'nested_nets': Network('nested_nets', 'nested in depth and in width (Wan et al., 2020)'),
    'efficientnet_lite0': Network(
        'efficientnet_lite0',
        'trained on ImageNet, cut, with a side network (EfficientNet-Lite, Google, 2020)',
        pretrained=True,
    ),
}
# What `package.module:function` names.
PRETRAINED = Network('pretrained', "a trained module of the user's own", pretrained=True)
# Widths tried when a network is fitted to a cost.
WIDTH_STEP, MAX_WIDTH = 1 / 32, 16.0


def build(spec: NetworkSpec) -> StagedNet:
    """Builds a network.

    Raises:
        ConfigurationError: No such network, or it cannot be built so.
    """
    network = _network(spec.name)
    if (spec.cuts or spec.features or spec.frozen) and not network.pretrained:
        raise ConfigurationError(
            f'{spec.name} has no trained trunk to cut or to freeze; leave out --cuts, '
            '--features and --freeze-trunk, or give efficientnet_lite0 or package.module:function'
        )
    if spec.cuts and spec.stages:
        raise ConfigurationError(
            f'{spec.name}: --cuts {",".join(spec.cuts)} names the places to cut at, --stages '
            f'{spec.stages} has them chosen; give one of the two'
        )
    if spec.stages < 0:
        raise ConfigurationError(
            f'{spec.name} has no {spec.stages} stages; give 1 or more, or 0 for its own number'
        )
    return network.build(spec)


def is_pretrained(name: str) -> bool:
    """Whether the network of that name comes with trained weights.

    Raises:
        ConfigurationError: No such network.
    """
    return _network(name).pretrained


def pretrained_normalisation(spec: NetworkSpec) -> Normalisation | None:
    """What the network's weights were trained with; None where they are not trained yet.

    Raises:
        ConfigurationError: No such network.
    """
    network = _network(spec.name)
    if not network.pretrained:
        return None
    given: Normalisation = import_module(f'{__package__}.{network.module}').normalisation(spec)
    return given


def _network(name: str) -> Network:
    if ':' in name:
        return PRETRAINED
    if name not in NETWORKS:
        raise ConfigurationError(
            f'no network {name!r}; give one of {", ".join(NETWORKS)}, or package.module:function'
        )
    return NETWORKS[name]


def fit_width(spec: NetworkSpec, max_macs: float) -> NetworkSpec:
    """The widest network whose stages together cost at most `max_macs`.

    Raises:
        ConfigurationError: Even the narrowest costs more.
    """
    from anytime_dnn_ros.forge.staged import stage_macs  # noqa: PLC0415 - it imports torch

    def macs(step: int) -> int:
        return sum(stage_macs(build(replace(spec, width=step * WIDTH_STEP)), spec.image_shape))

    low, high = 1, int(MAX_WIDTH / WIDTH_STEP)
    if macs(low) > max_macs:
        raise ConfigurationError(
            f'{spec.name} with {spec.stages or "its own number of"} stages costs more than '
            f'{max_macs / 1e6:g} MMAC even at its narrowest; allow more, or fewer stages'
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if macs(middle) <= max_macs else (low, middle)
    return replace(spec, width=low * WIDTH_STEP)
