"""The camera's walk over a photo: always full frames, smooth, inside the photo."""

from itertools import islice

import numpy as np
import pytest

from anytime_dnn_ros.demo import photos
from anytime_dnn_ros.demo.photos import HEIGHT, WIDTH, film, load_photos, view
from anytime_dnn_ros.errors import MissingDependencyError


def test_every_photo_is_in_the_wheels():
    loaded = load_photos()
    assert list(loaded) == list(photos.PHOTO_FILES)
    for photo in loaded.values():
        assert photo.dtype == np.uint8
        assert photo.ndim == 3
        assert photo.shape[2] == 3
        assert photo.std() > 10


def test_a_missing_photo_is_named_with_its_mend(monkeypatch):
    monkeypatch.setitem(photos.PHOTO_FILES, 'moon', ('skimage', 'data/no_such.png'))
    with pytest.raises(MissingDependencyError, match=r'no_such\.png.*pip install scikit-image'):
        load_photos()


def test_a_missing_package_is_named_with_its_mend(monkeypatch):
    monkeypatch.setitem(photos.PHOTO_FILES, 'moon', ('no_such_package', 'moon.png'))
    with pytest.raises(MissingDependencyError, match='no_such_package'):
        load_photos()


@pytest.mark.parametrize('shape', [(512, 512, 3), (300, 451, 3), (427, 640, 3), (900, 500, 3)])
@pytest.mark.parametrize('progress', [0.0, 0.13, 0.25, 0.5, 0.75, 1.0])
def test_a_view_fills_the_frame_from_inside_the_photo(shape, progress):
    height, width = shape[:2]
    ramp = np.zeros(shape, np.float64)
    ramp[..., 0] = np.linspace(50, 200, width)
    ramp[..., 1] = np.linspace(50, 200, height)[:, None]
    seen = view(ramp.astype(np.uint8), progress)
    assert seen.shape == (HEIGHT, WIDTH, 3)
    assert seen.dtype == np.uint8
    assert seen.flags.c_contiguous
    # A border that repeats the photo's edge would make the ramp flat there.
    steps_x = np.diff(seen[HEIGHT // 2, ::80, 0].astype(int))
    steps_y = np.diff(seen[::60, WIDTH // 2, 1].astype(int))
    assert (steps_x > 0).all()
    assert (steps_y > 0).all()


def test_the_walk_is_smooth_and_ends_where_it_began():
    photo = load_photos()['coffee']
    first, last = view(photo, 0.0), view(photo, 1.0)
    assert np.abs(first.astype(int) - last).mean() < 1
    whole = np.abs(first.astype(int) - view(photo, 0.5)).mean()
    step = np.abs(first.astype(int) - view(photo, 1 / 60)).mean()
    assert 0 < step < whole


def test_the_film_shows_each_photo_in_turn():
    pictures = {name: np.full((48, 64, 3), i, np.uint8) for i, name in enumerate('abc')}
    frames = list(islice(film(pictures, rate_hz=10, hold_s=0.3), 12))
    assert [name for name, _ in frames] == list('aaabbbcccaaa')
    assert [int(frame.max()) for _, frame in frames] == [0] * 3 + [1] * 3 + [2] * 3 + [0] * 3
