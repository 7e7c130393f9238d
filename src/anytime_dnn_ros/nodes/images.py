"""Image messages to pixels; whatever cannot be used is one ImageError that names the reason."""

from __future__ import annotations

import struct
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.errors import ImageError, MissingDependencyError
from anytime_dnn_ros.ladder.frame_fit import ColorOrder

# Cameras on robots end far below this; a header that says more is damage.
MAX_PIXELS = 64_000_000
# A JPEG ends with this marker; some cameras pad a few bytes after it.
JPEG_START, JPEG_END, JPEG_PADDING = b'\xff\xd8', b'\xff\xd9', 64
# Markers with the size: every start of frame, but not DHT, JPG and DAC, which lie between them.
JPEG_SIZE = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_WITHOUT_LENGTH = frozenset((0x00, 0x01, *range(0xD0, 0xD9)))
JPEG_SCAN = 0xDA
PNG_START = b'\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR'

# Read in place, without a copy.
VIEWS: dict[str, tuple[int, ColorOrder]] = {
    'bgr8': (3, 'bgr'),
    '8UC3': (3, 'bgr'),
    'rgb8': (3, 'rgb'),
    'mono8': (1, 'gray'),
    '8UC1': (1, 'gray'),
}
# Converted to bgr8 by cv_bridge or rosbags-image. Bytes per pixel in a row.
CONVERTED: dict[str, int] = {
    'bgra8': 4,
    'rgba8': 4,
    'mono16': 2,
    'bayer_rggb8': 1,
    'bayer_bggr8': 1,
    'bayer_gbrg8': 1,
    'bayer_grbg8': 1,
    'uyvy': 2,
    'yuv422': 2,
    'yuyv': 2,
    'yuv422_yuy2': 2,
}
# Full-size luma rows, then half as many rows of interleaved chroma.
SEMI_PLANAR = {'nv12': cv2.COLOR_YUV2BGR_NV12, 'nv21': cv2.COLOR_YUV2BGR_NV21}
ENCODINGS = (*VIEWS, *CONVERTED, *SEMI_PLANAR)


def check_image(msg: Any) -> None:
    """Checks a `sensor_msgs/Image` without touching its pixels; cheap enough for a callback.

    Raises:
        ImageError: Unknown encoding, no pixels, too many, a wrong step or missing data.
    """
    if msg.encoding not in ENCODINGS:
        raise ImageError(
            'unknown_encoding',
            f'image encoding {msg.encoding!r} is not supported: publish one of '
            f'{", ".join(ENCODINGS)}',
        )
    if not msg.width or not msg.height:
        raise ImageError('empty_image', f'image of {msg.width}x{msg.height} pixels has no pixels')
    if msg.width * msg.height > MAX_PIXELS:
        raise ImageError(
            'image_too_large',
            f'image of {msg.width}x{msg.height} pixels: at most {MAX_PIXELS} are accepted; '
            'scale it down in the camera driver',
        )
    pixel_bytes = (
        VIEWS[msg.encoding][0] if msg.encoding in VIEWS else CONVERTED.get(msg.encoding, 1)
    )
    if msg.step < msg.width * pixel_bytes:
        raise ImageError(
            'wrong_step',
            f'image step {msg.step} is less than a row of {msg.width} {msg.encoding} pixels '
            f'({msg.width * pixel_bytes} bytes): mend the publisher',
        )
    if len(msg.data) < msg.step * _rows(msg):
        raise ImageError(
            'truncated_image',
            f'image has {len(msg.data)} bytes of data, step x rows is {msg.step * _rows(msg)}: '
            'mend the publisher',
        )


