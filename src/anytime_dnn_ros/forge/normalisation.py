"""Pixels on the scale that a network learns on: zero mean, unit deviation per channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from anytime_dnn_ros.datasets import DatasetError, Images

# Below half a grey level a channel is constant; dividing by it would only blow up noise.
LEAST_DEVIATION = 0.5


@dataclass(frozen=True)
class Normalisation:
    """(pixel - mean) / std, per channel.

    Attributes:
        mean: One per channel, in pixel units 0..255.
        std: Likewise, > 0.
        size: Enlarge a batch to this height and width, as OpenCV's `linear` does; None = as is.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int | None = None

    @classmethod
    def of(cls, images: Images) -> Normalisation:
        """Mean and standard deviation of all pixels of a set.

        Raises:
            DatasetError: A channel is constant, or there is no image.
        """
        channels = images.pixels.shape[3]
        levels = np.arange(256)
        means, deviations = [], []
        for channel in range(channels):
            # A histogram is exact and needs no float copy of the images.
            counts = np.bincount(images.pixels[..., channel].ravel(), minlength=256)
            mean = float(counts @ levels) / max(1, int(counts.sum()))
            means.append(mean)
            deviations.append(float(counts @ (levels - mean) ** 2 / max(1, counts.sum())) ** 0.5)
        if min(deviations) < LEAST_DEVIATION:
            raise DatasetError(
                f'{images.name}: a colour channel of the {len(images)} images is constant '
                f'(standard deviations {deviations}); give images that show something'
            )
        return cls(tuple(means), tuple(deviations))

    def apply(self, pixels: Tensor) -> Tensor:
        """Normalises a batch.

        Args:
            pixels: uint8 [N, H, W, C].

        Returns:
            float32 [N, C, H, W] or [N, C, size, size], in memory channels_last.
        """
        count, height, width, channels = pixels.shape
        scale = torch.tensor([1 / s for s in self.std], device=pixels.device)
        shift = torch.tensor(self.mean, device=pixels.device) * -scale
        # Whole rows at once: over a last dimension of 3 the same sum takes five times as long.
        rows = pixels.reshape(count, height, width * channels).float()
        rows = torch.addcmul(shift.repeat(width), rows, scale.repeat(width))
        images = rows.view(count, height, width, channels).permute(0, 3, 1, 2)
        if self.size is None:
            return images
        return functional.interpolate(images, (self.size, self.size), mode='bilinear')
