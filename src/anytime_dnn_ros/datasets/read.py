"""Reads labelled images of any format that the package knows."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from anytime_dnn_ros.datasets import idx, image_tree
from anytime_dnn_ros.datasets.images import PARTS, Dataset, DatasetError, PartName

# What a training holds out unless it is told another share.
VALIDATION_SHARE = 0.1


def read_dataset(
    path: Path,
    *,
    size: int | None = None,
    limit: int = 0,
    validation_share: float = VALIDATION_SHARE,
    seed: int = 0,
    parts: Collection[PartName] = PARTS,
) -> Dataset:
    """Reads training images, holds a part out for validation, and reads the test images.

    The formats: a folder or ZIP file with `train/<class>/...` and `test/<class>/...` images
    (read as RGB; other files are passed over), or a folder with the IDX files of MNIST or
    Fashion-MNIST, raw or gzipped.

    Args:
        path: The folder or ZIP file, or the word `fashion-mnist` for one found in the usual
            places.
        size: Height and width to fit every image into, pixels, as `image_spec` says; None =
            they are all of one size, and stay so.
        limit: At most so many images in training and validation together, and at most so many
            test images, classes in proportion; 0 = all.
        validation_share: Share of the training images held out, the same for each class.
        seed: Which images are held out and which a limit leaves; the test images that a limit
            leaves are always the same.
        parts: The pixels of others are not looked at.

    Raises:
        DatasetError: Nothing of these formats is there, or an image, label or class is wrong.
    """
    if size is not None and size < 1:
        raise DatasetError(f'size {size} is no image size; give pixels, 1 or more')
    folder = path
    if str(path) == idx.FASHION_MNIST and not path.exists():
        folder = idx.find_fashion_mnist()
    if not folder.exists():
        raise DatasetError(
            f'{path} does not exist; give a folder or ZIP file with train/<class>/<image>, a '
            f'folder with IDX files, or the word {idx.FASHION_MNIST}'
        )
    read = idx.read if idx.is_idx_folder(folder) else image_tree.read
    return read(
        folder,
        size=size,
        limit=limit,
        validation_share=validation_share,
        seed=seed,
        parts=parts,
    )
