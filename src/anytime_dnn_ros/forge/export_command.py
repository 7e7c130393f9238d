"""`anytime-dnn export`: a bundle from the checkpoint of a training."""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from anytime_dnn_ros.engines.stage_engines import TORCH2TRT
from anytime_dnn_ros.engines.tensorrt_options import PRECISIONS
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.forge import checkpoint, train
from anytime_dnn_ros.forge.checkpoint import Checkpoint, CheckpointError
from anytime_dnn_ros.forge.stage_limit import add_limit_arguments, read_limit
from anytime_dnn_ros.forge.staged import stage_macs
from anytime_dnn_ros.forge.start_training import Started, as_served, started
from anytime_dnn_ros.forge.torch2trt_builder import (
    CALIBRATION_IMAGES,
    Torch2trt,
    build_stages,
    find_torch2trt,
)
from anytime_dnn_ros.forge.train_job import Job, check_out, read_job
from anytime_dnn_ros.forge.trained_bundle import HALF_WEIGHTS_HELP, leave_bundle
from anytime_dnn_ros.forge.trainer import Trainer
from anytime_dnn_ros.ladder.bundle import read_bundle
from anytime_dnn_ros.timing.profile_cache import cache_folder
from anytime_dnn_ros.whole_file import check_can_write, write_whole

BUILDERS = ('onnx', TORCH2TRT)
# A stage is a piece of network with an exit, and the exit has to be trained.
LIMIT_MEND = (
    'each further cut is an exit to train: give `anytime-dnn train` the same --max-stage-ms and '
    '--target, without --stages and --cuts; it chooses how many stages keep to it'
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn export`."""
    parser.description = (
        'Makes the calibrated bundle of a training from its checkpoint, without training on: with '
        'halved weights, on another machine, or of a training that was stopped or still runs. The '
        'checkpoint knows the options of its `train` command.'
    )
    parser.add_argument(
        'checkpoint',
        type=Path,
        metavar='CHECKPOINT',
        help='DIR.train/checkpoint.pt of a training with --out DIR',
    )
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        metavar='DIR',
        help='what it was trained on, wherever that lies now: the bundle is checked and '
        'calibrated on the validation images',
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='BUNDLE', help='the folder to make or replace'
    )
    parser.add_argument('--half-weights', action='store_true', help=HALF_WEIGHTS_HELP)
    add_limit_arguments(parser.add_argument)
    engines = parser.add_argument_group('engines for this machine')
    engines.add_argument(
        '--builder',
        choices=BUILDERS,
        default=BUILDERS[0],
        help='onnx: the bundle alone, from whose files TensorRT builds when it first loads it; '
        'torch2trt: also build its engines here, with TensorRT before 11 (%(default)s)',
    )
    engines.add_argument(
        '--precision',
        choices=PRECISIONS[1:],
        help='of the engines that torch2trt builds; int8 is calibrated on the validation images '
        '(fp16). A node serves them with the same precision, auto is fp16',
    )
    engines.add_argument(
        '--cache-dir',
        metavar='DIR',
        help="where these engines are kept: the node's cache_dir ($XDG_CACHE_HOME or ~/.cache)",
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')


def run(args: argparse.Namespace) -> int:
    """Exports, calibrates and tells.

    Raises:
        AnytimeError: Checkpoint or data cannot be used, or the bundle cannot be written; a bundle
            that was there is left as it was.
    """
    check_out(args.out)
    if args.json:
        check_can_write(args.json)
    limit = read_limit(args)
    torch2trt, folder = _engine_options(args)
    saved = checkpoint.read(args.checkpoint)
    options = _train_options(saved, args)
    job = read_job(options)
    # Whatever it started from is in its own weights by now.
    start = {key: value for key, value in saved.identity.items() if key.startswith('start')}
    job = replace(
        job,
        identity=job.identity | start,
        command=f'{options.command} && {job.command}',
    )
    state = saved.state_of(job.identity)
    fabric = train.make_fabric(options)
    with started(fabric, job, learns=False) as training:
        if limit:
            limit.check(stage_macs(training.net, job.spec.image_shape), LIMIT_MEND)
        training.trainer.load_state_dict(state)
        print(f'{saved.path}: {_standing(training.trainer, job)}')
        figures = leave_bundle(fabric, job, training)
        if torch2trt:
            figures['engines'] = _build_engines(torch2trt, folder, args, job, training)
    if args.json:
        write_whole(args.json, (json.dumps(figures, indent=2) + '\n').encode())
    return 0


def _engine_options(args: argparse.Namespace) -> tuple[Torch2trt | None, Path]:
    """What builds engines, if anything is to, and where they are kept."""
    if args.builder != TORCH2TRT:
        for option, value in (('--precision', args.precision), ('--cache-dir', args.cache_dir)):
            if value is not None:
                raise ConfigurationError(
                    f'{option} is of the engines that --builder torch2trt builds; add that, or '
                    f'leave out {option}: a bundle holds no engines'
                )
        return None, Path()
    folder = cache_folder(args.cache_dir or '', _warn)
    if folder is None:
        raise ConfigurationError(
            f'--cache-dir {args.cache_dir or ""}: engines by torch2trt must be kept somewhere; '
            'name a folder'
        )
    return find_torch2trt(), folder


def _build_engines(
    torch2trt: Torch2trt, folder: Path, args: argparse.Namespace, job: Job, training: Started
) -> list[dict[str, Any]]:
    validation = job.dataset.validation
    spread = validation.pixels[:: math.ceil(len(validation) / CALIBRATION_IMAGES)]
    console = Console()
    with image_progress(console) as bar:
        built = build_stages(
            torch2trt,
            training.whole(training.trainer.result()),
            replace(training.normalisation, size=None),
            read_bundle(job.out),
            pixels=as_served(spread, job),
            precision=args.precision or 'fp16',
            folder=folder,
            say=_warn,
            progress=partial(bar, 'engines by torch2trt'),
        )
    for stage in built:
        print(f'{stage.agreement}; {stage.num_bytes / 2**20:.1f} MiB, kept in {folder}')
    return [asdict(stage) for stage in built]


def _warn(text: str) -> None:
    print(f'anytime-dnn: {text}', file=sys.stderr)


def _train_options(saved: Checkpoint, args: argparse.Namespace) -> argparse.Namespace:
    """The options of the `train` command, as if given again; data and place are the new ones."""
    if saved.options is None:
        raise CheckpointError(
            f'{saved.path} was saved before checkpoints knew the options of their training; give '
            'its `anytime-dnn train` command once more with --resume, which keeps them and exports'
        )
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    words = [saved.options['network'], f'--data={args.data}', f'--out={args.out}']
    options = parser.parse_args(words, argparse.Namespace(**saved.options))
    options.half_weights = args.half_weights
    return options


def _standing(trainer: Trainer, job: Job) -> str:
    """How far the training is.

    Raises:
        ConfigurationError: It has no whole epoch yet.
    """
    if not trainer.epoch:
        raise ConfigurationError(
            f'{job.spec.name}, rule {job.rule}, has not trained for a whole epoch yet; go on with '
            '`anytime-dnn train ... --resume` first'
        )
    standing = ''
    if not trainer.finished:
        standing = ': not finished, `anytime-dnn train ... --resume` goes on'
    elif trainer.epoch < job.recipe.epochs:
        standing = ': stopped early'
    return (
        f'{job.spec.name}, rule {job.rule}, after {trainer.epoch} of {job.recipe.epochs} epochs'
        f'{standing}'
    )
