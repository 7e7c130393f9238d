"""Labelled frames as a camera would send them, made before the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.ladder.frame_fit import ColorOrder
from anytime_dnn_ros.serving import REFERENCE_FRAME_SHAPE

HEIGHT, WIDTH = REFERENCE_FRAME_SHAPE[:2]
# A camera looks at one thing for a while: answers that come late are wrong when it looks away.
SCENE_S = 0.5
# Frames are made beforehand, and kept: beyond this the film begins again.
MOST_BYTES = 512 * 2**20
# From here on an image is enlarged by whole blocks, which the serving path shrinks exactly.
WHOLE_BLOCKS_FROM = 4


@dataclass(frozen=True)
class Film:
    """Frames that play again and again.

    Attributes:
        frames: uint8 [H, W, 3] or [H, W], of a camera's size.
        labels: Index of the true class of each, in the bundle's order.
        color_order: Of the frames.
        data: Name of the images.
    """

    frames: tuple[NDArray[np.uint8], ...]
    labels: tuple[int, ...]
    color_order: ColorOrder
    data: str

    def __len__(self) -> int:
        return len(self.frames)


def make_film(
    images: Images,
    labels: NDArray[np.int64],
    *,
    count: int,
    rate_hz: float,
    seed: int,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Film:
    """A film of scenes: every scene shows images of one class.

    Args:
        images: Of any size, RGB or grey.
        labels: Of the images, in the bundle's order, int64 [images].
        count: Frames, fewer where they would not fit into `MOST_BYTES`.
        rate_hz: Of the camera.
        seed: Which images, and in which order.
        progress: Called with how many frames are made, and how many there will be.
    """
    is_grey = images.pixels.shape[3] == 1
    count = min(count, MOST_BYTES // (HEIGHT * WIDTH * (1 if is_grey else 3)))
    chosen = _scenes(labels, count, max(1, round(SCENE_S * rate_hz)), seed)
    frames = []
    for done, index in enumerate(chosen, start=1):
        frames.append(_camera_frame(images.pixels[index]))
        progress(done, count)
    order: ColorOrder = 'gray' if is_grey else 'rgb'
    return Film(tuple(frames), tuple(int(labels[i]) for i in chosen), order, images.name)


def _scenes(labels: NDArray[np.int64], count: int, length: int, seed: int) -> list[int]:
    """Positions of images, `length` of one class after the other; every class as often."""
    random = np.random.default_rng(seed)
    members = {int(k): random.permutation(np.flatnonzero(labels == k)) for k in np.unique(labels)}
    taken = dict.fromkeys(members, 0)
    chosen: list[int] = []
    while len(chosen) < count:
        for k in random.permutation(list(members)).tolist():
            mine = members[k]
            chosen += [int(mine[(taken[k] + i) % len(mine)]) for i in range(length)]
            taken[k] += length
    return chosen[:count]


def _camera_frame(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image in the middle of a camera's frame, where the bundle's crop finds it."""
    side = min(HEIGHT, WIDTH)
    factor = side // max(pixels.shape[:2])
    if factor >= WHOLE_BLOCKS_FROM:
        large = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST)
    else:
        large = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR)
    left = (WIDTH - side) // 2
    # The crop of the serving path begins at the upper left: what is left over goes below.
    frame = cv2.copyMakeBorder(
        large,
        0,
        HEIGHT - large.shape[0],
        left,
        WIDTH - large.shape[1] - left,
        cv2.BORDER_REPLICATE,
    )
    return np.ascontiguousarray(frame, np.uint8)
