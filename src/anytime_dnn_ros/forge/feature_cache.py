"""What a frozen trunk makes of the training images, computed once and kept on disk.

Training the exits then costs no pass through the trunk. Random changes of the images are lost
with it, so several views of each training image are kept: the image itself and changed ones.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.staged import IMAGE, StagedNet

BATCH = 250
# Of the disk's free space, for what else the machine writes meanwhile.
DISK_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class CachedViews:
    """Images as rows of a cache: what a trainer reads in place of pixels.

    Attributes:
        pixels: int64 [N]: row of each image's first view.
        labels: int64 [N].
    """

    pixels: NDArray[np.int64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class AnyView:
    """Chooses one of the views of each image; stands where a trainer augments pixels."""

    views: int

    def __call__(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """From rows of first views to rows of views drawn at random, int64 [N]."""
        drawn = torch.randint(self.views, rows.shape, generator=generator, device=generator.device)
        return rows + drawn.to(rows.device)


@dataclass(frozen=True, eq=False)
class FeatureCache:
    """Tensors of a frozen trunk for every view of every image.

    Attributes:
        tensors: float16 [rows, ...], each kept in a file; maps are NHWC.
        train: The rows of the training images.
        validation: The rows of the validation images, one view each.
        views: Of each training image.
    """

    tensors: tuple[Tensor, ...]
    train: CachedViews
    validation: CachedViews
    views: int

    def apply(self, rows: Tensor) -> tuple[Tensor, ...]:
        """What the trunk gave for these rows: float32 [N, ...], maps NCHW, channels_last."""
        found = [tensor[rows.cpu()].to(rows.device).float() for tensor in self.tensors]
        return tuple(t.permute(0, 3, 1, 2) if t.dim() == 4 else t for t in found)


@contextmanager
def cached_features(
    net: StagedNet,
    train: Images,
    validation: Images,
    *,
    normalisation: Normalisation,
    augment: Callable[[Tensor, torch.Generator], Tensor],
    views: int,
    seed: int = 0,
    autocast: Callable[[], AbstractContextManager[Any]] = torch.inference_mode,
    on_images: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[FeatureCache]:
    """Runs a frozen trunk over all images; the files are gone when the context ends.

    Args:
        net: Made by `make_anytime`, on the device to compute on.
        train: Images to learn from.
        validation: Images to score on; of each only the image itself is kept.
        normalisation: From pixels to what the trunk reads.
        augment: Makes the second and later views from pixels.
        views: Of each training image, at least 1.
        seed: Of the later views.
        autocast: Precision to compute in.
        on_images: Called with how many of all views are done.

    Raises:
        ConfigurationError: The disk has no room, or a feature is too large for float16.
        OSError: The disk refuses.
    """
    rows = len(train) * views + len(validation)
    net.eval()
    device = next(net.parameters()).device

    def features(pixels: Tensor) -> list[Tensor]:
        with torch.inference_mode(), autocast():
            given = trunk_features(net, normalisation.apply(pixels.to(device)))
        return [t.permute(0, 2, 3, 1) if t.dim() == 4 else t for t in given]

    shapes = [t.shape[1:] for t in features(torch.from_numpy(train.pixels[:1]))]
    with tempfile.TemporaryDirectory(prefix='anytime-dnn-features-') as folder:
        _check_room(Path(folder), 2 * rows * sum(shape.numel() for shape in shapes))
        tensors = tuple(
            _tensor_on_disk(Path(folder) / str(i), (rows, *shape))
            for i, shape in enumerate(shapes)
        )
        done = 0
        for images, count, first in (
            (train, views, 0),
            (validation, 1, len(train) * views),
        ):
            for view in range(count):
                chance = torch.Generator().manual_seed(seed + view)
                for start in range(0, len(images), BATCH):
                    pixels = torch.from_numpy(images.pixels[start : start + BATCH])
                    pixels = augment(pixels, chance) if view else pixels
                    at = slice(
                        first + start * count + view,
                        first + (start + len(pixels)) * count,
                        count,
                    )
                    for tensor, given in zip(tensors, features(pixels), strict=True):
                        tensor[at] = given.half().cpu()
                        if not torch.isfinite(tensor[at]).all():
                            raise ConfigurationError(
                                'a feature of the frozen trunk is beyond 65504, the largest '
                                'float16; cut elsewhere, or train the trunk with the exits'
                            )
                    done += len(pixels)
                    on_images(done, rows)
        yield FeatureCache(
            tensors,
            CachedViews(np.arange(len(train), dtype=np.int64) * views, train.labels),
            CachedViews(np.arange(len(train) * views, rows, dtype=np.int64), validation.labels),
            views,
        )


def trunk_features(net: StagedNet, image: Tensor) -> tuple[Tensor, ...]:
    """What each piece of trunk gives, without side network and heads, all in order."""
    tensors = {IMAGE: image}
    for stage in net.stages:
        body = stage.body
        given = body.piece(*(tensors[name] for name in stage.reads[: body.piece_reads]))
        # A side network's state is written last, and is not the trunk's.
        tensors |= zip(stage.writes[: len(given)], given, strict=True)
    del tensors[IMAGE]
    return tuple(tensors.values())


def _tensor_on_disk(file: Path, shape: tuple[int, ...]) -> Tensor:
    array = np.memmap(file, np.float16, 'w+', shape=shape)
    # The file has holes yet: the process would be killed where somebody else fills the disk.
    with file.open('r+b') as opened:
        os.posix_fallocate(opened.fileno(), 0, array.nbytes)
    return torch.from_numpy(array)


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > DISK_SHARE * free:
        raise ConfigurationError(
            f'the features of the frozen trunk take {needed / 1e9:.1f} GB, and {folder.parent} '
            f'has {free / 1e9:.1f} GB free; set TMPDIR to a folder with room, or ask for fewer '
            'views, smaller images, or later cuts'
        )
