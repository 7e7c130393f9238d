"""FractalNet: columns of rising depth over the same blocks, joined by means.

Larsson et al., "FractalNet: ultra-deep neural networks without residuals", ICLR 2017:
f_{C+1}(z) = [f_C ∘ f_C](z) ⊕ conv(z), ⊕ the mean, a max-pool between blocks. Unrolled, column c
is a chain of 2^(c-1) convolutions in every block, and every second one of them ends where the
column before also ends one: there they join.

As a ladder, stage c is column c, and the net is *interruptible*: a column takes up the joined
features of the columns before it, which are kept, and nothing is computed twice; all stages
together cost what the whole fractal net costs. For that, joins only look back. In the paper a
shallow column goes on from a join with the deeper ones too, so its later layers would have to be
computed anew whenever a deeper column is added. At a join every column counts alike, as there.

Drop-path, while training: half of the batches are global, each column works alone through all
blocks (the paper draws one; here each has an exit, so all learn from the batch); in the other
half each input of each join is dropped with probability 0.15, but never both. The paper's dropout
inside the blocks is left out: it is for nets a hundred times larger.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.networks import NetworkSpec
from anytime_dnn_ros.forge.networks.layers import GlobalPool, channels, conv_bn_relu
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

COLUMNS = 3
# At width 1, per block; the paper's net for 32x32 has 64, 128, 256, 512 and 512.
BLOCK_CHANNELS = (12, 24, 48, 96)
# Of a join's input, and share of batches. The paper's.
LOCAL_DROP, GLOBAL_SHARE = 0.15, 0.5
BATCH_NORM_MOMENTUM = 0.1
# One input of two dropped, the other not; where both would be, a coin saves one.
_DROP_ONE = LOCAL_DROP - LOCAL_DROP**2 / 2


class _Column(nn.Module):  # type: ignore[misc]
    """A chain of convolutions through all blocks.

    Args:
        blocks: The convolutions of each.
        keeps_all: Give the features after each convolution, not only after the last.
    """

    def __init__(self, blocks: list[nn.ModuleList], *, keeps_all: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.keeps_all = keeps_all
        # Looked at while training only: this batch is one of global drop-path.
        self.alone = False

    def forward(self, image: Tensor, *earlier: Tensor) -> list[Tensor]:
        """Runs the column.

        Args:
            image: The network's input.
            earlier: Everything that the column before has kept; none for the first.
        """
        joined = iter(earlier)
        tensor, kept = image, []
        for i, block in enumerate(self.blocks):
            if i:
                tensor = max_pool2d(tensor, 2)
            for position, conv in enumerate(block, 1):
                tensor = conv(tensor)
                if position % 2 == 0:
                    tensor = self._join(next(joined), tensor, position)
                kept.append(tensor)
        return kept if self.keeps_all else kept[-1:]

    def _join(self, joined: Tensor, new: Tensor, position: int) -> Tensor:
        # As many columns end a convolution here as the position has factors 2.
        old_weight, new_weight = self._weights((position & -position).bit_length() - 1)
        # What is dropped stays in the graph, so that every parameter has a gradient.
        return old_weight * joined + new_weight * new

    def _weights(self, num_joined: int) -> tuple[float, float]:
        if self.training:
            drawn = 0.0 if self.alone else float(torch.rand(()))
            if drawn < _DROP_ONE:
                return 0.0, 1.0
            if drawn > 1 - _DROP_ONE:
                return 1.0, 0.0
        return num_joined / (num_joined + 1), 1 / (num_joined + 1)


class _Exit(nn.Sequential):  # type: ignore[misc]
    """The classifier on what the column ends with."""

    def __init__(self, given: int, num_classes: int) -> None:
        super().__init__(GlobalPool(), nn.Linear(given, num_classes))

    def forward(self, *features: Tensor) -> Tensor:
        return super().forward(features[-1])


class FractalNet(StagedNet):
    """A staged net whose training batches drop paths, drawn from torch's global generator."""

    def forward(self, image: Tensor, *, equilibrium: bool = False) -> tuple[Tensor, ...]:
        """Runs every column; see `StagedNet.forward`."""
        if self.training:
            alone = float(torch.rand(())) < GLOBAL_SHARE
            for module in self.modules():
                if isinstance(module, _Column):
                    module.alone = alone
                elif isinstance(module, nn.BatchNorm2d):
                    # Answers are given with every join at work: what BatchNorm keeps of the
                    # batches comes from those that are likest to that.
                    module.momentum = 0.0 if alone else BATCH_NORM_MOMENTUM
        return super().forward(image, equilibrium=equilibrium)


def build(spec: NetworkSpec) -> StagedNet:
    """FractalNet with a stage per column.

    Raises:
        ConfigurationError: Images too small for the blocks.
    """
    smallest = 2 ** (len(BLOCK_CHANNELS) - 1)
    if min(spec.image_shape[1:]) < smallest:
        raise ConfigurationError(
            f'fractalnet halves an image {len(BLOCK_CHANNELS) - 1} times: {spec.image_shape[1]}x'
            f'{spec.image_shape[2]} is too small; give images of {smallest}x{smallest} or more'
        )
    widths = [channels(spec.width * wanted) for wanted in BLOCK_CHANNELS]
    num_columns = spec.stages or COLUMNS
    stages = []
    reads: tuple[str, ...] = ()
    for column in range(1, num_columns + 1):
        num_convs = 2 ** (column - 1)
        blocks = [
            nn.ModuleList(conv_bn_relu(given if i == 0 else out, out) for i in range(num_convs))
            for given, out in zip((spec.image_shape[0], *widths), widths, strict=False)
        ]
        writes = tuple(
            f'column{column}_block{block}_conv{conv}'
            for block in range(1, len(widths) + 1)
            for conv in range(1, num_convs + 1)
        )
        last = column == num_columns
        stages.append(
            Stage(
                _Column(blocks, keeps_all=not last),
                _Exit(widths[-1], spec.num_classes),
                (IMAGE, *reads),
                writes[-1:] if last else writes,
            )
        )
        reads = writes
    return FractalNet(stages)