def decode_image(msg: Any) -> tuple[NDArray[np.uint8], ColorOrder]:
    """Pixels of a checked `sensor_msgs/Image`.

    Returns:
        uint8 [H, W, 3] or [H, W] and the colour order; a view of the message where it can be.

    Raises:
        ImageError: The converter refuses the image.
        MissingDependencyError: The encoding needs a converter and none is installed.
    """
    rows = np.frombuffer(msg.data, np.uint8)[: msg.step * _rows(msg)].reshape(_rows(msg), msg.step)
    if msg.encoding in VIEWS:
        channels, order = VIEWS[msg.encoding]
        pixels = rows[:, : msg.width * channels]
        return (pixels if channels == 1 else pixels.reshape(msg.height, msg.width, 3)), order
    try:
        if msg.encoding in SEMI_PLANAR:
            packed = np.ascontiguousarray(rows[:, : msg.width])
            bgr = cv2.cvtColor(packed, SEMI_PLANAR[msg.encoding])
        else:
            packed = np.ascontiguousarray(rows[:, : msg.width * CONVERTED[msg.encoding]])
            bgr = _converter()(msg, packed)
    except MissingDependencyError:
        raise
    except Exception as error:  # each library raises its own types
        raise ImageError(
            'undecodable_image',
            f'{msg.encoding} image of {msg.width}x{msg.height} pixels not converted: {error}',
        ) from error
    return cast('NDArray[np.uint8]', bgr), 'bgr'


def decode_compressed(msg: Any) -> tuple[NDArray[np.uint8], ColorOrder]:
    """Pixels of a `sensor_msgs/CompressedImage` (JPEG, PNG).

    Raises:
        ImageError: Empty, cut short, damaged or too many pixels.
    """
    data = bytes(msg.data)
    if data.startswith(JPEG_START) and JPEG_END not in data[-JPEG_PADDING:]:
        raise ImageError(
            'truncated_image',
            f'JPEG of {len(data)} bytes is cut short (no end marker): check the camera link',
        )
    # Before it is decoded: 0.2 MB of PNG can be 1 GB of pixels.
    size = _png_size(data) if data.startswith(PNG_START) else _jpeg_size(data)
    if size is None:
        raise ImageError(
            'corrupt_image',
            f'compressed image of {len(data)} bytes (format {msg.format!r}) tells no size: '
            'publish JPEG or PNG',
        )
    width, height = size
    if width * height > MAX_PIXELS:
        raise ImageError(
            'image_too_large',
            f'compressed image of {width}x{height} pixels: at most {MAX_PIXELS} are accepted; '
            'scale it down in the camera driver',
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ImageError(
            'corrupt_image', f'compressed image cannot be decoded: {error}'
        ) from error
    if image is None:
        raise ImageError(
            'corrupt_image',
            f'compressed image of {len(data)} bytes (format {msg.format!r}) cannot be decoded: '
            'publish JPEG or PNG',
        )
    return cast('NDArray[np.uint8]', image), 'bgr'


def _png_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a PNG, whose first chunk must be IHDR."""
    size = data[len(PNG_START) : len(PNG_START) + 8]
    return struct.unpack('>II', size) if len(size) == 8 else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG; finds markers as libjpeg does, over whatever lies between."""
    at = len(JPEG_START) if data.startswith(JPEG_START) else -1
    while at >= 0 and (at := data.find(b'\xff', at)) >= 0:
        while data[at : at + 1] == b'\xff':
            at += 1
        # marker, uint16 length; in a start of frame also uint8 bits, uint16 height and width
        header = data[at : at + 8]
        if len(header) < 8 or header[0] == JPEG_SCAN:
            return None
        if header[0] in JPEG_SIZE:
            height, width = struct.unpack('>HH', header[4:])
            return width, height
        at += 1 if header[0] in JPEG_WITHOUT_LENGTH else 1 + int.from_bytes(header[1:3], 'big')
    return None


def _rows(msg: Any) -> int:
    return int(msg.height) * 3 // 2 if msg.encoding in SEMI_PLANAR else int(msg.height)


@lru_cache
def _converter() -> Any:
    """`(msg, packed rows) -> bgr8`, by cv_bridge where a robot has it, else by rosbags-image."""
    try:
        from cv_bridge import CvBridge  # noqa: PLC0415

        bridge = CvBridge()
    except ImportError:
        pass
    else:
        return lambda msg, packed: bridge.imgmsg_to_cv2(msg, 'bgr8')
    try:
        from rosbags.image import image_to_cvimage  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError(
            'this image encoding needs a converter: apt install ros-$ROS_DISTRO-cv-bridge, '
            'or pip install rosbags-image'
        ) from error

    def convert(msg: Any, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = SimpleNamespace(
            encoding=msg.encoding,
            height=msg.height,
            width=msg.width,
            is_bigendian=msg.is_bigendian,
            data=packed,
        )
        return cast('NDArray[np.uint8]', image_to_cvimage(cast('Any', image), 'bgr8'))

    return convert
