"""Nested nets: every stage adds channels, and the later ones layers, beside those already run.

Source: Wan, Hoffmann, Lu and Maire, "Orthogonalized SGD and nested architectures for anytime
neural networks", ICML 2020. A slice of new channels reads the activations of its own and of all
earlier slices, and no earlier slice reads it: weights are block lower triangular, so nothing is
computed twice. Depth is interlaced: later slices have a layer more between two layers of the
earlier ones, and read past the gap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from anytime_dnn_ros.forge.networks.layers import channels, global_mean
from anytime_dnn_ros.forge.networks.nested_slices import FreeShortcut
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

if TYPE_CHECKING:
    from anytime_dnn_ros.forge.networks import NetworkSpec

NUM_STAGES = 4
# Channels of all slices together at width 1, per resolution, and the blocks of the deep slices.
CHANNELS = (24, 48, 96)
BLOCKS = (1, 2, 2)
# All slices so far have so many times the channels that they had without the newest.
GROWTH = 1.5
# Resolution and place in it of every layer; the stem is before them all.
LAYERS = tuple((i, j) for i, num_blocks in enumerate(BLOCKS) for j in range(num_blocks))


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
    )


class _Block(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A residual block of one slice.

    Its first convolution reads the earlier slices as well; the second only its own channels, so
    that nothing within a block has to be kept for later slices.
    """

    def __init__(self, own: int, earlier: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _conv(earlier + own, outputs, stride)
        self.second = _conv(outputs, outputs)
        self.shortcut = FreeShortcut(own, outputs, stride)

    def forward(self, own: Tensor, earlier: list[Tensor]) -> Tensor:
        branch = self.second(functional.relu(self.first(torch.cat([*earlier, own], 1))))
        return functional.relu(branch + self.shortcut(own))


class _Plan:
    """Which slice has which layers, how wide, and which tensors pass from slice to slice."""

    def __init__(self, num_slices: int, width: float) -> None:
        self.num_slices = num_slices
        so_far = [GROWTH ** (k + 1 - num_slices) for k in range(num_slices)]
        new = [share - before for share, before in zip(so_far, [0, *so_far[:-1]], strict=True)]
        self.channels = [  # [slice][resolution]
            [channels(width * count * share) for count in CHANNELS] for share in new
        ]

    def layers(self, k: int) -> list[int]:
        """Places of the layers of slice k: the first half of the slices skips every second."""
        step = 2 if k < self.num_slices // 2 else 1
        return [place for place, (_, j) in enumerate(LAYERS) if j % step == 0]

    def newest(self, k: int, place: int) -> str:
        """Name of what slice k has given before the layer at `place`."""
        before = [p for p in self.layers(k) if p < place]
        return f'slice{k + 1}_layer{before[-1] + 1 if before else 0}'

    def reads(self, k: int) -> list[str]:
        """What slice k reads: the image, activations and pooled features of earlier slices."""
        names = [self.newest(j, place) for place in self.layers(k) for j in range(k)]
        pooled = [f'pooled{k}'] if k else []
        return [IMAGE, *dict.fromkeys(names), *pooled]

    def writes(self, k: int) -> list[str]:
        """What later slices read of slice k, and the pooled features of all slices so far."""
        later = {name for j in range(k + 1, self.num_slices) for name in self.reads(j)}
        own = sorted(name for name in later if name.startswith(f'slice{k + 1}_'))
        return [*own, f'pooled{k + 1}']


class _Slice(nn.Module):  # type: ignore[misc]
    def __init__(self, plan: _Plan, k: int, image_channels: int) -> None:
        super().__init__()
        self.plan, self.k = plan, k
        self.reads, self.writes = plan.reads(k), plan.writes(k)
        self.stem = _conv(image_channels, plan.channels[k][0])
        self.blocks = nn.ModuleDict()
        for place in plan.layers(k):
            resolution, j = LAYERS[place]
            stride = 2 if resolution and not j else 1
            *earlier, own = (c[resolution - (stride > 1)] for c in plan.channels[: k + 1])
            self.blocks[str(place)] = _Block(
                own, sum(earlier), plan.channels[k][resolution], stride
            )

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        k, newest = self.k, self.plan.newest
        known = dict(zip(self.reads, inputs, strict=True))
        own = known[newest(k, 0)] = functional.relu(self.stem(known[IMAGE]))
        for place in self.plan.layers(k):
            earlier = [known[newest(j, place)] for j in range(k)]
            own = self.blocks[str(place)](own, earlier)
            known[newest(k, place + 1)] = own
        pooled = global_mean(own)
        known[f'pooled{k + 1}'] = torch.cat([known[f'pooled{k}'], pooled], 1) if k else pooled
        return tuple(known[name] for name in self.writes)


class _Head(nn.Linear):  # type: ignore[misc]
    """Reads the pooled features, the last of what a slice writes."""

    def forward(self, *features: Tensor) -> Tensor:
        return super().forward(features[-1])


def build(spec: NetworkSpec) -> StagedNet:
    """Builds the net; stage k runs slice k alone."""
    num_slices = spec.stages or NUM_STAGES
    plan = _Plan(num_slices, spec.width)
    stages = []
    for k in range(num_slices):
        body = _Slice(plan, k, spec.image_shape[0])
        features = sum(widths[-1] for widths in plan.channels[: k + 1])
        head = _Head(features, spec.num_classes)
        stages.append(Stage(body, head, body.reads, body.writes))
    return StagedNet(stages)
