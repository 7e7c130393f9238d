"""`anytime-dnn train`: trains a network by a rule and leaves a ladder bundle."""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anytime_dnn_ros.datasets.read import VALIDATION_SHARE
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge import checkpoint
from anytime_dnn_ros.forge.networks import NETWORKS, PRETRAINED
from anytime_dnn_ros.forge.processes import in_every_process
from anytime_dnn_ros.forge.progress import TrainingProgress
from anytime_dnn_ros.forge.recipe import (
    FINE_TUNING_RATE,
    LEARNING_RATE,
    PRECISIONS,
    WEIGHT_DECAY,
)
from anytime_dnn_ros.forge.rules import RULES
from anytime_dnn_ros.forge.stage_limit import add_limit_arguments
from anytime_dnn_ros.forge.staged import stage_macs
from anytime_dnn_ros.forge.start_training import Started, started
from anytime_dnn_ros.forge.train_job import USUAL_VIEWS, Job, check_frozen, check_places, read_job
from anytime_dnn_ros.forge.trained_bundle import HALF_WEIGHTS_HELP, leave_bundle
from anytime_dnn_ros.forge.trainer import Trainer
from anytime_dnn_ros.whole_file import write_whole

if TYPE_CHECKING:
    from lightning_fabric import Fabric

