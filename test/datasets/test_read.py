"""Which reader a path gets, and what is said when it is nothing that can be read."""

import pytest
from small_datasets import tree, write_folder

from anytime_dnn_ros.datasets import DatasetError, read_dataset


def test_a_path_that_is_not_there_is_told_what_may_be_given(tmp_path):
    with pytest.raises(DatasetError, match=r'gone does not exist; give a folder or ZIP'):
        read_dataset(tmp_path / 'gone')


@pytest.mark.parametrize('size', [0, -8])
def test_a_size_without_pixels_is_refused(tmp_path, size):
    with pytest.raises(DatasetError, match=f'size {size} is no image size'):
        read_dataset(write_folder(tmp_path, tree()), size=size)
