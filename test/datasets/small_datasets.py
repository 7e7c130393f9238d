"""Small data sets on disk, each class of its own colour so that a test sees mixed-up labels."""

import gzip
import struct
import zipfile
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('cat', 'dog', 'newt')
COLOURS = {'cat': (250, 10, 30), 'dog': (20, 240, 60), 'newt': (40, 90, 230)}


def image_file(name: str, size: tuple[int, int] = (8, 8), suffix: str = '.png') -> bytes:
    """An image of the class's colour; its corner pixel is black, so that flips show."""
    pixels = np.full((*size, 3), COLOURS[name][::-1], np.uint8)
    pixels[0, 0] = 0
    return cv2.imencode(suffix, pixels)[1].tobytes()


def tree(train: int = 10, test: int = 4, **options) -> dict[str, bytes]:
    """Files of a data set: path below the root and content."""
    return {
        f'{part}/{name}/{number:03}.png': image_file(name, **options)
        for part, count in (('train', train), ('test', test))
        for name in CLASSES
        for number in range(count)
    }


def write_folder(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def write_zip(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, 'w', compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def idx_images(pixels: np.ndarray) -> bytes:
    return struct.pack('>4I', 0x803, *pixels.shape) + pixels.tobytes()


def idx_labels(labels: np.ndarray) -> bytes:
    return struct.pack('>2I', 0x801, len(labels)) + labels.astype(np.uint8).tobytes()


def idx(train: int = 40, test: int = 20) -> dict[str, bytes]:
    """Files of an MNIST: the pixels of an image are ten times its label, plus noise below 10."""
    random = np.random.default_rng(0)
    files = {}
    for part, count in (('train', train), ('t10k', test)):
        labels = random.permutation(np.arange(count) % 10)
        noise = random.integers(0, 10, (count, 6, 6))
        pixels = (labels[:, None, None] * 10 + noise).astype(np.uint8)
        files[f'{part}-images-idx3-ubyte.gz'] = gzip.compress(idx_images(pixels))
        files[f'{part}-labels-idx1-ubyte.gz'] = gzip.compress(idx_labels(labels))
    return files
