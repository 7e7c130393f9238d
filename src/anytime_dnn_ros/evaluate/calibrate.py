"""`anytime-dnn calibrate`: a bundle learns how far its confidence can be believed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.calibration import Calibration, calibrate
from anytime_dnn_ros.evaluate.judged import percent
from anytime_dnn_ros.evaluate.labelled import add_data_options, read_validation
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.ladder.bundle import (
    QUALITY_FILE,
    Bundle,
    check_can_write_bundle,
    find_bundle,
    read_bundle,
    shipped_bundles,
    write_bundle,
)
from anytime_dnn_ros.ladder.manifest import Quality, quality_to_json
from anytime_dnn_ros.quality.label_sets import DEFAULT_COVERAGE
from anytime_dnn_ros.whole_file import check_can_write, write_whole

CHOSEN_BY_THEM = (
    'these images also chose the epoch of the weights, which flatters the accuracies a little'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn calibrate`."""
    parser.add_argument('bundle', metavar='BUNDLE', help='shipped name or folder')
    add_data_options(parser)
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='leave the bundle as it is and write a calibrated copy here',
    )
    parser.add_argument(
        '--seen',
        action='store_true',
        help='the ladder was trained on these images too: write accuracies, do not declare them',
    )
    parser.add_argument(
        '--coverage',
        type=float,
        metavar='SHARE',
        help='share of label sets that hold the true class after the last stage, 0..1 (default '
        f'{DEFAULT_COVERAGE:g}; more where the likeliest class alone is right as often)',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')


def run(args: argparse.Namespace) -> int:
    """Calibrates a bundle on the validation images and prints what that changed.

    Raises:
        AnytimeError: The bundle, the data or an option cannot be used; the bundle is then as it
            was.
    """
    bundle = read_bundle(find_bundle(args.bundle))
    _check_writable(bundle, args.out)
    if args.coverage is not None and not 0 < args.coverage < 1:
        raise ConfigurationError(f'--coverage {args.coverage:g}: give a share between 0 and 1')
    if args.json:
        check_can_write(args.json)
    images = read_validation(args, [bundle])
    console = Console()
    with image_progress(console) as progress:
        calibration = calibrate(
            bundle,
            images,
            _early_stop_note(bundle),
            held_out=not args.seen,
            coverage=args.coverage,
            progress=lambda done, of: progress(bundle.manifest.name, done, of),
        )
    written = _write(bundle, calibration.quality, args.out).path
    # Before the tables: a reader such as `head` may close the terminal's end.
    if args.json:
        text = json.dumps(figures(bundle, calibration), indent=2, ensure_ascii=False)
        write_whole(args.json, f'{text}\n'.encode())
    console.print(_table(calibration))
    console.print(_guard_table(calibration))
    if calibration.note:
        console.print(calibration.note, soft_wrap=True)
    what = f'{written / QUALITY_FILE}: {calibration.quality.data}'
    console.print(what, markup=False, soft_wrap=True)
    return 0


def calibrate_bundle(
    bundle_path: Path,
    validation: Images,
    out: Path | None = None,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> Bundle:
    """Counts a bundle's quality data and writes it; nothing else of the bundle changes.

    Args:
        bundle_path: The bundle's folder.
        validation: Images that no weight was fitted on, of the bundle's classes.
        out: The folder of the calibrated copy to make or replace; None = the bundle itself.
        progress: Called with how many images are done and how many there are.

    Returns:
        What was written, as read back from disk.

    Raises:
        AnytimeError: The bundle or the images cannot be used, or the disk refuses; all is then
            as it was.
    """
    bundle = read_bundle(bundle_path)
    note = _early_stop_note(bundle)
    return _write(bundle, calibrate(bundle, validation, note, progress=progress).quality, out)


def figures(bundle: Bundle, calibration: Calibration) -> dict[str, Any]:
    """What `--json` writes; shares as 0..1."""
    quality = calibration.quality
    return {
        'name': bundle.manifest.name,
        'data': quality.data,
        'held_out': quality.held_out,
        'images_fitted': calibration.num_fitted,
        'images_counted': calibration.num_counted,
        'stages': [asdict(stage) for stage in calibration.stages],
        'exit_rules': [asdict(rule) for rule in quality.exit_rules],
        'label_coverage': list(quality.label_coverage),
        'guards': [asdict(guard) for guard in calibration.guards],
    }


def _check_writable(bundle: Bundle, out: Path | None) -> None:
    """Refuses before the work what cannot be written after it."""
    target = bundle.path if out is None else out
    shipped = {path.resolve() for path in shipped_bundles().values()}
    if target.resolve() in shipped or (out is None and not os.access(bundle.path, os.W_OK)):
        raise ConfigurationError(
            f'{target} is part of the installed package or not writable: give another folder '
            'with --out DIR'
        )
    if out is not None:
        check_can_write_bundle(out)


def _early_stop_note(bundle: Bundle) -> str:
    return CHOSEN_BY_THEM if bundle.manifest.provenance.get('early_stop_epochs') else ''


def _write(bundle: Bundle, quality: Quality, out: Path | None) -> Bundle:
    """Writes the quality data into the bundle, or into a copy of it; whole or not at all."""
    if out is None:
        write_whole(bundle.path / QUALITY_FILE, quality_to_json(quality).encode())
        return read_bundle(bundle.path)
    files = {
        stage.name: bundle.stage_file(i).read_bytes()
        for i, stage in enumerate(bundle.manifest.stages)
    }
    return write_bundle(out, bundle.manifest, files, bundle.labels, quality)


def _table(calibration: Calibration) -> Table:
    table = Table(
        box=SIMPLE,
        title_justify='left',
        title=f'fitted on {calibration.num_fitted} images, counted on {calibration.num_counted} '
        'others',
    )
    heads = ('stage', 'T', 'accuracy %', 'NLL', 'calibrated', 'ECE', 'calibrated')
    for i, head in enumerate(heads):
        table.add_column(head, justify='right' if i else 'left')
    for s in calibration.stages:
        table.add_row(
            s.name,
            f'{s.temperature:.3f}',
            f'{100 * s.accuracy:.2f}',
            f'{s.nll:.4f}',
            f'{s.nll_calibrated:.4f}',
            f'{s.ece:.4f}',
            f'{s.ece_calibrated:.4f}',
        )
    return table


def _guard_table(calibration: Calibration) -> Table:
    table = Table(
        box=SIMPLE,
        title_justify='left',
        title='guards, on the images counted on: what is published, what is declared of it, and '
        'label sets',
    )
    heads = ('guard', 'stage', 'accuracy %', 'declared %', 'ECE', 'coverage %', 'classes', 'r→w %')
    for i, head in enumerate(heads):
        table.add_column(head, justify='right' if i > 1 else 'left')
    for guard in calibration.guards:
        for stage, e in zip(calibration.stages, guard.exits, strict=True):
            first = stage is calibration.stages[0]
            table.add_row(
                guard.monotone if first else '',
                stage.name,
                f'{100 * e.accuracy:.2f}',
                percent(e.declared_accuracy),
                f'{e.ece:.4f}',
                percent(e.coverage),
                '-' if e.label_set_size is None else f'{e.label_set_size:.2f}',
                percent(guard.monotone_violations['right_then_wrong']) if first else '',
            )
    return table
