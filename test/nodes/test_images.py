import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image

from anytime_dnn_ros.errors import ImageError
from anytime_dnn_ros.nodes.images import (
    ENCODINGS,
    check_image,
    decode_compressed,
    decode_image,
)
from ladders import solid

HEIGHT, WIDTH = 4, 6
RED = (200, 30, 10)


def image(encoding, pixels, *, padding=0):
    """A message of pixels, uint8 [rows, bytes per row], with `padding` bytes after each row."""
    pixels = np.pad(pixels, ((0, 0), (0, padding)), constant_values=99)
    return Image(
        height=HEIGHT,
        width=WIDTH,
        encoding=encoding,
        step=pixels.shape[1],
        data=pixels.astype(np.uint8).tobytes(),
    )


def rows(pixel, count=HEIGHT):
    return np.tile(np.array(pixel, np.uint8), (count, WIDTH))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'pixel', 'order'),
    [
        ('rgb8', RED, 'rgb'),
        ('bgr8', RED, 'bgr'),
        ('8UC3', RED, 'bgr'),
        ('mono8', (77,), 'gray'),
        ('8UC1', (77,), 'gray'),
    ],
)
def test_plain_encodings_are_read_in_place(encoding, pixel, order, padding):
    msg = image(encoding, rows(pixel), padding=padding)
    check_image(msg)
    pixels, got_order = decode_image(msg)
    assert got_order == order
    assert pixels.shape == ((HEIGHT, WIDTH, 3) if len(pixel) == 3 else (HEIGHT, WIDTH))
    assert (pixels == (pixel if len(pixel) == 3 else pixel[0])).all()
    assert np.shares_memory(pixels, np.frombuffer(msg.data, np.uint8))


@pytest.mark.parametrize('padding', [0, 5])
@pytest.mark.parametrize(
    ('encoding', 'pixel', 'bgr'),
    [
        ('rgba8', (*RED, 255), RED[::-1]),
        ('bgra8', (*RED, 255), RED),
        ('mono16', (0, 128), (128, 128, 128)),
    ],
)
def test_other_encodings_are_converted(encoding, pixel, bgr, padding):
    msg = image(encoding, rows(pixel), padding=padding)
    check_image(msg)
    pixels, order = decode_image(msg)
    assert order == 'bgr'
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(pixels.astype(int) - bgr).max() <= 1


@pytest.mark.parametrize('padding', [0, 6])
@pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
def test_semi_planar_images_have_half_as_many_rows_of_colour(encoding, padding):
    grey = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
    msg = image(encoding, grey, padding=padding)
    check_image(msg)
    pixels, order = decode_image(msg)
    assert order == 'bgr'
    assert pixels.shape == (HEIGHT, WIDTH, 3)
    assert (pixels == pixels[0, 0, 0]).all()


@pytest.mark.parametrize('encoding', sorted(ENCODINGS))
def test_every_supported_encoding_gives_pixels(encoding):
    frame = np.full((HEIGHT * 2, WIDTH * 4), 128, np.uint8)
    msg = image(encoding, frame)
    check_image(msg)
    pixels, _ = decode_image(msg)
    assert pixels.dtype == np.uint8
    assert pixels.shape[:2] == (HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ('changes', 'kind', 'text'),
    [
        ({'encoding': 'hsv42'}, 'unknown_encoding', "'hsv42' is not supported: publish one of"),
        ({'encoding': ''}, 'unknown_encoding', "'' is not supported"),
        ({'width': 0}, 'empty_image', '0x4'),
        ({'height': 0}, 'empty_image', '6x0'),
        ({'width': 10_000, 'height': 10_000}, 'image_too_large', '10000x10000'),
        ({'width': 2**32 - 1, 'height': 2**32 - 1}, 'image_too_large', 'scale it down'),
        ({'step': WIDTH * 3 - 1}, 'wrong_step', 'step 17 is less than a row'),
        ({'step': 0}, 'wrong_step', 'step 0'),
        ({'step': 2**32 - 1}, 'truncated_image', 'step x rows'),
        ({'data': b''}, 'truncated_image', 'has 0 bytes'),
        ({'data': bytes(HEIGHT * WIDTH * 3 - 1)}, 'truncated_image', '71 bytes'),
        ({'height': HEIGHT + 1}, 'truncated_image', 'mend the publisher'),
    ],
)
def test_a_message_that_does_not_hold_together_is_refused_by_kind(changes, kind, text):
    msg = image('rgb8', rows(RED))
    for name, value in changes.items():
        setattr(msg, name, value)
    with pytest.raises(ImageError, match=text) as error:
        check_image(msg)
    assert error.value.kind == kind


