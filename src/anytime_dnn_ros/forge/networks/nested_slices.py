"""Nested slices: every stage runs more groups of the same grouped bottlenecks.

Source: Lee and Shin, "Anytime neural prediction via slicing networks vertically", 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.networks.layers import GlobalPool, channels
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.networks import NetworkSpec

NUM_STAGES = 4
# Groups of the whole net: the first stage runs one of them, the last stage all.
GROUPS = 8
# Channels between the blocks at width 1, per resolution, and the blocks there.
CHANNELS = (24, 48, 96)
BLOCKS = (1, 2, 2)


class FreeShortcut(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A tensor in another shape for no multiplication: averaged, then filled up with zeros.

    Args:
        inputs: Channels of the tensor.
        outputs: Channels wanted, as many or more.
        stride: 1 or 2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.missing, self.stride = outputs - inputs, stride

    def forward(self, tensor: Tensor) -> Tensor:
        """From [batch, inputs, height, width] to [batch, outputs, height, width] / stride."""
        if self.stride > 1:
            tensor = functional.avg_pool2d(tensor, self.stride, ceil_mode=True)
        if self.missing:
            tensor = functional.pad(tensor, (0, 0, 0, 0, 0, self.missing))
        return tensor


class PrefixConv(nn.Module):  # type: ignore[misc]
    """The first channels of a convolution that several stages share, with a BatchNorm of its own.

    The sum over fewer inputs has another mean and spread, and so has everything behind it: what
    the stages share is the weights, never the statistics.

    Args:
        shared: The whole convolution, without bias.
        inputs: Input channels used.
        outputs: Output channels used.
        groups: Groups used; both channel counts hold as many groups.
    """

    def __init__(self, shared: nn.Conv2d, inputs: int, outputs: int, groups: int = 1) -> None:
        super().__init__()
        self.shared = shared
        self.outputs, self.inputs, self.groups = outputs, inputs // groups, groups
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, tensor: Tensor) -> Tensor:
        """From [batch, inputs, height, width] to [batch, outputs, height, width] / stride."""
        conv = self.shared
        weight = conv.weight[: self.outputs, : self.inputs]
        tensor = functional.conv2d(
            tensor, weight, None, conv.stride, conv.padding, groups=self.groups
        )
        return self.norm(tensor)


def shared_conv(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """A whole convolution, to be used through `PrefixConv`."""
    return nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False)


class _Bottleneck(nn.Module):  # type: ignore[misc]
    """The first groups of a grouped residual bottleneck; channels outside it stay whole."""

    def __init__(self, squeeze: nn.Conv2d, middle: nn.Conv2d, expand: nn.Conv2d, groups: int):
        super().__init__()
        inner = groups * middle.weight.shape[1]
        self.squeeze = PrefixConv(squeeze, squeeze.in_channels, inner)
        self.middle = PrefixConv(middle, inner, inner, groups)
        self.expand = PrefixConv(expand, inner, expand.out_channels)
        self.shortcut = FreeShortcut(squeeze.in_channels, expand.out_channels, middle.stride[0])

    def forward(self, tensor: Tensor) -> Tensor:
        branch = self.expand(functional.relu(self.middle(functional.relu(self.squeeze(tensor)))))
        return functional.relu(branch + self.shortcut(tensor))


def _shared_blocks(widths: list[int]) -> list[tuple[nn.Conv2d, nn.Conv2d, nn.Conv2d]]:
    blocks = []
    inputs = widths[0]
    for i, (outputs, num_blocks) in enumerate(zip(widths, BLOCKS, strict=True)):
        for j in range(num_blocks):
            stride = 2 if i and not j else 1
            blocks.append(
                (
                    shared_conv(inputs, outputs, 1),
                    shared_conv(outputs, outputs, 3, stride, GROUPS),
                    shared_conv(outputs, outputs, 1),
                )
            )
            inputs = outputs
    return blocks


def _groups_per_stage(num_stages: int) -> list[int]:
    """From one group to all, by an equal factor as far as whole groups allow."""
    if num_stages == 1:
        return [GROUPS]
    return [max(k + 1, round(GROUPS ** (k / (num_stages - 1)))) for k in range(num_stages)]


def build(spec: NetworkSpec) -> StagedNet:
    """Builds the net; its stages share convolutions, and each reads the image.

    Raises:
        ConfigurationError: More stages than groups.
    """
    num_stages = spec.stages or NUM_STAGES
    if num_stages > GROUPS:
        raise ConfigurationError(
            f'nested_slices has no {num_stages} stages: each adds a group or more of {GROUPS}; '
            f'give 1 to {GROUPS}, or 0 for {NUM_STAGES}'
        )
    widths = [channels(spec.width * count, GROUPS) for count in CHANNELS]
    image_channels = spec.image_shape[0]
    stem = shared_conv(image_channels, widths[0])
    blocks = _shared_blocks(widths)
    stages = []
    for k, groups in enumerate(_groups_per_stage(num_stages), start=1):
        body = nn.Sequential(
            PrefixConv(stem, image_channels, widths[0]),
            nn.ReLU(),
            *(_Bottleneck(*convs, groups) for convs in blocks),
            GlobalPool(),
        )
        head = nn.Linear(widths[-1], spec.num_classes)
        stages.append(Stage(body, head, [IMAGE], [f'pooled{k}']))
    return StagedNet(stages, 'contract')
