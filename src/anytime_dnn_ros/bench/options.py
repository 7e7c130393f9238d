"""The options of `anytime-dnn bench`, and what they mean together."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from anytime_dnn_ros.bench.deadlines import given_deadlines
from anytime_dnn_ros.bench.load import LOADS, TRACE, load_plan
from anytime_dnn_ros.bench.policies import OURS
from anytime_dnn_ros.bench.rows import WHAT_IS_COUNTED
from anytime_dnn_ros.engines.factory import ENGINES
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.timing.realtime import USUAL_PRIORITY
from anytime_dnn_ros.whole_file import check_can_write

AUTO, ALL = 'auto', 'all'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn bench`."""
    parser.epilog = WHAT_IS_COUNTED
    add = parser.add_argument
    add('--bundle', default='fashion', help='shipped name or folder (default fashion)')
    add(
        '--data',
        type=Path,
        metavar='DIR',
        help='labelled test images, as in `anytime-dnn report`, or one photo per class, as in '
        '`anytime-dnn ensemble`; fashion takes fashion-mnist',
    )
    add('--size', type=int, metavar='PIXELS', help='fit images of many sizes into this square')
    add(
        '--loads',
        default='none,step',
        metavar='NAMES',
        help=f'{", ".join(LOADS)} or {TRACE}FILE with a CSV file that monitor_node recorded; '
        'several with commas (default none,step)',
    )
    add(
        '--deadlines',
        default=AUTO,
        metavar='MS',
        help='milliseconds with commas, or auto: three that suit this ladder and machine',
    )
    add(
        '--policies',
        metavar='NAMES',
        help='all, or some of ours, alert, fixed_p99, greedy, static_1 to static_N, oracle '
        '(default all; with --ros ours, which is what the node has)',
    )
    add('--frames', type=int, default=600, metavar='N', help='frames of each pass (default 600)')
    add('--rate-hz', type=float, default=60.0, help='camera frames per second (default 60)')
    add(
        '--miss-target',
        type=float,
        default=0.01,
        help='accepted share of missed deadlines, 0.0001 to 0.5 (default 0.01)',
    )
    add('--seed', type=int, default=0, help='which images, and the order of the passes')
    add('--engine', choices=ENGINES, default='auto', help='library that runs the stages')
    add('--threads', type=int, default=1, help='CPU threads inside a stage (default 1)')
    add(
        '--realtime-priority',
        type=int,
        default=USUAL_PRIORITY,
        metavar='N',
        help='SCHED_FIFO priority of camera, worker and timer, for every policy; 0 = none '
        f'(default {USUAL_PRIORITY}, as the node)',
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '--record',
        type=Path,
        metavar='FILE',
        help='record one run per load (FILE-LOAD where there are several), and replay it',
    )
    how.add_argument(
        '--replay', type=Path, nargs='+', metavar='FILE', help='play recorded runs, no machine'
    )
    how.add_argument(
        '--ros', action='store_true', help='through anytime_node and DDS; policy ours only'
    )
    add('--json', type=Path, metavar='FILE', help='write the figures here')
    add('--html', type=Path, metavar='FILE', help='write a page with plots here')


def check_options(args: argparse.Namespace) -> None:
    """Says at once what would else be said after minutes.

    Raises:
        ConfigurationError: An option cannot be used.
    """
    for option, value, low, high in (
        ('--frames', args.frames, 2, 1_000_000),
        ('--rate-hz', args.rate_hz, 0.1, 1000.0),
        ('--miss-target', args.miss_target, 0.0001, 0.5),
        ('--seed', args.seed, 0, 2**32 - 1),
        ('--threads', args.threads, 1, 64),
        ('--realtime-priority', args.realtime_priority, 0, 99),
    ):
        # Not `value < low or value > high`, which a NaN passes.
        if not low <= value <= high:
            raise ConfigurationError(f'{option} {value:g}: give {low:g} to {high:g}')
    if args.ros and args.policies not in {None, OURS}:
        raise ConfigurationError(
            f'--ros --policies {args.policies}: anytime_node has one policy; give --policies '
            f'{OURS}, or leave --ros out to compare policies in one process'
        )
    if args.deadlines != AUTO:
        given_deadlines(args.deadlines)
    records = [record_file(args, name) for name in load_names(args)] if args.record else []
    if len(set(records)) < len(records):
        raise ConfigurationError(
            f'--record {args.record} --loads {args.loads}: two of the loads would be recorded in '
            'one file; give one load after the other, or rename a trace'
        )
    if not args.replay:
        for name in load_names(args):
            load_plan(name, args.frames / args.rate_hz)
    for file in filter(None, (args.json, args.html, *records)):
        check_can_write(file)


def load_names(args: argparse.Namespace) -> list[str]:
    """The loads that are asked for, each once."""
    return list(dict.fromkeys(word.strip() for word in args.loads.split(',')))


def record_file(args: argparse.Namespace, load: str) -> Path:
    """Where the recording under a load is written: a file for each of several loads."""
    file: Path = args.record
    if len(load_names(args)) == 1:
        return file
    name = load.removeprefix(TRACE) if load.startswith(TRACE) else load
    word = re.sub(r'\W+', '_', Path(name).stem)
    return file.with_name(f'{file.stem}-{word}{file.suffix}')
