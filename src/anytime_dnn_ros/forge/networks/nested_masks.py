"""Nested masks: every stage runs more channels of one residual net.

Source: Kim, Ahn and Oh, "NestedNet: learning nested sparse structures in deep neural networks",
CVPR 2018. Its masks M_1 in M_2 in … lie on the weights, and the losses f(W * M_l) are summed. The
masks here keep the first channels of every layer, so that a masked net *is* a smaller dense one
and the saved multiplications are saved in truth. Every level has its own BatchNorm: statistics of
a layer differ with the number of channels it sums, and shared ones fit no level (Yu et al.,
"Slimmable neural networks", ICLR 2019).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

from anytime_dnn_ros.forge.networks.layers import GlobalPool, channels
from anytime_dnn_ros.forge.networks.nested_slices import (
    FreeShortcut,
    PrefixConv,
    shared_conv,
)
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.networks import NetworkSpec

NUM_STAGES = 4
# Channels of the whole net at width 1, per resolution, and the residual blocks there.
CHANNELS = (12, 24, 48)
BLOCKS = (1, 2, 2)
# Every level has so many times the channels of the one before: twice the multiplications.
GROWTH = 2**0.5


class _Block(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A residual block of two convolutions, masked to its first channels."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = PrefixConv(first, inputs, outputs)
        self.second = PrefixConv(second, outputs, outputs)
        self.shortcut = FreeShortcut(inputs, outputs, first.stride[0])

    def forward(self, tensor: Tensor) -> Tensor:
        branch = self.second(functional.relu(self.first(tensor)))
        return functional.relu(branch + self.shortcut(tensor))


def _per_block(widths: list[int]) -> list[tuple[int, int, int]]:
    """Input channels, output channels and stride of every block."""
    inputs = (widths[0], *widths)
    return [
        (inputs[i + bool(j)], widths[i], 2 if i and not j else 1)
        for i, num_blocks in enumerate(BLOCKS)
        for j in range(num_blocks)
    ]


def build(spec: NetworkSpec) -> StagedNet:
    """Builds the net; its stages share convolutions, and each reads the image."""
    num_stages = spec.stages or NUM_STAGES
    levels = [
        [channels(spec.width * count / GROWTH**left) for count in CHANNELS]
        for left in reversed(range(num_stages))
    ]
    image_channels = spec.image_shape[0]
    stem = shared_conv(image_channels, levels[-1][0])
    blocks = [
        (shared_conv(inputs, outputs, 3, stride), shared_conv(outputs, outputs))
        for inputs, outputs, stride in _per_block(levels[-1])
    ]
    stages = []
    for k, widths in enumerate(levels, start=1):
        body = nn.Sequential(
            PrefixConv(stem, image_channels, widths[0]),
            nn.ReLU(),
            *(
                _Block(*convs, inputs, outputs)
                for convs, (inputs, outputs, _) in zip(blocks, _per_block(widths), strict=True)
            ),
            GlobalPool(),
        )
        head = nn.Linear(widths[-1], spec.num_classes)
        stages.append(Stage(body, head, [IMAGE], [f'pooled{k}']))
    return StagedNet(stages, 'contract')
