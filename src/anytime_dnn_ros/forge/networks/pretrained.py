"""A user's own trained module as a network: `package.module:function` names what gives it."""

from __future__ import annotations

import importlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import nn

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.anytime_trunk import SIDE_WIDTH, make_anytime
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.staged import StagedNet

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.networks import NetworkSpec

STAGES = 4
# What torchvision and timm train most of their networks with, in pixel units.
IMAGENET = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))


def build(spec: NetworkSpec) -> StagedNet:
    """Cuts the module that `spec.name` gives."""
    return anytime(load(spec.name)[0], spec, spec.cuts or spec.stages or STAGES)


def normalisation(spec: NetworkSpec) -> Normalisation:
    """What the module was trained with.

    Raises:
        ConfigurationError: It is of other channels than the images'.
    """
    given, channels = load(spec.name)[1], spec.image_shape[0]
    if not len(given.mean) == len(given.std) == channels:
        raise ConfigurationError(
            f'network {spec.name!r} has means of {len(given.mean)} and deviations of '
            f'{len(given.std)} channels, and the images have {channels}; let the function return '
            '(module, mean, std) with one number for each channel'
        )
    return given


def anytime(module: nn.Module, spec: NetworkSpec, cuts: tuple[str, ...] | int) -> StagedNet:
    """Cuts a module as a specification says; `spec.width` scales the side network."""
    return make_anytime(
        module,
        # Not zeros: a network may divide by what it finds.
        torch.randn(1, *spec.image_shape, generator=torch.Generator().manual_seed(0)),
        cuts=cuts,
        num_classes=spec.num_classes,
        features=spec.features,
        side_width=round(SIDE_WIDTH * spec.width),
        frozen=spec.frozen,
    )


@lru_cache(maxsize=1)
def load(name: str) -> tuple[nn.Module, Normalisation]:
    """Calls `package.module:function`.

    Args:
        name: Of a function without arguments that gives a trained module, or (module, mean, std)
            with one mean and deviation per channel, in pixel units 0..255; a module alone reads
            what torchvision's networks read.

    Raises:
        ConfigurationError: There is no such function, or it gives something else.
    """
    where, _, attribute = name.partition(':')
    try:
        function = getattr(importlib.import_module(where), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f'network {name!r} cannot be imported ({error}); give package.module:function, with '
            "the package's folder on PYTHONPATH"
        ) from error
    given = function()
    module, *scale = given if isinstance(given, tuple) else (given,)
    if not isinstance(module, nn.Module) or len(scale) not in (0, 2):
        raise ConfigurationError(
            f'network {name!r} gives {type(given).__name__}; let the function return a trained '
            'torch module, or (module, mean, std)'
        )
    if not scale:
        return module, IMAGENET
    try:
        mean, std = (tuple(map(float, values)) for values in scale)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f'network {name!r}: mean and std are {scale}; give a list of numbers for each'
        ) from error
    # Not `std <= 0`: that lets NaN pass.
    if not all(0 < deviation < math.inf for deviation in std) or not all(map(math.isfinite, mean)):
        raise ConfigurationError(
            f'network {name!r}: mean and std are {scale}; give finite numbers, and deviations '
            'above 0'
        )
    return module, Normalisation(mean, std)
