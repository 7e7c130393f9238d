"""Random changes of training images that leave the right answer as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from anytime_dnn_ros.errors import ConfigurationError


@dataclass(frozen=True)
class Augmentation:
    """Mirrors, shifts and covers images, each at random by itself.

    Attributes:
        flip: Mirror left to right, every second image.
        pad: Shift by up to so many pixels each way, as a crop from the image padded with its own
            reflection (He et al., CVPR 2016, section 4.2, pad with zeros).
        cutout: Side in pixels of a square, centred anywhere and clipped at the border, that is
            filled with the batch's mean colour (DeVries and Taylor, arXiv 1708.04552); 0 = none.

    Raises:
        ConfigurationError: A negative number.
    """

    flip: bool = False
    pad: int = 0
    cutout: int = 0

    def __post_init__(self) -> None:
        if min(self.pad, self.cutout) < 0:
            raise ConfigurationError(
                f'pad {self.pad} and cutout {self.cutout} are pixels: give 0 or more'
            )

    def __call__(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Changes a batch.

        Args:
            pixels: uint8 [N, H, W, C]; left as it is.
            generator: All chance comes from it, drawn alike for any content: its state is all
                that an exact resume needs.

        Returns:
            uint8 [N, H, W, C].

        Raises:
            ConfigurationError: The image is too small for the padding.
        """
        count, height, width, channels = pixels.shape
        device = pixels.device
        if self.pad >= min(height, width):
            raise ConfigurationError(
                f'images of {height}x{width} have no {self.pad} pixels to reflect; give a pad '
                f'below {min(height, width)}'
            )

        def draw(below: int) -> Tensor:
            drawn = torch.randint(
                below, (count, 1), generator=generator, device=generator.device, dtype=torch.int32
            )
            return drawn.to(device)

        def source(length: int) -> Tensor:
            """Which row or column each one of the result comes from, [N, length]."""
            positions = torch.arange(length, device=device, dtype=torch.int32).expand(count, -1)
            if not self.pad:
                return positions
            shifted = (positions + (draw(2 * self.pad + 1) - self.pad)).abs()
            return (length - 1) - ((length - 1) - shifted).abs()

        def covered(length: int) -> Tensor:
            """Which rows or columns the square covers, bool [N, length]."""
            first = draw(length) - self.cutout // 2
            positions = torch.arange(length, device=device, dtype=torch.int32)
            return (positions >= first) & (positions < first + self.cutout)

        rows, columns = source(height), source(width)
        if self.flip:
            columns = torch.where(draw(2) == 1, columns.flip(1), columns)
        # One look-up of whole pixels does all three: its table is the batch and the mean colour.
        images = torch.arange(count, device=device, dtype=torch.int32)[:, None]
        index = (images * height + rows)[:, :, None] * width + columns[:, None, :]
        table = pixels.reshape(-1, channels)
        if self.cutout:
            square = covered(height)[:, :, None] & covered(width)[:, None, :]
            index = index.masked_fill_(square, len(table))
            mean = table.float().mean(0, keepdim=True).round()
            table = torch.cat([table, mean.to(torch.uint8)])
        return table.index_select(0, index.flatten()).view(pixels.shape)
