"""Which images are held out: stratified, disjoint, the same for a seed and at every limit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.datasets import DatasetError
from anytime_dnn_ros.datasets.split import stratified_choice, training_split

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def labels_of_every_class(draw: st.DrawFn) -> np.ndarray:
    counts = draw(st.lists(st.integers(2, 40), min_size=2, max_size=6))
    labels = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    return np.random.default_rng(draw(SEEDS)).permutation(labels)


def split(labels: np.ndarray, limit: int = 0, share: float = 0.3, seed: int = 0):
    return training_split(labels, limit=limit, validation_share=share, seed=seed)


@given(labels_of_every_class(), st.floats(0.25, 0.9), SEEDS)
def test_all_images_are_used_once_and_each_class_is_held_out_by_its_share(labels, share, seed):
    train, validation = split(labels, share=share, seed=seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for k in range(labels.max() + 1):
        count, held_out = np.sum(labels == k), np.sum(labels[validation] == k)
        assert held_out < count
        assert abs(held_out - count * share) < 1


@given(labels_of_every_class(), SEEDS, st.data())
def test_a_limit_takes_so_many_and_never_trains_on_what_another_limit_holds_out(
    labels, seed, data
):
    classes = labels.max() + 1
    limit = data.draw(st.integers(3 * classes, 3 * len(labels)))
    train, validation = split(labels, limit=limit, seed=seed)
    all_train, all_validation = split(labels, seed=seed)
    assert len(train) + len(validation) == min(limit, len(labels))
    assert set(train) <= set(all_train)
    assert set(validation) <= set(all_validation)
    assert set(labels[train]) == set(range(classes))


@given(labels_of_every_class(), SEEDS)
def test_a_seed_names_one_split(labels, seed):
    assert all(map(np.array_equal, split(labels, seed=seed), split(labels, seed=seed)))


def test_few_images_of_each_class_are_held_out_by_their_share_altogether():
    labels = np.tile(np.arange(10, dtype=np.int64), 4)
    assert len(split(labels, share=0.1)[1]) == 4


def test_another_seed_holds_out_other_images():
    labels = np.repeat(np.arange(2, dtype=np.int64), 100)
    assert not np.array_equal(split(labels, seed=0)[1], split(labels, seed=1)[1])


@given(st.integers(2, 7), st.integers(1, 50), st.data())
def test_a_choice_takes_equal_classes_alike(classes, of_each, data):
    labels = np.tile(np.arange(classes, dtype=np.int64), of_each)
    limit = data.draw(st.integers(classes, classes * of_each))
    chosen = stratified_choice(labels, limit)
    counts = np.bincount(labels[chosen], minlength=classes)
    assert len(set(chosen)) == limit
    assert np.ptp(counts) <= 1


def test_a_choice_keeps_the_proportions_of_classes_and_one_of_the_rarest():
    labels = np.repeat(np.arange(3, dtype=np.int64), [800, 199, 1])
    counts = np.bincount(labels[stratified_choice(labels, 100)])
    assert counts.tolist() == [79, 20, 1]


def test_share_zero_holds_nothing_out():
    train, validation = split(np.array([0, 1, 0, 1]), share=0.0)
    assert train.tolist() == [0, 1, 2, 3]
    assert not validation.size


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'limit': -1}, 'limit -1 is negative; give 0'),
        ({'limit': 1}, 'limit 1 is less than one image for each of the 2 classes; give 2'),
        ({'share': 1.0}, r'validation share 1.0 is not in 0 <= share < 1'),
        ({'share': -0.1}, 'validation share -0.1'),
        ({'share': 0.01}, 'no image is left for validation.*give more images'),
    ],
)
def test_what_cannot_be_split_is_told(options, message):
    with pytest.raises(DatasetError, match=message):
        split(np.array([0, 1, 0, 1]), **options)
