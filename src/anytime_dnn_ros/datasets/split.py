"""Which images are trained on, which are held out for validation: stratified, by seed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.datasets.images import DatasetError

Indices = NDArray[np.intp]
# Two trainings of different seeds are counted on the same part of the test data.
TEST_SEED = 0


def training_split(
    labels: NDArray[np.int64], *, limit: int, validation_share: float, seed: int
) -> tuple[Indices, Indices]:
    """Splits training images, every class by the same share.

    Of one seed and share, an image held out at one limit is never trained on at another: a net
    trained on a few images may go on with more.

    Args:
        labels: int64 [N], every class at least once.
        limit: At most so many images in both parts together; 0 = all.
        validation_share: Share of each class that is held out, 0 <= share < 1.
        seed: Another seed holds out other images.

    Returns:
        Positions of the training and of the validation images, each sorted; every class is
        trained on.

    Raises:
        DatasetError: A limit below the number of classes, a share out of range, or so few
            images that none is held out although a share was asked for.
    """
    if not 0 <= validation_share < 1:
        raise DatasetError(f'validation share {validation_share} is not in 0 <= share < 1')
    train, validation = [], []
    classes = _kept_of_each_class(labels, limit, seed)
    for k, (members, kept) in enumerate(classes):
        # Rounded up in one class and down in another, so that the sum keeps the share as well.
        rounding = (k + 0.5) / len(classes)
        held_out = _held_out(len(members), validation_share, rounding)
        held_out_kept = _held_out(kept, validation_share, rounding)
        validation.append(members[:held_out_kept])
        train.append(members[held_out : held_out + kept - held_out_kept])
    result = np.sort(np.concatenate(train)), np.sort(np.concatenate(validation))
    if validation_share and not result[1].size:
        raise DatasetError(
            f'no image is left for validation: a share of {validation_share} of '
            f'{result[0].size} images in {len(classes)} classes is less than one; give more '
            'images, a larger share, or share 0 for none'
        )
    return result


def stratified_choice(labels: NDArray[np.int64], limit: int, seed: int = TEST_SEED) -> Indices:
    """Sorted positions of at most `limit` images (0 = all), classes in proportion.

    Raises:
        DatasetError: A limit below the number of classes.
    """
    chosen = [members[:kept] for members, kept in _kept_of_each_class(labels, limit, seed)]
    return np.sort(np.concatenate(chosen))


def _held_out(count: int, share: float, rounding: float) -> int:
    """How many images of one class; one is always left to train on."""
    return min(int(count * share + rounding), count - 1)


def _kept_of_each_class(
    labels: NDArray[np.int64], limit: int, seed: int
) -> list[tuple[Indices, int]]:
    """Per class: its positions in an order of the seed's, and how many the limit allows."""
    if limit < 0:
        raise DatasetError(f'limit {limit} is negative; give 0 for all images')
    random = np.random.default_rng(seed)
    counts = np.bincount(labels)
    kept = counts
    if 0 < limit < len(labels):
        if limit < len(counts):
            raise DatasetError(
                f'limit {limit} is less than one image for each of the {len(counts)} classes; '
                f'give {len(counts)} or more, or 0 for all images'
            )
        # One for each class, the others in proportion.
        kept = 1 + _in_proportion(limit - len(counts), counts - 1)
    positions = (random.permutation(np.flatnonzero(labels == k)) for k in range(len(counts)))
    return [(members, int(k)) for members, k in zip(positions, kept, strict=True)]


def _in_proportion(total: int, sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """`total` <= sum(sizes) shared out by largest remainder; no share exceeds its size."""
    whole, remainder = np.divmod(total * sizes, max(1, int(sizes.sum())))
    largest = np.argsort(-remainder, kind='stable')[: total - int(whole.sum())]
    whole[largest] += 1
    return np.asarray(whole, np.int64)
