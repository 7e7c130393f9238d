"""A camera frame fitted into the tensor that a stage reads."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.ladder.manifest import ImageSpec

ColorOrder = Literal['rgb', 'bgr', 'gray']

INTERPOLATIONS = {
    'area': cv2.INTER_AREA,
    'linear': cv2.INTER_LINEAR,
    'cubic': cv2.INTER_CUBIC,
}
CONVERSIONS: dict[tuple[ColorOrder, str], int] = {
    ('bgr', 'rgb'): cv2.COLOR_BGR2RGB,
    ('gray', 'rgb'): cv2.COLOR_GRAY2RGB,
    ('rgb', 'gray'): cv2.COLOR_RGB2GRAY,
    ('bgr', 'gray'): cv2.COLOR_BGR2GRAY,
}


def center_crop(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The largest centred view of an image that has the aspect ratio height : width.

    Args:
        image: uint8 [H, W] or [H, W, C].
        height: Height of the aspect ratio.
        width: Width of the aspect ratio.
    """
    rows, columns = image.shape[:2]
    scale = min(rows / height, columns / width)
    crop_rows = max(1, min(rows, round(height * scale)))
    crop_columns = max(1, min(columns, round(width * scale)))
    top, left = (rows - crop_rows) // 2, (columns - crop_columns) // 2
    return image[top : top + crop_rows, left : left + crop_columns]


def fit_frame(
    image: NDArray[np.uint8],
    color_order: ColorOrder,
    buffer: NDArray[np.uint8],
    spec: ImageSpec,
) -> None:
    """Crops, resizes and recolours a frame into a stage's input tensor, in place.

    The frame is resized first and recoloured after, when it is small.

    Args:
        image: uint8 [H, W, 3] or [H, W].
        color_order: Of `image`.
        buffer: uint8 [h, w, C], written.
        spec: The bundle's rule.
    """
    height, width = buffer.shape[:2]
    if spec.resize == 'center_crop':
        image = center_crop(image, height, width)
    image = _reduced(image, height, width, spec)
    interpolation = INTERPOLATIONS[spec.interpolation]
    conversion = CONVERSIONS.get((color_order, spec.color_order))
    if conversion is None and image.ndim == buffer.ndim:
        cv2.resize(image, (width, height), dst=buffer, interpolation=interpolation)
        return
    small = cv2.resize(image, (width, height), interpolation=interpolation)
    if conversion is None:
        buffer[..., 0] = small
    else:
        cv2.cvtColor(small, conversion, dst=buffer)


def _reduced(
    image: NDArray[np.uint8], height: int, width: int, spec: ImageSpec
) -> NDArray[np.uint8]:
    """The image shrunk by a whole factor, so that linear and cubic do not skip pixels.

    Averaging whole blocks costs a fraction of OpenCV's `area` at an uneven ratio.
    """
    factor = min(image.shape[0] // height, image.shape[1] // width)
    if factor < 2 or spec.interpolation == 'area':
        return image
    rows, columns = image.shape[0] // factor, image.shape[1] // factor
    whole = image[: rows * factor, : columns * factor]
    small = cv2.resize(whole, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)
