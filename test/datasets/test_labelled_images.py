"""What a set of images refuses to hold. (`nodes/` has a test_images.py already.)"""

import numpy as np
import psutil
import pytest

from anytime_dnn_ros.datasets import Dataset, DatasetError, Images, image_spec
from anytime_dnn_ros.datasets.images import MEMORY_SHARE, check_memory


def images(pixels: np.ndarray | None = None, labels: np.ndarray | None = None) -> Images:
    pixels = np.arange(24, dtype=np.uint8).reshape(3, 2, 4, 1) if pixels is None else pixels
    return Images(pixels, np.array([1, 0, 1]) if labels is None else labels, ('a', 'b'), 'set/x')


@pytest.mark.parametrize('indices', [np.array([2, 0]), np.array([True, False, True])])
def test_a_subset_takes_pixels_and_labels_together(indices):
    part = images().subset(indices)
    assert len(part) == 2
    for pixels, label in zip(part.pixels, part.labels, strict=True):
        source = int(pixels[0, 0, 0]) // 8
        assert label == images().labels[source]
    assert (part.class_names, part.name) == (('a', 'b'), 'set/x')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'pixels': np.zeros((3, 2, 2, 1), np.float32)}, r'pixels are float32 \[3, 2, 2, 1\]'),
        ({'pixels': np.zeros((3, 2, 2, 4), np.uint8)}, r'give uint8 \[N, H, W, 1 or 3\]'),
        ({'pixels': np.zeros((3, 2, 2), np.uint8)}, r'uint8 \[3, 2, 2\]'),
        ({'labels': np.array([0, 1])}, r'3 images, but labels are int64 \[2\]'),
        ({'labels': np.zeros(3, np.int32)}, 'give one int64 label'),
        ({'labels': np.array([0, 2, 2])}, r'set/x: label 2 of image 1 is no class.*2 such'),
        ({'labels': np.array([0, 1, -1])}, 'label -1 of image 2 is no class: there are 2'),
    ],
)
def test_arrays_that_do_not_fit_together_are_told(changes, message):
    with pytest.raises(DatasetError, match=message):
        images(**changes)


def test_test_images_are_given_or_their_lack_is_told():
    assert Dataset(images(), images(), images()).require_test().name == 'set/x'
    with pytest.raises(DatasetError, match='set/x: the data has no test part; put'):
        Dataset(images(), images(), None).require_test()


def test_arrays_beyond_the_share_of_memory_are_refused_before_they_are_made():
    total = psutil.virtual_memory().total
    check_memory((int(total * MEMORY_SHARE) // 3, 1, 1, 3), 'set')
    with pytest.raises(DatasetError, match=r'set: an array of \d+x1x1x3 needs .*limit.*size'):
        check_memory((int(total * MEMORY_SHARE) // 3 + 1, 1, 1, 3), 'set')


def test_the_rule_of_fitting_names_the_colours_of_the_pixels():
    assert (image_spec(3).color_order, image_spec(1).color_order) == ('rgb', 'gray')
