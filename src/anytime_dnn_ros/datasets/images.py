"""What a set of labelled images is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import psutil
from numpy.typing import NDArray

from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.ladder.manifest import ImageSpec

# All images stay in memory as bytes; training and the rest of the machine need the other half.
MEMORY_SHARE = 0.5
PartName = Literal['train', 'validation', 'test']
PARTS: tuple[PartName, ...] = ('train', 'validation', 'test')


class DatasetError(AnytimeError):
    """Labelled images are missing, damaged, contradictory or too many."""


@dataclass(frozen=True)
class Images:
    """Images of one size with their right answers.

    Attributes:
        pixels: uint8 [N, H, W, C], C = 3 (RGB) or 1 (gray).
        labels: int64 [N], index into `class_names`.
        class_names: Readable names in label order.
        name: Data set and part, e.g. `cifar10-jpeg/train`.

    Raises:
        DatasetError: The arrays do not fit together.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 4 or shape[3] not in {1, 3}:
            raise DatasetError(
                f'{self.name}: pixels are {dtype} {list(shape)}; give uint8 [N, H, W, 1 or 3]'
            )
        if self.labels.dtype != np.int64 or self.labels.shape != shape[:1]:
            raise DatasetError(
                f'{self.name}: {shape[0]} images, but labels are {self.labels.dtype} '
                f'{list(self.labels.shape)}; give one int64 label for each image'
            )
        check_labels(self.labels, len(self.class_names), self.name)

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, indices: NDArray[np.intp]) -> Images:
        """The images at `indices` (integers or a mask, [N]), in that order."""
        return replace(self, pixels=self.pixels[indices], labels=self.labels[indices])


@dataclass(frozen=True)
class Dataset:
    """Images to learn from, to choose by, and to count on; none in a part that was not asked for.

    Attributes:
        train: What weights are fitted on.
        validation: A part of the training data, disjoint from `train`: for every choice made
            while training and for calibration.
        test: For the last figure only; None where the data has no test part.
    """

    train: Images
    validation: Images
    test: Images | None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Readable names in label order."""
        return self.train.class_names

    def require_test(self) -> Images:
        """The test images.

        Raises:
            DatasetError: The data has no test part.
        """
        if self.test is None:
            raise DatasetError(
                f'{self.train.name}: the data has no test part; put labelled images that no '
                'training saw into test/<class>/ beside train/, or t10k-* beside the IDX files'
            )
        return self.test


def image_spec(channels: int) -> ImageSpec:
    """How `read_dataset` fits an image into another size: what a bundle's manifest must say too.

    Args:
        channels: 3 (RGB) or 1 (gray).
    """
    return ImageSpec('rgb' if channels == 3 else 'gray', 'center_crop', 'linear')


def check_labels(labels: NDArray[np.int64], num_classes: int, where: str) -> None:
    """Raises `DatasetError` if a label is no class."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if wrong.size:
        raise DatasetError(
            f'{where}: label {labels[wrong[0]]} of image {wrong[0]} is no class: there are '
            f'{num_classes}, counted from 0 ({wrong.size} such labels); mend the labels'
        )


def check_memory(shape: Sequence[int], where: str) -> None:
    """Raises `DatasetError` if a uint8 array exceeds the share of memory for images."""
    need = math.prod(shape)
    limit = int(psutil.virtual_memory().total * MEMORY_SHARE)
    if need > limit:
        raise DatasetError(
            f'{where}: an array of {"x".join(map(str, shape))} needs {need / 1e9:.1f} GB, and '
            f'this machine spares {limit / 1e9:.1f} GB ({MEMORY_SHARE:.0%} of its memory); '
            'read fewer images (limit) or smaller ones (size)'
        )
