"""Exits for a trunk that was not made for them: a slim side network and linear heads.

Early features of a trained trunk are poor for a linear head. A side network reads the trunk's
tensors at every cut, carries its own state from cut to cut, and so reuses what it computed for
earlier exits; the trunk itself may stay frozen (Sung et al., "LST: Ladder Side-Tuning", 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from anytime_dnn_ros.forge.networks.layers import global_mean

# As in front of EfficientNet's own classifier.
DROPOUT = 0.2

Shape = tuple[int, ...]


def pooled(tensor: Tensor) -> Tensor:
    """[N, C, H, W], tokens [N, L, C] or [N, C] averaged to [N, C]."""
    if tensor.dim() == 2:
        return tensor
    return global_mean(tensor) if tensor.dim() == 4 else tensor.mean(1)


def channels(shape: Shape) -> int:
    """How many numbers `pooled` leaves of a tensor of this shape."""
    return shape[2] if len(shape) == 3 else shape[1]


class ExitHead(nn.Module):  # type: ignore[misc] # torch is not typed here
    """Averages of all tensors, each number on one scale, to logits.

    Args:
        shapes: Of the tensors it reads.
    """

    def __init__(self, shapes: Sequence[Shape], num_classes: int) -> None:
        super().__init__()
        width = sum(map(channels, shapes))
        self.classify = nn.Sequential(
            nn.BatchNorm1d(width), nn.Dropout(DROPOUT), nn.Linear(width, num_classes)
        )

    def forward(self, *tensors: Tensor) -> Tensor:
        """Logits [N, classes]."""
        return self.classify(torch.cat([pooled(tensor) for tensor in tensors], 1))


class MapStep(nn.Module):  # type: ignore[misc]
    """One step of the side network over feature maps: what is read, summed, and one block.

    Args:
        shapes: Of the tensors it reads, [N, C, H, W] each.
        width: Channels of what it gives, on the smallest of the maps read.
    """

    def __init__(self, shapes: Sequence[Shape], width: int) -> None:
        super().__init__()
        self.grid = min((shape[2:] for shape in shapes), key=lambda size: size[0] * size[1])
        strides = [max(1, round(shape[2] / self.grid[0])) for shape in shapes]
        self.enter = nn.ModuleList(
            nn.Sequential(*_conv(shape[1], width, 3 if stride > 1 else 1, stride))
            for shape, stride in zip(shapes, strides, strict=True)
        )
        # Strides fit where sides halve, rounded up.
        self.fits = [
            tuple(-(-side // stride) for side in shape[2:]) == self.grid
            for shape, stride in zip(shapes, strides, strict=True)
        ]
        self.block = nn.Sequential(*_conv(width, width, 3), nn.ReLU(), *_conv(width, width, 3))

    def forward(self, *tensors: Tensor) -> Tensor:
        """The new state, [N, width, *grid]."""
        read = [enter(tensor) for enter, tensor in zip(self.enter, tensors, strict=True)]
        fitted = [
            one if fits else functional.interpolate(one, self.grid)
            for one, fits in zip(read, self.fits, strict=True)
        ]
        side = functional.relu(sum(fitted))
        return functional.relu(side + self.block(side))


class VectorStep(nn.Module):  # type: ignore[misc]
    """One step of the side network where tokens or vectors, not only maps, are read."""

    def __init__(self, shapes: Sequence[Shape], width: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(
            nn.Linear(sum(map(channels, shapes)), width), nn.BatchNorm1d(width), nn.ReLU()
        )

    def forward(self, *tensors: Tensor) -> Tensor:
        """The new state, [N, width]."""
        return self.mix(torch.cat([pooled(tensor) for tensor in tensors], 1))


def side_step(shapes: Sequence[Shape], width: int) -> tuple[nn.Module, Shape]:
    """A step that fits the tensors, and the shape of the state it gives."""
    if all(len(shape) == 4 for shape in shapes):
        step = MapStep(shapes, width)
        return step, (1, width, *step.grid)
    return VectorStep(shapes, width), (1, width)


def _conv(given: int, width: int, kernel: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    conv = nn.Conv2d(given, width, kernel, stride, padding=kernel // 2, bias=False)
    return conv, nn.BatchNorm2d(width)
