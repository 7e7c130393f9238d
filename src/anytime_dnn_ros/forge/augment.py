"""Random changes of training images that leave the right answer as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Augmentation:
    """Mirrors, shifts and covers images, each image at random by itself.

    Attributes:
        flip: Mirror left to right, every second image.
        pad: Shift by up to so many pixels in each direction: pad with zeros and crop back
            (He et al., CVPR 2016, section 4.2).
        cutout: Side in pixels of a square, centred anywhere and clipped at the border, that is
            filled with the batch's mean colour (DeVries and Taylor, arXiv 1708.04552); 0 = none.
    """

    flip: bool
    pad: int
    cutout: int

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Changes a batch.

        Args:
            pixels: uint8 [N, H, W, C]; left as it is.
            generator: All chance comes from it, and the same of it for any content: its state
                is all that an exact resume needs.

        Returns:
            uint8 [N, H, W, C].
        """
        count, height, width, channels = pixels.shape

        def draw(below: int) -> Tensor:
            device = generator.device
            drawn = torch.randint(below, (count, 1), generator=generator, device=device)
            return drawn.to(pixels.device)

        fill = pixels.float().mean((0, 1, 2)).round().to(torch.uint8) if self.cutout else None
        rows = torch.arange(height, device=pixels.device).expand(count, height)
        columns = torch.arange(width, device=pixels.device).expand(count, width)
        if self.flip:
            columns = torch.where(draw(2) == 1, width - 1 - columns, columns)
        if self.pad:
            pixels = functional.pad(pixels, (0, 0, self.pad, self.pad, self.pad, self.pad))
            rows = rows + draw(2 * self.pad + 1)
            columns = columns + draw(2 * self.pad + 1)
        if self.flip or self.pad:
            # One gather of whole pixels serves both.
            stride = pixels.shape[2]
            index = (rows[:, :, None] * stride + columns[:, None, :]).reshape(count, -1, 1)
            flat = pixels.reshape(count, -1, channels)
            pixels = flat.gather(1, index.expand(-1, -1, channels))
            pixels = pixels.reshape(count, height, width, channels)
        if fill is not None:
            top, left = draw(height) - self.cutout // 2, draw(width) - self.cutout // 2
            y = torch.arange(height, device=pixels.device)
            x = torch.arange(width, device=pixels.device)
            covered_rows = (y >= top) & (y < top + self.cutout)
            covered_columns = (x >= left) & (x < left + self.cutout)
            covered = covered_rows[:, :, None] & covered_columns[:, None, :]
            pixels = torch.where(covered[..., None], fill, pixels)
        return pixels
