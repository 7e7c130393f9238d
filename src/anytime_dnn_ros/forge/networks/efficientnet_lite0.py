"""EfficientNet-Lite0 with its ImageNet weights, cut into a ladder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE, load_net
from anytime_dnn_ros.forge.networks.pretrained import anytime
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.staged import StagedNet

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.networks import NetworkSpec

# Behind the last block at 1/8, 1/16 (both widths) of the image's side; then the end.
CUTS = ('_blocks.4', '_blocks.7', '_blocks.10')
# Without the last convolution, which widens for ImageNet's thousand classes: on 5000 CIFAR-10
# images exits on a frozen trunk are 2 to 3 % better so, and cheaper.
FEATURES = '_blocks.15'


def build(spec: NetworkSpec) -> StagedNet:
    """Loads the weights and cuts the network.

    Raises:
        ConfigurationError: The image is not square.
        MissingDependencyError: The weights are not installed.
    """
    _, height, width = spec.image_shape
    if height != width:
        raise ConfigurationError(
            f'{spec.name} reads square images, not {height}x{width}; give --size'
        )
    spec = replace(spec, features=spec.features or FEATURES)
    return anytime(load_net('lite0', height), spec, spec.cuts or spec.stages or CUTS)


def normalisation(spec: NetworkSpec) -> Normalisation:
    """What the weights were trained with."""
    channels = spec.image_shape[0]
    return Normalisation((PIXEL_MEAN,) * channels, (PIXEL_SCALE,) * channels)
