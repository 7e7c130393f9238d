"""MSDNet: coarse features from the first layer on, and every layer sees all before it.

Huang et al., "Multi-scale dense networks for resource efficient image classification", ICLR 2018.
A layer adds channels at every scale: half by a strided convolution from the next finer scale
(diagonal), half by a convolution at the scale itself (horizontal), both behind a 1x1 bottleneck.
An exit looks at the coarsest scale. Steps between exits grow linearly, so the first is early.

What no later exit needs is not computed: after a third of the layers the finest scale goes, after
two thirds the next (the paper's network reduction, each time with a 1x1 transition that halves
the channels), and the last layers make only the scales from which the last exit can be reached
(its lazy evaluation).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor, nn

from anytime_dnn_ros.forge.networks import NetworkSpec
from anytime_dnn_ros.forge.networks.layers import GlobalPool, channels, conv_bn_relu
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet

STAGES = 5
# Per scale, finest first, each of half the height and width of the one before: factors of the
# channels and of the bottleneck. The paper's for 32x32.
SCALE_FACTORS = BOTTLENECK_FACTORS = (1, 2, 4)
SCALES = len(SCALE_FACTORS)
# What a transition leaves of the channels. The paper's.
REDUCTION = 0.5
# At width 1; the paper's nets, several times as costly, have 16, 6 and 128.
STEM_CHANNELS, GROWTH, HEAD_CHANNELS = 12, 4, 64
# Growth counts at every layer: in fours it would leap over half of the costs one may ask for.
GROWTH_STEP = 2
# Layers before the first exit, and how many more each next exit lies behind.
FIRST_STEP, STEP_GROWTH = 1, 1


def _bottleneck(given: int, out: int, scale: int, stride: int = 1) -> nn.Sequential:
    inner = min(given, BOTTLENECK_FACTORS[scale] * out)
    return nn.Sequential(
        *conv_bn_relu(given, inner, kernel=1), *conv_bn_relu(inner, out, stride=stride)
    )


class _Stem(nn.ModuleList):  # type: ignore[misc]
    """From the image to every scale, each from the one before."""

    def forward(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        scales = list(tensors)
        for conv in self:
            scales.append(conv(scales[-1]))
        return scales[1:]


class _Growth(nn.Module):  # type: ignore[misc]
    """What one layer adds at one scale.

    Args:
        finer: Channels of the next finer scale; 0 where there is none.
        given: Channels of this scale.
        scale: Its number.
        growth: Channels to add, about.
    """

    def __init__(self, finer: int, given: int, scale: int, growth: float) -> None:
        super().__init__()
        out = channels(growth / 2 if finer else growth, GROWTH_STEP)
        self.horizontal = _bottleneck(given, out, scale)
        self.diagonal = _bottleneck(finer, out, scale - 1, stride=2) if finer else None
        self.channels = given + (2 * out if finer else out)

    def forward(self, finer: Tensor, same: Tensor) -> Tensor:
        grown = [same, self.horizontal(same)]
        if self.diagonal is not None:
            grown.append(self.diagonal(finer))
        return torch.cat(grown, dim=1)


class _Layer(nn.ModuleList):  # type: ignore[misc]
    """A `_Growth` for each of the coarsest scales; finer ones are only read."""

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        first = len(scales) - len(self)
        return [growth(scales[i - 1], scales[i]) for i, growth in enumerate(self, first)]


class _Transition(nn.ModuleList):  # type: ignore[misc]
    """A 1x1 convolution for each scale."""

    def forward(self, scales: Sequence[Tensor]) -> list[Tensor]:
        return [conv(tensor) for conv, tensor in zip(self, scales, strict=True)]


class _Body(nn.Sequential):  # type: ignore[misc]
    def forward(self, *scales: Tensor) -> tuple[Tensor, ...]:
        return tuple(super().forward(scales))


class _Exit(nn.Sequential):  # type: ignore[misc]
    """The classifier on the coarsest scale."""

    def __init__(self, given: int, inner: int, num_classes: int) -> None:
        super().__init__(
            conv_bn_relu(given, inner, stride=2),
            conv_bn_relu(inner, inner, stride=2),
            GlobalPool(),
            nn.Linear(inner, num_classes),
        )

    def forward(self, *scales: Tensor) -> Tensor:
        return super().forward(scales[-1])


def _stem(image_channels: int, live: Sequence[int]) -> _Stem:
    given = (image_channels, *live[:-1])
    return _Stem(
        conv_bn_relu(a, b, stride=2 if i else 1)
        for i, (a, b) in enumerate(zip(given, live, strict=True))
    )


def _layer(
    index: int, num_layers: int, live: Sequence[int], width: float
) -> tuple[list[nn.Module], list[int]]:
    """A layer, with its transition where it has one.

    Args:
        index: From 0.
        num_layers: Of the whole network.
        live: Channels of the scales it is given, coarsest last.
        width: Of the whole network.

    Returns:
        The modules, and the channels of the scales they leave.
    """
    span = ceil(num_layers / SCALES)
    num_live = min(SCALES - index // span, num_layers - index)
    layer = _Layer()
    for position in range(len(live) - num_live, len(live)):
        scale = SCALES - len(live) + position
        layer.append(
            _Growth(
                finer=live[position - 1] if position else 0,
                given=live[position],
                scale=scale,
                growth=GROWTH * width * SCALE_FACTORS[scale],
            )
        )
    grown = [growth.channels for growth in layer]
    if index == 0 or index % span:
        return [layer], grown
    halved = [channels(REDUCTION * given) for given in grown]
    transition = _Transition(
        conv_bn_relu(a, b, kernel=1) for a, b in zip(grown, halved, strict=True)
    )
    return [layer, transition], halved


def build(spec: NetworkSpec) -> StagedNet:
    """MSDNet with an exit after 1, 3, 6, 10, 15, … layers."""
    steps = [FIRST_STEP + STEP_GROWTH * i for i in range(spec.stages or STAGES)]
    live = [channels(STEM_CHANNELS * spec.width * factor) for factor in SCALE_FACTORS]
    modules: list[nn.Module] = [_stem(spec.image_shape[0], live)]
    reads: tuple[str, ...] = (IMAGE,)
    stages = []
    for i, step in enumerate(steps):
        for index in range(sum(steps[:i]), sum(steps[:i]) + step):
            added, live = _layer(index, sum(steps), live, spec.width)
            modules += added
        head = _Exit(live[-1], channels(HEAD_CHANNELS * spec.width), spec.num_classes)
        writes = tuple(f'block{i + 1}_scale{SCALES - len(live) + j + 1}' for j in range(len(live)))
        stages.append(Stage(_Body(*modules), head, reads, writes))
        modules, reads = [], writes
    return StagedNet(stages)
