"""One photo per class, as a ZIP of `<id>_<class name>.jpg` sorted in class order."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.frame_fit import fit_frame
from anytime_dnn_ros.ladder.manifest import ImageSpec


@dataclass(frozen=True)
class Photos:
    """Photo k shows class k.

    Attributes:
        name: File name of the archive, without its folder.
        images: uint8 [H, W, 3] each, BGR as OpenCV decodes them.
        labels: Readable class names.
    """

    name: str
    images: tuple[NDArray[np.uint8], ...]
    labels: tuple[str, ...]

    def fitted(self, size: int, spec: ImageSpec) -> list[NDArray[np.uint8]]:
        """The photos as the node would give them to a stage: uint8 [1, size, size, 3] each."""
        buffers = [np.empty((1, size, size, 3), np.uint8) for _ in self.images]
        for image, buffer in zip(self.images, buffers, strict=True):
            fit_frame(image, 'bgr', buffer[0], spec)
        return buffers


def read_photos(path: Path, num_classes: int) -> Photos:
    """Reads and decodes the archive.

    Raises:
        ConfigurationError: No ZIP of decodable photos named `<id>_<class name>.jpg`, or not one
            for each class.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            files = {name: archive.read(name) for name in sorted(archive.namelist())}
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(
            f'--data {path} cannot be read ({error}); it must be a ZIP of one photo per class, '
            'named <id>_<class name>.jpg'
        ) from error
    if len(files) != num_classes:
        raise ConfigurationError(
            f'--data {path} holds {len(files)} files; it must hold one photo for each of the '
            f'{num_classes} classes'
        )
    images = []
    for name, content in files.items():
        # OpenCV throws on an empty buffer and returns None for any other that is no image.
        data = np.frombuffer(content, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if content else None
        if image is None or '_' not in name:
            raise ConfigurationError(
                f'--data {path}: {name!r} is no photo named <id>_<class name>.jpg'
            )
        images.append(image.astype(np.uint8, copy=False))
    stems = (PurePosixPath(name).stem for name in files)
    labels = tuple(stem.split('_', 1)[1].replace('_', ' ') for stem in stems)
    return Photos(path.name, tuple(images), labels)
