"""The labelled images that a command counts on, as its options ask for them."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from anytime_dnn_ros.datasets import Images, read_dataset
from anytime_dnn_ros.datasets.read import VALIDATION_SHARE
from anytime_dnn_ros.datasets.split import stratified_choice


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


def read_validation(args: argparse.Namespace) -> Images:
    """The images that every training of this package holds out, at most `--limit` of them.

    Raises:
        DatasetError: The data cannot be read, or no image is held out.
    """
    # What a limit holds out, every larger limit holds out too: no need to read them all.
    limit = math.ceil(args.limit / VALIDATION_SHARE) if args.limit > 0 else args.limit
    data = read_dataset(
        args.data,
        size=args.size,
        limit=limit,
        validation_share=VALIDATION_SHARE,
        parts=['validation'],
    )
    images = data.validation
    return images.subset(stratified_choice(images.labels, args.limit))