# Lightning Fabric's names; all of them give each process the whole network.
STRATEGIES = ('auto', 'ddp', 'ddp_spawn', 'ddp_fork')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn train`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        f'networks:\n{_listed(summaries())}\n  package.module:function  {PRETRAINED.summary}: the '
        'function gives a torch\n    module, or (module, mean, std) with the pixel scale it was '
        f'trained on\n\nrules:\n{_listed(RULES)}'
    )
    parser.add_argument('network', metavar='NETWORK', help='one of the networks below')
    parser.add_argument('--rule', default='sum', help='one of the rules below (%(default)s)')
    parser.add_argument(
        '--rule-option',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help="a setting of the rule's own; may be given again",
    )
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        metavar='DIR',
        help='folder or zip with train/<class>/..., folder with IDX files, or `fashion-mnist`',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='DIR',
        help='the bundle to make; checkpoint and log go to DIR.train',
    )
    parser.add_argument('--half-weights', action='store_true', help=HALF_WEIGHTS_HELP)
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    parser.add_argument('--resume', action='store_true', help='go on from the last whole epoch')
    parser.add_argument(
        '--start-from',
        type=Path,
        metavar='CHECKPOINT',
        help='begin with what another training of this network came to: its '
        'DIR.train/checkpoint.pt, such as that of exits trained with --freeze-trunk',
    )

    size = parser.add_argument_group('size')
    cost = size.add_mutually_exclusive_group()
    cost.add_argument('--width', type=float, default=1.0, help='channel multiplier (%(default)s)')
    cost.add_argument(
        '--mmac', type=float, help='the widest net whose stages together cost so many million MACs'
    )
    size.add_argument('--stages', type=int, default=0, help="how many (the network's own number)")
    add_limit_arguments(size.add_argument)
    size.add_argument('--size', type=int, help='fit images to this height and width, pixels')
    size.add_argument(
        '--image-size',
        type=int,
        metavar='PIXELS',
        help='enlarge each batch to this height and width: small images for a trained trunk',
    )
    size.add_argument('--limit', type=int, default=0, help='read so many training images (all)')
    size.add_argument(
        '--validation-share',
        type=float,
        default=VALIDATION_SHARE,
        metavar='SHARE',
        help='of the training images, held out to validate and calibrate; smaller leaves more to '
        'learn from (%(default)s)',
    )

    trunk = parser.add_argument_group(
        'trained trunk', 'for efficientnet_lite0 and package.module:function'
    )
    trunk.add_argument(
        '--cuts',
        metavar='NAME,NAME,...',
        help='modules to put an exit behind, besides the last (--stages N: N pieces of equal '
        'cost)',
    )
    trunk.add_argument(
        '--features',
        default='',
        metavar='NAME',
        help='the last module to keep (what pooling and classifier read)',
    )
    trunk.add_argument(
        '--freeze-trunk',
        action='store_true',
        help='run it once over all images and train the exits on what it gave',
    )
    trunk.add_argument(
        '--views',
        type=int,
        help='of each training image to keep the features of a frozen trunk for: itself and '
        f'augmented ones ({USUAL_VIEWS})',
    )

    recipe = parser.add_argument_group('recipe')
    recipe.add_argument('--epochs', type=int, default=30, help='(%(default)s)')
    recipe.add_argument('--batch', type=int, default=128, help='images per step (%(default)s)')
    recipe.add_argument(
        '--lr',
        type=float,
        help=f'top of the cosine ({LEARNING_RATE:g}; {FINE_TUNING_RATE:g} where a trained trunk '
        'is not frozen)',
    )
    recipe.add_argument('--weight-decay', type=float, default=WEIGHT_DECAY, help='(%(default)s)')
    recipe.add_argument('--label-smoothing', type=float, default=0.0, help='(%(default)s)')
    recipe.add_argument(
        '--ema', type=float, default=0.0, help='decay of the average of weights to export (none)'
    )
    recipe.add_argument(
        '--augment',
        metavar='flip,pad=N,cutout=N',
        help='what of these, or `none` (flip,pad=4 for colour, flip,pad=2 for gray; no flip where '
        'the classes are digits)',
    )
    recipe.add_argument('--seed', type=int, default=0, help='(%(default)s)')
    recipe.add_argument(
        '--early-stop',
        type=int,
        default=0,
        metavar='EPOCHS',
        help='stop after so many epochs without a better mean validation accuracy; keep the best',
    )
    recipe.add_argument(
        '--max-minutes', type=float, help='stop before the epoch that would end later than this'
    )

    machine = parser.add_argument_group('machine')
    machine.add_argument('--precision', choices=PRECISIONS, default=PRECISIONS[0])
    machine.add_argument('--device', default='auto', help='auto, cpu, cuda (%(default)s)')
    machine.add_argument('--devices', type=int, default=1, help='per machine (%(default)s)')
    machine.add_argument('--num-nodes', type=int, default=1, help='machines (%(default)s)')
    machine.add_argument(
        '--strategy', choices=STRATEGIES, default='auto', help='how processes start (%(default)s)'
    )
    machine.add_argument('--threads', type=int, help="of the CPU (torch's own number)")


def summaries() -> dict[str, str]:
    """Name and one line for each network that `train` knows."""
    return {name: network.summary for name, network in NETWORKS.items()}


def _listed(entries: dict[str, str]) -> str:
    width = max(map(len, entries))
    return '\n'.join(f'  {name:{width}}  {summary}' for name, summary in entries.items())


def run(args: argparse.Namespace) -> int:
    """Trains, exports and tells.

    Raises:
        AnytimeError: Options, data or checkpoint do not fit, or the training diverged.
    """
    check_frozen(args)
    check_places(args)
    job = read_job(args)
    fabric = make_fabric(args)
    figures = in_every_process(fabric, partial(train, job=job, threads=args.threads))
    if args.json and fabric.is_global_zero:
        write_whole(args.json, (json.dumps(figures, indent=2) + '\n').encode())
    return 0


def make_fabric(args: argparse.Namespace) -> Fabric:
    """The machine's half of the training.

    Raises:
        ConfigurationError: There is no such device or strategy.
    """
    # A second to import: not for --help.
    from lightning_fabric import Fabric  # noqa: PLC0415
    from lightning_fabric.utilities.exceptions import MisconfigurationException  # noqa: PLC0415

    logging.getLogger('lightning_fabric').setLevel(logging.WARNING)
    try:
        return Fabric(
            accelerator=args.device,
            devices=args.devices,
            num_nodes=args.num_nodes,
            strategy=args.strategy,
            precision=args.precision,
        )
    except (ValueError, RuntimeError, TypeError, MisconfigurationException) as error:
        raise ConfigurationError(
            f'no training on --device {args.device} --devices {args.devices} --strategy '
            f'{args.strategy}: {error}'
        ) from error


def train(fabric: Fabric, job: Job, threads: int | None = None) -> dict[str, Any]:
    """Trains and exports; every process of the fabric runs it, the first one writes.

    Args:
        fabric: Launched.
        job: What to train.
        threads: Of the CPU, for each process; None = torch's own number.

    Returns:
        The figures for `--json`.
    """
    if threads:
        torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(job.recipe.seed)
    with started(fabric, job) as training:
        return _train(fabric, job, training)


def _train(fabric: Fabric, job: Job, training: Started) -> dict[str, Any]:
    trainer = training.trainer
    macs = stage_macs(training.net, job.spec.image_shape)
    if job.resume:
        trainer.load_state_dict(checkpoint.load(job.checkpoint, job.identity))
    elif fabric.is_global_zero:
        _set_aside(job.checkpoint)
    if fabric.is_global_zero:
        _save(trainer, job)
    try:
        _run_epochs(fabric, trainer, job, macs)
        return leave_bundle(fabric, job, training)
    except KeyboardInterrupt:
        if fabric.is_global_zero:
            print(
                f'stopped; every whole epoch is in {job.folder}: give the same command with '
                '--resume to go on',
                file=sys.stderr,
            )
        raise


def _run_epochs(fabric: Fabric, trainer: Trainer, job: Job, macs: list[int]) -> None:
    with TrainingProgress(
        job.recipe.epochs,
        trainer.steps_per_epoch,
        done=trainer.epoch,
        quiet=not fabric.is_global_zero,
    ) as progress:
        progress.say(
            f'{job.spec.name}, rule {job.rule}: {len(macs)} stages of '
            f'{" ".join(f"{m / 1e6:.2f}" for m in macs)} MMAC, {sum(macs) / 1e6:.2f} together; '
            f'{len(job.dataset.train)} images to learn from, {len(job.dataset.validation)} to '
            f'validate, on {fabric.world_size} x {fabric.device}'
            f'{f", starting from {job.start.path}" if job.start else ""}'
        )
        _run_to_the_end(fabric, trainer, job, progress)


def _run_to_the_end(
    fabric: Fabric, trainer: Trainer, job: Job, progress: TrainingProgress
) -> None:
    start, longest_s = time.perf_counter(), 0.0
    while not trainer.finished:
        begun = time.perf_counter()
        # Every process must stop at the same epoch.
        if fabric.broadcast(begun + longest_s - start > job.max_s):
            progress.say(
                f'stopped by --max-minutes after {trainer.epoch} of {job.recipe.epochs} epochs; '
                '--resume goes on'
            )
            return
        progress.epoch(trainer.run_epoch(progress.step))
        if fabric.is_global_zero:
            _save(trainer, job)
        longest_s = max(longest_s, time.perf_counter() - begun)
    if trainer.epoch < job.recipe.epochs:
        progress.say(f'stopped early: no epoch was better than epoch {trainer.best_epoch}')


def _set_aside(file: Path) -> None:
    """Keeps the checkpoint of an earlier training under another name."""
    if file.exists():
        file.replace(file.with_name(f'previous_{file.name}'))


def _save(trainer: Trainer, job: Job) -> None:
    exits = range(1, len(trainer.net) + 1)
    columns = (
        *('epoch', 'lr'),
        *(f'loss_{k}' for k in exits),
        *(f'accuracy_{k}' for k in exits),
        *('seconds', 'images_per_s'),
    )
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerow(columns)
    writer.writerows(
        (f.epoch, f.learning_rate, *f.losses, *f.accuracies, f.seconds, f.images_per_s)
        for f in trainer.history
    )
    checkpoint.save(job.checkpoint, job.identity, trainer.state_dict(), job.options)
    write_whole(job.log, rows.getvalue().encode())
