"""Where the bench's images come from."""

import argparse
import zipfile

import cv2
import numpy as np
import pytest

from anytime_dnn_ros.bench.images import labelled_images
from anytime_dnn_ros.errors import ConfigurationError
from evaluate.colour_images import write_images
from ladders import LABELS, make_ladder, solid


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('images') / 'colours')


def options(data, size=None):
    return argparse.Namespace(data=data, size=size)


def write_photos(path, names):
    with zipfile.ZipFile(path, 'w') as archive:
        for k, name in enumerate(names):
            bgr = np.ascontiguousarray(solid(LABELS[k])[..., ::-1])
            archive.writestr(f'n{k}_{name}.png', cv2.imencode('.png', bgr)[1].tobytes())
    return path


def test_a_tree_of_classes_is_put_into_the_order_of_the_bundle(bundle, tmp_path):
    images, labels = labelled_images(options(write_images(tmp_path / 'tints')), bundle)
    assert images.class_names == ('blue', 'green', 'red')
    named = [images.class_names[k] for k in images.labels]
    assert [bundle.labels[k] for k in labels] == named


def test_one_photo_per_class_is_enough(bundle, tmp_path):
    images, labels = labelled_images(options(write_photos(tmp_path / 'p.zip', LABELS), 40), bundle)
    assert images.pixels.shape == (3, 40, 40, 3)
    assert list(labels) == [0, 1, 2]
    # RGB, as the labels say.
    assert list(images.pixels.mean((1, 2)).argmax(1)) == [0, 1, 2]


def test_photos_in_another_order_are_refused(bundle, tmp_path):
    file = write_photos(tmp_path / 'p.zip', LABELS[::-1])
    with pytest.raises(ConfigurationError, match="photo 0 is of 'blue'"):
        labelled_images(options(file), bundle)


def test_without_data_the_mend_is_told(bundle):
    with pytest.raises(ConfigurationError, match='needs --data'):
        labelled_images(options(None), bundle)
