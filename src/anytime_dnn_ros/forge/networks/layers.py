"""Pieces that several networks are made of."""

from __future__ import annotations

from torch import nn

# Convolutions on a CPU work through channels in groups of this many.
CHANNEL_STEP = 4


def channels(wanted: float, step: int = CHANNEL_STEP) -> int:
    """The number of channels nearest to `wanted` that a CPU convolves well; at least `step`."""
    return max(step, step * round(wanted / step))


def conv_bn_relu(given: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution without bias, BatchNorm, ReLU; an odd kernel keeps height and width at stride 1.

    Args:
        given: Channels in.
        out: Channels out.
        kernel: Side of the kernel.
        stride: In both directions.
    """
    conv = nn.Conv2d(given, out, kernel, stride, kernel // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, mode='fan_out', nonlinearity='relu')
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True))
