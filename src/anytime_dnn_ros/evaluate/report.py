"""`anytime-dnn report`: accuracy of ladders against what they cost, on labelled images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.curve import Budget, LadderCurve
from anytime_dnn_ros.evaluate.judged import percent
from anytime_dnn_ros.evaluate.labelled import add_data_options, read_test, read_validation
from anytime_dnn_ros.evaluate.measurement import Measurement, figures, measure
from anytime_dnn_ros.evaluate.monotone import FALLS
from anytime_dnn_ros.evaluate.page import html_page
from anytime_dnn_ros.evaluate.plots import MMAC, curve_figure, rendered
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.evaluate.versions import versions
from anytime_dnn_ros.ladder.bundle import find_bundle, read_bundle
from anytime_dnn_ros.whole_file import check_can_write, write_whole

PLOT_FORMS = ('.png', '.svg')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn report`."""
    parser.add_argument('bundles', nargs='+', metavar='BUNDLE', help='shipped name or folder')
    add_data_options(parser)
    parser.add_argument(
        '--split',
        choices=['test', 'validation'],
        default='test',
        help='which images to count on (default test); half of the validation images may have '
        'fitted the temperatures, which flatters their ECE',
    )
    parser.add_argument(
        '--budget-mmac',
        type=budget,
        metavar='LO,HI',
        help='take the area under the curve over these costs, in millions of '
        'multiply-accumulates (default: 0 to the last exit of the costliest ladder)',
    )
    parser.add_argument(
        '--budget-ms',
        type=budget,
        metavar='LO,HI',
        help='the same over milliseconds of this machine',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    parser.add_argument('--html', type=Path, metavar='FILE', help='write a page with plots here')
    parser.add_argument(
        '--plot', type=Path, metavar='FILE', help='write the curves here, as .png or .svg'
    )


def budget(text: str) -> Budget:
    """The budget that an option gives as `LO,HI`.

    Raises:
        argparse.ArgumentTypeError: It is none.
    """
    try:
        low, high = map(float, text.split(','))
        return Budget(low, high)
    except (ValueError, ConfigurationError) as error:
        raise argparse.ArgumentTypeError(
            f'{text!r} is no budget: give LO,HI with 0 <= LO < HI'
        ) from error


def run(args: argparse.Namespace) -> int:
    """Measures the ladders, prints their figures and writes what was asked for.

    Raises:
        AnytimeError: A bundle, the data or an option cannot be used; nothing is written then.
    """
    if args.plot and args.plot.suffix not in PLOT_FORMS:
        raise ConfigurationError(
            f'--plot {args.plot}: give a file that ends in {" or ".join(PLOT_FORMS)}'
        )
    for file in filter(None, (args.json, args.html, args.plot)):
        check_can_write(file)
    bundles = [read_bundle(find_bundle(name)) for name in args.bundles]
    images = read_test(args) if args.split == 'test' else read_validation(args, bundles)
    console = Console()
    mmac = args.budget_mmac
    with image_progress(console) as progress:
        measurement = measure(
            bundles,
            images,
            macs=mmac and Budget(mmac.low * MMAC, mmac.high * MMAC),
            times_ms=args.budget_ms,
            progress=progress,
        )
    # Before the tables: a reader such as `head` may close the terminal's end.
    if args.json:
        text = json.dumps(figures(measurement), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(args.json, f'{text}\n'.encode())
    if args.html:
        write_whole(args.html, html_page(measurement, versions()).encode())
    if args.plot:
        m = measurement
        figure = curve_figure(m.ladders, m.title, m.macs, m.times_ms)
        write_whole(args.plot, rendered(figure, args.plot.suffix.removeprefix('.')))
    _print(console, measurement)
    return 0


def _print(console: Console, m: Measurement) -> None:
    console.print(f'{m.title}. {m.timing_note}', markup=False, highlight=False, soft_wrap=True)
    for ladder in m.ladders:
        console.print(_exit_table(m, ladder))
        console.print(_published_table(ladder))
    falls = [f'>{d:g}' for d in FALLS]
    table = _table(
        'later is worse: % of images whose p(true class) falls by so much; % right, then wrong; '
        '% of exits below an earlier one',
        ('ladder', *falls, 'r→w', 'exits'),
    )
    for ladder in m.ladders:
        shares = ladder.monotone_violations.values()
        table.add_row(escape(ladder.name), *(f'{100 * share:.1f}' for share in shares))
    console.print(table)


def _exit_table(m: Measurement, ladder: LadderCurve) -> Table:
    area = ladder.area(m.macs, 'macs_sequential')
    title = (
        f'{escape(ladder.name)}, {ladder.kind}: mean accuracy {area:.2%} over '
        f'{m.macs.low / MMAC:.4g} to {m.macs.high / MMAC:.4g} MMAC'
    )
    heads = ('exit', 'MMAC', 'ms', 'p99 ms', 'top-1 %', 'ECE %', 'ECE calibrated %')
    table = _table(title, heads)
    for e in ladder.exits:
        table.add_row(
            escape(e.name),
            f'{e.macs_sequential / MMAC:.2f}',
            f'{e.time_ms:.2f}',
            f'{e.time_p99_ms:.2f}',
            f'{100 * e.top1:.2f}',
            f'{100 * e.ece:.2f}',
            '-' if e.ece_calibrated is None else f'{100 * e.ece_calibrated:.2f}',
        )
    return table


def _published_table(ladder: LadderCurve) -> Table:
    title = (
        f'{escape(ladder.name)}: what is published and declared, guard {ladder.judged.monotone}'
    )
    heads = ('exit', 'top-1 %', 'declared %', 'ECE %', 'stated %', 'coverage %', 'classes')
    table = _table(title, heads)
    stated = ladder.label_coverage or (None,) * len(ladder.exits)
    for e, said, share in zip(ladder.exits, ladder.judged.exits, stated, strict=True):
        table.add_row(
            escape(e.name),
            percent(said.accuracy),
            percent(said.declared_accuracy),
            percent(said.ece),
            percent(share),
            percent(said.coverage),
            '-' if said.label_set_size is None else f'{said.label_set_size:.2f}',
        )
    return table


def _table(title: str, heads: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify='left', box=SIMPLE)
    for i, head in enumerate(heads):
        table.add_column(head, justify='right' if i else 'left')
    return table
