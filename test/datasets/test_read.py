"""Which reader a path gets, and what is said when it is nothing that can be read."""

import argparse

import pytest
from small_datasets import idx, tree, write_folder

from anytime_dnn_ros.datasets import DatasetError, read_dataset
from anytime_dnn_ros.evaluate.labelled import read_test, read_validation


def test_a_path_that_is_not_there_is_told_what_may_be_given(tmp_path):
    with pytest.raises(DatasetError, match=r'gone does not exist; give a folder or ZIP'):
        read_dataset(tmp_path / 'gone')


@pytest.mark.parametrize('size', [0, -8])
def test_a_size_without_pixels_is_refused(tmp_path, size):
    with pytest.raises(DatasetError, match=f'size {size} is no image size'):
        read_dataset(write_folder(tmp_path, tree()), size=size)


def damaged(files, part):
    """The same data set, without an image in one of train and test that can be read."""
    return {
        name: b'no image' if name.startswith(part) and 'labels' not in name else content
        for name, content in files.items()
    }


@pytest.mark.parametrize(('files', 'test'), [(tree(), 'test'), (idx(), 't10k')])
def test_test_images_are_not_looked_at_where_nobody_asks_for_them(tmp_path, files, test):
    folder = write_folder(tmp_path, damaged(files, test))
    dataset = read_dataset(folder, validation_share=0.25, parts=['train', 'validation'])
    assert len(dataset.train) > len(dataset.validation) > 0
    assert len(dataset.require_test()) == 0
    options = argparse.Namespace(data=folder, size=None, limit=0)
    assert len(read_validation(options)) > 0
    with pytest.raises(DatasetError):
        read_test(options)


def test_training_images_are_not_looked_at_where_nobody_asks_for_them(tmp_path):
    folder = write_folder(tmp_path, damaged(tree(), 'train'))
    options = argparse.Namespace(data=folder, size=None, limit=0)
    assert len(read_test(options)) == 12
    with pytest.raises(DatasetError):
        read_validation(options)


def test_a_test_part_that_is_not_there_is_told(tmp_path):
    options = argparse.Namespace(data=write_folder(tmp_path, tree(test=0)), size=None, limit=0)
    with pytest.raises(DatasetError, match='no test part'):
        read_test(options)