def test_a_semi_planar_image_without_its_colour_is_truncated():
    with pytest.raises(ImageError) as error:
        check_image(image('nv12', rows((128,))))
    assert error.value.kind == 'truncated_image'


@given(
    encoding=st.sampled_from(ENCODINGS),
    height=st.integers(0, 9),
    width=st.integers(0, 9),
    step=st.integers(0, 40),
    length=st.integers(0, 400),
)
def test_whatever_passes_the_check_decodes_or_is_an_image_error(
    encoding, height, width, step, length
):
    msg = Image(
        encoding=encoding, height=height, width=width, step=step, data=bytes(range(250)) * 2
    )
    msg.data = msg.data[:length]
    try:
        check_image(msg)
        pixels, _ = decode_image(msg)
    except ImageError:
        return
    assert pixels.shape[:2] == (height, width)


def jpeg():
    return cv2.imencode('.jpg', np.ascontiguousarray(solid('red')[..., ::-1]))[1].tobytes()


@pytest.mark.parametrize('suffix', ['.jpg', '.png'])
def test_compressed_images_come_out_as_bgr(suffix):
    bgr = np.ascontiguousarray(solid('red')[..., ::-1])
    data = cv2.imencode(suffix, bgr)[1].tobytes()
    pixels, order = decode_compressed(CompressedImage(format=suffix[1:], data=data))
    assert order == 'bgr'
    assert pixels.shape == bgr.shape
    assert np.abs(pixels.astype(int) - bgr).max() <= 6


def test_padding_after_a_jpeg_is_fine():
    pixels, _ = decode_compressed(CompressedImage(format='jpeg', data=jpeg() + bytes(8)))
    assert pixels.shape == (48, 64, 3)


@pytest.mark.parametrize(
    ('data', 'kind'),
    [
        (b'', 'corrupt_image'),
        (b'hello', 'corrupt_image'),
        (jpeg()[:200], 'truncated_image'),
        (jpeg()[:20] + b'\xff\xd9', 'corrupt_image'),
        (b'\xff\xd8' + bytes(500) + b'\xff\xd9', 'corrupt_image'),
    ],
)
def test_a_damaged_jpeg_is_refused_by_kind(data, kind):
    with pytest.raises(ImageError) as error:
        decode_compressed(CompressedImage(format='jpeg', data=data))
    assert error.value.kind == kind


def chunk(kind, data):
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def black_png(side):
    """A black square, made without its pixels in memory."""
    packer = zlib.compressobj()
    packed = b''.join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    header = struct.pack('>IIBBBBB', side, side, 8, 0, 0, 0, 0)
    start = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header)
    return start + chunk(b'IDAT', packed) + chunk(b'IEND', b'')


def resized_header(data, width, height):
    """The same JPEG with another size in its start of frame."""
    at = data.index(b'\xff\xc0') + 5
    return data[:at] + struct.pack('>HH', height, width) + data[at + 4 :]


def test_the_black_png_of_these_tests_is_one_opencv_reads():
    pixels, _ = decode_compressed(CompressedImage(format='png', data=black_png(30)))
    assert pixels.shape == (30, 30, 3)
    assert not pixels.any()


@pytest.mark.parametrize(
    ('data', 'size'),
    [
        (black_png(14_000), '14000x14000'),
        (resized_header(jpeg(), 65_000, 60_000), '65000x60000'),
        # Bytes between segments, which libjpeg skips with a warning, hide nothing.
        (b'\xff\xd8ab\xff\xff' + resized_header(jpeg(), 9_000, 8_000)[3:], '9000x8000'),
    ],
)
def test_a_compressed_image_of_too_many_pixels_is_refused_before_it_is_decoded(
    data, size, monkeypatch
):
    def decoded(*_):
        raise AssertionError('decoded')

    monkeypatch.setattr(cv2, 'imdecode', decoded)
    with pytest.raises(ImageError, match=size) as error:
        decode_compressed(CompressedImage(format='', data=data))
    assert error.value.kind == 'image_too_large'


@pytest.mark.parametrize('options', [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1], []])
def test_bytes_between_the_segments_of_a_jpeg_are_skipped_as_libjpeg_does(options):
    plain = cv2.imencode('.jpg', np.zeros((8, 20, 3), np.uint8), options)[1].tobytes()
    second = 4 + int.from_bytes(plain[4:6], 'big')
    data = plain[:second] + b'ab\xff\x00' + plain[second:]
    pixels, _ = decode_compressed(CompressedImage(format='jpeg', data=data))
    assert pixels.shape == (8, 20, 3)


@given(
    st.binary(max_size=60), st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n', jpeg()[:30]])
)
def test_noise_is_refused(noise, start):
    with pytest.raises(ImageError):
        decode_compressed(CompressedImage(format='jpeg', data=start + noise + b'\xff\xd9'))
