"""The labelled images that a bench shows, in the order of the bundle's classes."""

from __future__ import annotations

import argparse
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.datasets import Images, image_spec
from anytime_dnn_ros.datasets.idx import FASHION_MNIST
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.labelled import read_test
from anytime_dnn_ros.evaluate.stage_scores import bundle_labels
from anytime_dnn_ros.forge.photos import read_photos
from anytime_dnn_ros.ladder.bundle import Bundle

# The bundle that was trained on data which every Debian machine can have.
OWN_DATA = {'fashion': FASHION_MNIST}
# Short side of photos unless --size says otherwise, pixels.
PHOTO_SIZE = 320


def labelled_images(args: argparse.Namespace, bundle: Bundle) -> tuple[Images, NDArray[np.int64]]:
    """The images for a bundle, and the bundle's own class of each, int64 [images].

    Args:
        args: With `data` and `size`.
        bundle: A checked bundle.

    Raises:
        DatasetError: The data cannot be read.
        ConfigurationError: There are none for this bundle, or they have other classes.
    """
    data = args.data
    if data is None:
        if bundle.manifest.name not in OWN_DATA:
            raise ConfigurationError(
                f'the bundle {bundle.manifest.name!r} needs --data: a folder or ZIP with '
                "test/<class>/ of labelled images, its classes named like the bundle's "
                'labels.txt, or a ZIP of one photo per class, <id>_<class>.jpg'
            )
        data = Path(OWN_DATA[bundle.manifest.name])
    if _is_photo_zip(data):
        images = _photos(data, args.size or PHOTO_SIZE, bundle)
        return images, images.labels
    images = read_test(argparse.Namespace(data=data, size=args.size, limit=0))
    return images, bundle_labels(bundle, images.labels, images.class_names)


def _is_photo_zip(path: Path) -> bool:
    """Whether it is a ZIP without any folder."""
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return False
    with zipfile.ZipFile(path) as archive:
        return not any('/' in name for name in archive.namelist())


def _photos(path: Path, size: int, bundle: Bundle) -> Images:
    """Photo k shows class k: names may stand twice there, as those of two ImageNet classes do."""
    photos = read_photos(path, len(bundle.labels))
    if photos.labels != bundle.labels:
        first = next(
            i
            for i, pair in enumerate(zip(photos.labels, bundle.labels, strict=True))
            if pair[0] != pair[1]
        )
        raise ConfigurationError(
            f'--data {path}: photo {first} is of {photos.labels[first]!r}, class {first} of the '
            f'bundle is {bundle.labels[first]!r}; give the photos in the order of its labels.txt'
        )
    rgb = [photo[0] for photo in photos.fitted(size, image_spec(3))]
    return Images(np.stack(rgb), np.arange(len(rgb), dtype=np.int64), bundle.labels, photos.name)
