"""A residual net with an exit after its blocks (BranchyNet: Teerapittayanon et al., ICPR 2016).

The trunk halves the resolution early, since multiply-accumulates at a quarter of the pixels buy
four times the weights. The first exit stands where features are still fine; it strides down on a
narrow path of its own, because exits that see only fine, local features answer badly (Huang et
al., ICLR 2018, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.networks import NetworkSpec
from anytime_dnn_ros.forge.networks.layers import GlobalPool, channels, conv_bn_relu
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

DEFAULT_STAGES, LEAST_STAGES = 5, 3
STEM_CHANNELS = 16
# Channels at width 1 where the image's side is halved; doubled with every further halving.
BASE_CHANNELS = 44
# An exit widens the features before it pools them, so that it need not be linear in them.
HEAD_EXPANSION = 2
# The first exit's own path, in terms of the trunk's channels there.
FIRST_HEAD_EXPANSION = 4 / 3


def build(spec: NetworkSpec) -> StagedNet:
    """Builds the net.

    Raises:
        ConfigurationError: Fewer than three stages.
    """
    count = spec.stages or DEFAULT_STAGES
    if count < LEAST_STAGES:
        raise ConfigurationError(
            f'early_exit_resnet has {LEAST_STAGES} stages or more, not {count}; give --stages'
        )
    base = channels(BASE_CHANNELS * spec.width, 2)
    stages, given = [], STEM_CHANNELS
    for k, blocks in enumerate(_plan(base, count)):
        layers: list[nn.Module] = []
        if k == 0:
            layers.append(conv_bn_relu(spec.image_shape[0], STEM_CHANNELS))
        for out, stride in blocks:
            layers.append(ResidualBlock(given, out, stride))
            given = out
        stages.append(
            Stage(
                nn.Sequential(*layers),
                ExitHead(given, spec.num_classes, fine=k == 0),
                [f'trunk_{k}' if k else IMAGE],
                [f'trunk_{k + 1}'],
            )
        )
    return StagedNet(stages)


def _plan(base: int, count: int) -> list[list[tuple[int, int]]]:
    """Channels and stride of each stage's blocks; coarse stages are the last, at most half."""
    coarse = count // 2
    middle = count - 1 - coarse
    return [
        [(base, 2)],
        *[[(2 * base, 2)], *[[(2 * base, 1)]] * (middle - 1)],
        *[[(4 * base, 2)], *[[(4 * base, 1)]] * (coarse - 1)],
    ]


class ResidualBlock(nn.Module):  # type: ignore[misc]
    """Two 3x3 convolutions and a shortcut (He et al., CVPR 2016), pooled where it must shrink."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            conv_bn_relu(inputs, outputs, stride=stride), conv_bn_relu(outputs, outputs)[:-1]
        )
        shortcut: Sequence[nn.Module] = ()
        if stride > 1:
            shortcut = [nn.AvgPool2d(stride, ceil_mode=True)]
        if stride > 1 or inputs != outputs:
            shortcut = [*shortcut, conv_bn_relu(inputs, outputs, kernel=1)[:-1]]
        self.shortcut = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, inputs, H, W] to [batch, outputs, H / stride, W / stride]."""
        return functional.relu(self.convs(x) + self.shortcut(x))


class ExitHead(nn.Sequential):  # type: ignore[misc]
    """Widens, pools over the image and classifies; fine features are made coarse first."""

    def __init__(self, given: int, num_classes: int, *, fine: bool) -> None:
        if fine:
            narrow = channels(FIRST_HEAD_EXPANSION * given, 2)
            wide = HEAD_EXPANSION * narrow
            convs = [
                conv_bn_relu(given, narrow, stride=2),
                conv_bn_relu(narrow, wide, stride=2),
            ]
        else:
            wide = HEAD_EXPANSION * given
            convs = [conv_bn_relu(given, wide, kernel=1)]
        super().__init__(*convs, GlobalPool(), nn.Linear(wide, num_classes))
