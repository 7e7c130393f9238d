"""The labelled images that a command counts on, as its options ask for them."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from anytime_dnn_ros.datasets import Images, read_dataset
from anytime_dnn_ros.datasets.read import VALIDATION_SHARE
from anytime_dnn_ros.datasets.split import stratified_choice
from anytime_dnn_ros.ladder.bundle import Bundle


def add_data_options(parser: argparse.ArgumentParser) -> None:
    """Declares the options that `read_test` and `read_validation` need."""
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder or ZIP with train/<class>/ and test/<class>/, folder with IDX files, or the '
        'word fashion-mnist',
    )
    parser.add_argument(
        '--size',
        type=int,
        metavar='PIXELS',
        help='fit images of many sizes into this square first; at least what the ladder reads',
    )
    parser.add_argument(
        '--limit', type=int, default=0, metavar='N', help='at most N images (default 0 = all)'
    )


def read_test(args: argparse.Namespace) -> Images:
    """The test images, at most `--limit` of them.

    Raises:
        DatasetError: The data cannot be read or has no test part.
    """
    # No validation images are wanted, and a small limit would leave none.
    data = read_dataset(
        args.data, size=args.size, limit=args.limit, validation_share=0.0, parts=['test']
    )
    return data.require_test()


def read_validation(args: argparse.Namespace, bundles: Sequence[Bundle] = ()) -> Images:
    """The images that the trainings of this package hold out, at most `--limit` of them.

    Args:
        args: With the options of `add_data_options`.
        bundles: No training of theirs has learnt from an image that is returned.

    Raises:
        DatasetError: The data cannot be read, or no image is held out.
    """
    shares = [b.manifest.provenance.get('validation_share', VALIDATION_SHARE) for b in bundles]
    # What a small share holds out, every larger one holds out too.
    share = min(shares, default=VALIDATION_SHARE)
    # And so with a limit: no need to read them all.
    limit = math.ceil(args.limit / share) if args.limit > 0 else args.limit
    data = read_dataset(
        args.data,
        size=args.size,
        limit=limit,
        validation_share=share,
        parts=['validation'],
    )
    images = data.validation
    return images.subset(stratified_choice(images.labels, args.limit))
