"""The film: camera-sized frames in which the ladder finds the images again."""

import numpy as np
import pytest

from anytime_dnn_ros.bench import film as film_module
from anytime_dnn_ros.bench.film import HEIGHT, SCENE_S, WIDTH, make_film
from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.ladder.frame_fit import fit_frame
from anytime_dnn_ros.ladder.manifest import ImageSpec

RATE_HZ = 10.0
LENGTH = round(SCENE_S * RATE_HZ)


def images(size=28, channels=1, count=40):
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, size, size, channels), np.uint8)
    labels = np.arange(count, dtype=np.int64) % 4
    return Images(pixels, labels, ('a', 'b', 'c', 'd'), 'made/test')


def test_small_images_are_found_again_pixel_by_pixel():
    source = images()
    film = make_film(source, source.labels, count=20, rate_hz=RATE_HZ, seed=0)
    buffer = np.empty((28, 28, 1), np.uint8)
    known = {pixels.tobytes() for pixels in source.pixels}
    for frame in film.frames:
        assert frame.shape == (HEIGHT, WIDTH)
        fit_frame(frame, film.color_order, buffer, ImageSpec('gray', 'center_crop', 'linear'))
        assert buffer.tobytes() in known


def test_large_colour_images_fill_the_height_of_the_frame():
    source = images(size=200, channels=3, count=4)
    film = make_film(source, source.labels, count=4, rate_hz=RATE_HZ, seed=0)
    assert film.color_order == 'rgb'
    assert film.frames[0].shape == (HEIGHT, WIDTH, 3)


def test_a_scene_shows_one_class_and_every_class_has_as_many():
    source = images()
    film = make_film(source, source.labels, count=8 * LENGTH, rate_hz=RATE_HZ, seed=3)
    scenes = [film.labels[i : i + LENGTH] for i in range(0, len(film), LENGTH)]
    assert all(len(set(scene)) == 1 for scene in scenes)
    assert sorted(scene[0] for scene in scenes) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_the_seed_decides():
    source = images()

    def labels(seed):
        return make_film(source, source.labels, count=40, rate_hz=RATE_HZ, seed=seed).labels

    assert labels(1) == labels(1)
    assert len({labels(seed) for seed in range(5)}) > 1


def test_a_film_stays_within_its_memory(monkeypatch):
    monkeypatch.setattr(film_module, 'MOST_BYTES', 7 * HEIGHT * WIDTH)
    source = images()
    assert len(make_film(source, source.labels, count=100, rate_hz=RATE_HZ, seed=0)) == 7


def test_progress_is_told():
    told = []
    source = images()
    make_film(
        source,
        source.labels,
        count=3,
        rate_hz=RATE_HZ,
        seed=0,
        progress=lambda done, of: told.append((done, of)),
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize('channels', [1, 3])
def test_labels_belong_to_their_frames(channels):
    pixels = np.zeros((3, 28, 28, channels), np.uint8)
    pixels += (np.arange(3, dtype=np.uint8) * 50)[:, None, None, None]
    source = Images(pixels, np.arange(3, dtype=np.int64), ('a', 'b', 'c'), 'made/test')
    film = make_film(source, source.labels, count=30, rate_hz=RATE_HZ, seed=0)
    assert [int(f.flat[WIDTH // 2 * channels]) // 50 for f in film.frames] == list(film.labels)
