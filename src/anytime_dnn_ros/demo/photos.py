"""Real photos as a camera would see them: panned and zoomed smoothly, 640x480, BGR."""

from __future__ import annotations

import math
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import MissingDependencyError

WIDTH, HEIGHT = 640, 480
# Colour photos inside the wheels themselves: nothing is downloaded. The package, then the file.
PHOTO_FILES = {
    'chelsea': ('skimage', 'data/chelsea.png'),
    'coffee': ('skimage', 'data/coffee.png'),
    'rocket': ('skimage', 'data/rocket.jpg'),
    'motorcycle': ('skimage', 'data/motorcycle_left.png'),
    'astronaut': ('skimage', 'data/astronaut.png'),
    'china': ('sklearn', 'datasets/images/china.jpg'),
    'flower': ('sklearn', 'datasets/images/flower.jpg'),
}
# Share of the largest possible picture at the widest and the closest moment of the zoom.
WIDEST, CLOSEST = 0.95, 0.75
# How far from the middle the camera turns, as a share of the room it has: 0.5 is the edge.
PAN = 0.35

Picture = NDArray[np.uint8]


def load_photos() -> dict[str, Picture]:
    """Reads the photos.

    Returns:
        Name to photo, uint8 [H, W, 3], BGR.

    Raises:
        MissingDependencyError: scikit-image or scikit-learn is not installed or ships no photos.
    """
    return {name: _read(*place) for name, place in PHOTO_FILES.items()}


def _read(package: str, file: str) -> Picture:
    # The package is not imported: scikit-learn alone would cost a second and 80 MB.
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations if spec else None) or ():
        picture = cv2.imread(str(Path(folder) / file), cv2.IMREAD_COLOR)
        if picture is not None:
            return np.asarray(picture, np.uint8)
    raise MissingDependencyError(
        f'the photo {file} of the package {package!r} is not here; install it with '
        '`pip install scikit-image scikit-learn`'
    )


def view(photo: Picture, progress: float) -> Picture:
    """What the camera sees of a photo.

    Args:
        photo: uint8 [H, W, 3].
        progress: How far the camera's walk over this photo is, 0..1.

    Returns:
        uint8 [480, 640, 3], from inside the photo, without borders.
    """
    height, width = photo.shape[:2]
    turn = 2 * math.pi * progress
    zoom = WIDEST + (CLOSEST - WIDEST) * (1 - math.cos(turn)) / 2
    scale = zoom * min(width / WIDTH, height / HEIGHT)
    room_x, room_y = width - 1 - scale * (WIDTH - 1), height - 1 - scale * (HEIGHT - 1)
    left = room_x * (0.5 + PAN * math.sin(turn))
    top = room_y * (0.5 - PAN * math.cos(turn))
    where = np.array([[scale, 0, left], [0, scale, top]])
    # The matrix leads from the view to the photo, which is what the flag says.
    seen = cv2.warpAffine(
        photo,
        where,
        (WIDTH, HEIGHT),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(seen, np.uint8)


def film(
    photos: dict[str, Picture], rate_hz: float, hold_s: float
) -> Iterator[tuple[str, Picture]]:
    """Endless frames: each photo in turn.

    Args:
        photos: From `load_photos`.
        rate_hz: Frames per second.
        hold_s: Time on one photo, seconds.

    Yields:
        The photo's name and the frame, uint8 [480, 640, 3].
    """
    names = list(photos)
    frames_each = max(1, round(rate_hz * hold_s))
    for index in count():
        turn, step = divmod(index, frames_each)
        name = names[turn % len(names)]
        yield name, view(photos[name], step / frames_each)
