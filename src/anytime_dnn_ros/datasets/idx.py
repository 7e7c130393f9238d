"""The IDX files of MNIST and Fashion-MNIST.

Format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits", 1998; the classes of
Fashion-MNIST: Xiao, Rasul, Vollgraf, arXiv 1708.07747, 2017.
"""

from __future__ import annotations

import gzip
import math
import os
import zlib
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.datasets.images import (
    Dataset,
    DatasetError,
    Images,
    PartName,
    check_labels,
    check_memory,
    image_spec,
)
from anytime_dnn_ros.datasets.split import stratified_choice, training_split
from anytime_dnn_ros.ladder.frame_fit import fit_frame

FASHION_MNIST = 'fashion-mnist'
DATA_VARIABLE = 'ANYTIME_DNN_DATA'
DEBIAN_FOLDER = Path('/usr/share/datasets', FASHION_MNIST)
FASHION_CLASSES: tuple[str, ...] = (
    *('T-shirt/top', 'Trouser', 'Pullover', 'Dress', 'Coat'),
    *('Sandal', 'Shirt', 'Sneaker', 'Bag', 'Ankle boot'),
)
DIGITS: tuple[str, ...] = tuple('0123456789')
# CRC-32 of the 60,000 training labels: tells Fashion-MNIST in a folder of any name.
FASHION_LABELS_CRC = 0x2ED6E46A
# Magic numbers: unsigned bytes, 3 dimensions or 1.
IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801


def find_fashion_mnist() -> Path:
    """The folder of Fashion-MNIST's IDX files, from the usual places.

    Raises:
        DatasetError: It is in none of them.
    """
    places = [DEBIAN_FOLDER, Path.home() / '.cache' / FASHION_MNIST]
    if os.environ.get(DATA_VARIABLE):
        places.insert(0, Path(os.environ[DATA_VARIABLE], FASHION_MNIST))
    for place in places:
        if is_idx_folder(place):
            return place
    raise DatasetError(
        f'no {FASHION_MNIST} in {", ".join(map(str, places))}; on Debian and Ubuntu: apt install '
        f'dataset-fashion-mnist; else set {DATA_VARIABLE} to the folder that holds '
        f'{FASHION_MNIST}/ with its four IDX files'
    )


def is_idx_folder(path: Path) -> bool:
    """Whether there are IDX training images or labels in that folder."""
    return path.is_dir() and any(
        _find(path, f'train-{kind}') is not None for kind in ('images-idx3', 'labels-idx1')
    )


def read(
    path: Path,
    *,
    size: int | None,
    limit: int,
    validation_share: float,
    seed: int,
    parts: Collection[PartName],
) -> Dataset:
    """Reads a folder of IDX files; see `read_dataset`."""
    pixels, labels = _read_part(path, 'train')
    fashion = 'fashion' in ''.join(path.resolve().parts[-2:]).lower()
    fashion = fashion or zlib.crc32(labels.astype(np.uint8).tobytes()) == FASHION_LABELS_CRC
    name = FASHION_MNIST if fashion else path.resolve().name
    class_names = FASHION_CLASSES if fashion else DIGITS

    def images(part: PartName, positions: NDArray[np.intp]) -> Images:
        positions = positions if part in parts else positions[:0]
        chosen = _fitted(pixels[positions], size, f'{name}/{part}')
        return Images(chosen, labels[positions], class_names, f'{name}/{part}')

    _check_classes(labels, class_names, f'{path} (training)')
    train, validation = training_split(
        labels, limit=limit, validation_share=validation_share, seed=seed
    )
    learnt = images('train', train), images('validation', validation)
    if _find(path, 't10k-images-idx3') is None and _find(path, 't10k-labels-idx1') is None:
        return Dataset(*learnt, test=None)
    if 'test' not in parts:
        return Dataset(*learnt, test=images('test', train[:0]))
    shape = pixels.shape[1:]
    pixels, labels = _read_part(path, 't10k')
    _check_classes(labels, class_names, f'{path} (test)')
    if size is None and pixels.shape[1:] != shape:
        raise DatasetError(
            f'{path}: test images are {pixels.shape[1:3]}, training images {shape[:2]} pixels; '
            'give a size to fit both into'
        )
    return Dataset(*learnt, test=images('test', stratified_choice(labels, limit)))


def _find(folder: Path, stem: str) -> Path | None:
    """`train-images-idx3-ubyte` or `train-images.idx3-ubyte`, raw or .gz; None if neither is."""
    kind, dimensions = stem.rsplit('-', 1)
    for separator in '-.':
        for ending in ('', '.gz'):
            path = folder / f'{kind}{separator}{dimensions}-ubyte{ending}'
            if path.is_file():
                return path
    return None


def _read_part(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Pixels [N, H, W, 1] and labels [N] of `train` or `t10k`."""
    pixels = _read_file(folder, f'{part}-images-idx3', IMAGES_MAGIC)
    labels = _read_file(folder, f'{part}-labels-idx1', LABELS_MAGIC).astype(np.int64)
    if len(pixels) != len(labels):
        raise DatasetError(
            f'{folder}: {part} has {len(pixels)} images and {len(labels)} labels; take both '
            'files from the same data set'
        )
    return pixels[..., None], labels


def _read_file(folder: Path, stem: str, magic: int) -> NDArray[np.uint8]:
    path = _find(folder, stem)
    if path is None:
        raise DatasetError(f'{folder} lacks {stem}-ubyte or {stem}-ubyte.gz; add that file')
    mend = 'get the file again'
    try:
        with gzip.open(path) if path.suffix == '.gz' else path.open('rb') as file:
            dimensions = 3 if magic == IMAGES_MAGIC else 1
            header = file.read(4 + 4 * dimensions)
            numbers = np.frombuffer(header[: len(header) // 4 * 4], '>u4').tolist()
            if numbers[:1] != [magic]:
                raise DatasetError(
                    f'{path} is no IDX file of magic number {magic:08x} (it begins with '
                    f'{header[:4].hex() or "nothing"}); {mend}'
                )
            shape = numbers[1:]
            if len(shape) != dimensions or 0 in shape:
                raise DatasetError(
                    f'{path}: its header gives the sizes {shape}, not {dimensions} above 0; {mend}'
                )
            check_memory(shape, f'{path}')
            length = math.prod(shape)
            content = file.read(length + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DatasetError(f'{path} cannot be read ({error}); {mend}') from error
    if len(content) != length:
        has = 'more' if len(content) > length else f'only {len(content)}'
        raise DatasetError(f'{path}: its header promises {length} bytes, it has {has}; {mend}')
    pixels: NDArray[np.uint8] = np.frombuffer(content, np.uint8).reshape(shape)
    return pixels


def _check_classes(labels: NDArray[np.int64], class_names: tuple[str, ...], where: str) -> None:
    check_labels(labels, len(class_names), where)
    counts = np.bincount(labels, minlength=len(class_names))
    missing = [name for name, count in zip(class_names, counts, strict=True) if not count]
    if missing:
        raise DatasetError(
            f'{where}: no image of class {", ".join(missing)}; give every class an image'
        )


def _fitted(pixels: NDArray[np.uint8], size: int | None, where: str) -> NDArray[np.uint8]:
    if size is None or pixels.shape[1:3] == (size, size):
        return pixels
    check_memory((len(pixels), size, size, 1), where)
    result = np.empty((len(pixels), size, size, 1), np.uint8)
    spec = image_spec(1)
    for image, buffer in zip(pixels[..., 0], result, strict=True):
        fit_frame(image, 'gray', buffer, spec)
    return result
