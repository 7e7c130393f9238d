import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.ladder.frame_fit import center_crop, fit_frame
from anytime_dnn_ros.ladder.manifest import ImageSpec

RGB = ImageSpec('rgb', 'center_crop', 'area')
sizes = st.integers(1, 300)


@given(rows=sizes, columns=sizes, height=sizes, width=sizes)
def test_a_crop_is_centred_and_fills_one_side(rows, columns, height, width):
    image = np.zeros((rows, columns), np.uint8)
    crop = center_crop(image, height, width)
    assert crop.size > 0
    assert crop.shape[0] == rows or crop.shape[1] == columns
    offset = crop.__array_interface__['data'][0] - image.__array_interface__['data'][0]
    top, left = divmod(offset, columns)
    assert abs(rows - crop.shape[0] - 2 * top) <= 1
    assert abs(columns - crop.shape[1] - 2 * left) <= 1


def test_a_crop_keeps_the_aspect_ratio():
    assert center_crop(np.zeros((480, 640, 3), np.uint8), 224, 224).shape == (480, 480, 3)
    assert center_crop(np.zeros((640, 480), np.uint8), 100, 200).shape == (240, 480)


@pytest.mark.parametrize(
    ('order', 'pixel'), [('rgb', (200, 100, 50)), ('bgr', (50, 100, 200)), ('gray', None)]
)
@pytest.mark.parametrize('interpolation', ['area', 'linear', 'cubic'])
@pytest.mark.parametrize('resize', ['center_crop', 'stretch'])
def test_colours_arrive_in_the_order_of_the_bundle(order, pixel, interpolation, resize):
    image = np.full((40, 60), 90, np.uint8) if pixel is None else np.zeros((40, 60, 3), np.uint8)
    if pixel:
        image[:] = pixel
    buffer = np.zeros((16, 16, 3), np.uint8)
    fit_frame(image, order, buffer, ImageSpec('rgb', resize, interpolation))
    assert (buffer == ((200, 100, 50) if pixel else (90, 90, 90))).all()


@pytest.mark.parametrize('order', ['rgb', 'bgr', 'gray'])
def test_gray_bundles_take_any_camera(order):
    shape = (40, 60) if order == 'gray' else (40, 60, 3)
    buffer = np.zeros((16, 16, 1), np.uint8)
    fit_frame(np.full(shape, 77, np.uint8), order, buffer, ImageSpec('gray', 'stretch', 'area'))
    assert (buffer == 77).all()


def test_crop_drops_the_sides_and_stretch_keeps_them():
    image = np.zeros((10, 30, 3), np.uint8)
    image[:, :10] = image[:, 20:] = 255
    cropped, stretched = np.zeros((10, 10, 3), np.uint8), np.zeros((10, 10, 3), np.uint8)
    fit_frame(image, 'rgb', cropped, RGB)
    fit_frame(image, 'rgb', stretched, ImageSpec('rgb', 'stretch', 'area'))
    assert not cropped.any()
    assert stretched[:, 0].all()


def test_a_view_of_a_padded_frame_is_read_right():
    padded = np.zeros((20, 40, 3), np.uint8)
    padded[:, :20] = 120
    buffer = np.zeros((8, 8, 3), np.uint8)
    fit_frame(padded[:, :20], 'rgb', buffer, RGB)
    assert (buffer == 120).all()
