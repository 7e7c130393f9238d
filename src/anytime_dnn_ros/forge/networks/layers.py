"""Pieces that several networks are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

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


def global_mean(maps: Tensor) -> Tensor:
    """Mean over the image, from [batch, channels, H, W] to [batch, channels].

    Not `adaptive_avg_pool2d` nor `mean`: the gradient of those comes in another memory layout than
    the images', which slows the layer behind it; a training step took 6 to 11 % longer.
    """
    # Plain numbers: a traced size would leave a window in the exported file that has no shape.
    # A tuple, and a stride though it is the usual one: torch2trt reads both from the call.
    size = tuple(int(side) for side in maps.shape[2:])
    return functional.avg_pool2d(maps, size, size).flatten(1)


class GlobalPool(nn.Module):  # type: ignore[misc] # torch is not typed here
    """`global_mean` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, channels, H, W] to [batch, channels]."""
        return global_mean(x)
