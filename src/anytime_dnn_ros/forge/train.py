"""`anytime-dnn train`: trains a network by a rule and leaves a ladder bundle."""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import json
import logging
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from anytime_dnn_ros.datasets import Dataset, image_spec, read_dataset
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge import checkpoint
from anytime_dnn_ros.forge.augment import Augmentation
from anytime_dnn_ros.forge.ladder_export import export_ladder
from anytime_dnn_ros.forge.networks import NETWORKS, NetworkSpec, build, fit_width
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.progress import TrainingProgress
from anytime_dnn_ros.forge.rules import RULES, Rule, make_rule
from anytime_dnn_ros.forge.staged import stage_macs
from anytime_dnn_ros.forge.trainer import PRECISIONS, WEIGHT_DECAY, Recipe, Trainer

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PARITY_IMAGES = 256
CHECKPOINT, LOG = 'checkpoint.pt', 'log.csv'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn train`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f'networks:\n{_listed(summaries())}\n\nrules:\n{_listed(RULES)}'
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
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    parser.add_argument('--resume', action='store_true', help='go on from the last whole epoch')

    size = parser.add_argument_group('size')
    cost = size.add_mutually_exclusive_group()
    cost.add_argument('--width', type=float, default=1.0, help='channel multiplier (%(default)s)')
    cost.add_argument(
        '--mmac', type=float, help='the widest net whose stages together cost so many million MACs'
    )
    size.add_argument('--stages', type=int, default=0, help="how many (the network's own number)")
    size.add_argument('--size', type=int, help='fit images to this height and width, pixels')
    size.add_argument('--limit', type=int, default=0, help='read so many training images (all)')

    recipe = parser.add_argument_group('recipe')
    recipe.add_argument('--epochs', type=int, default=30, help='(%(default)s)')
    recipe.add_argument('--batch', type=int, default=128, help='images per step (%(default)s)')
    recipe.add_argument('--lr', type=float, default=0.1, help='top of the cosine (%(default)s)')
    recipe.add_argument('--weight-decay', type=float, default=WEIGHT_DECAY, help='(%(default)s)')
    recipe.add_argument('--label-smoothing', type=float, default=0.0, help='(%(default)s)')
    recipe.add_argument(
        '--ema', type=float, default=0.0, help='decay of the average of weights to export (none)'
    )
    recipe.add_argument(
        '--augment',
        metavar='flip,pad=N,cutout=N',
        help='what of these, or `none` (flip,pad=4 for colour, flip,pad=2 for gray)',
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
    machine.add_argument('--device', default='auto', help='auto, cpu, cuda, mps (%(default)s)')
    machine.add_argument('--devices', type=int, default=1, help='per machine (%(default)s)')
    machine.add_argument('--num-nodes', type=int, default=1, help='machines (%(default)s)')
    machine.add_argument('--strategy', default='auto', help='of Lightning Fabric (%(default)s)')
    machine.add_argument('--threads', type=int, help="of the CPU (torch's own number)")


def summaries() -> dict[str, str]:
    """Name and one line for each network that `train` knows."""
    return {name: network.summary for name, network in NETWORKS.items()}


def _listed(entries: dict[str, str]) -> str:
    width = max(map(len, entries))
    return '\n'.join(f'  {name:{width}}  {summary}' for name, summary in entries.items())


@dataclass(frozen=True)
class Job:
    """One training, asked for.

    Attributes:
        identity: What decides the weights that come out; a checkpoint must have the same.
        early_stop: Epochs of patience; 0 = none.
        command: For the bundle's provenance.
    """

    spec: NetworkSpec
    rule: str
    rule_options: dict[str, Any]
    recipe: Recipe
    dataset: Dataset
    identity: dict[str, Any]
    out: Path
    resume: bool
    early_stop: int
    max_s: float
    command: str

    @property
    def folder(self) -> Path:
        """Where checkpoint and log are: a bundle's own folder holds nothing else."""
        return self.out.with_name(f'{self.out.name}.train')


def run(args: argparse.Namespace) -> int:
    """Trains, exports and tells.

    Raises:
        AnytimeError: Options, data or checkpoint do not fit, or the training diverged.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    job = read_job(args)
    fabric = make_fabric(args)
    try:
        figures = fabric.launch(train, job)
    except KeyboardInterrupt:
        print(
            f'\nstopped; every whole epoch is in {job.folder}: give the same command with '
            '--resume to go on',
            file=sys.stderr,
        )
        raise
    if args.json and fabric.is_global_zero:
        args.json.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
    return 0


def read_job(args: argparse.Namespace) -> Job:
    """What the options ask for, checked, with the data read."""
    dataset = read_dataset(args.data, size=args.size, limit=args.limit)
    _, height, width, channels = dataset.train.pixels.shape
    spec = NetworkSpec(
        name=args.network,
        image_shape=(channels, height, width),
        num_classes=len(dataset.class_names),
        width=args.width,
        stages=args.stages,
    )
    if args.mmac is not None:
        spec = fit_width(spec, args.mmac * 1e6)
    recipe = Recipe(
        epochs=args.epochs,
        batch=args.batch,
        learning_rate=args.lr,
        seed=args.seed,
        ema=args.ema,
        weight_decay=args.weight_decay,
        augmentation=augmentation(args.augment, channels),
        precision=args.precision,
    )
    options = rule_options(args.rule_option)
    if args.label_smoothing:
        options['label_smoothing'] = args.label_smoothing
    return Job(
        spec=spec,
        rule=args.rule,
        rule_options=options,
        recipe=recipe,
        dataset=dataset,
        identity={
            **{f'network {key}': value for key, value in asdict(spec).items()},
            'rule': args.rule,
            **{f'rule {key}': value for key, value in options.items()},
            **asdict(recipe),
            'data': data_digest(dataset),
        },
        out=args.out.absolute(),
        resume=args.resume,
        early_stop=args.early_stop,
        max_s=float('inf') if args.max_minutes is None else args.max_minutes * 60,
        command=shlex.join(['anytime-dnn', *sys.argv[1:]]),
    )


def augmentation(text: str | None, channels: int) -> Augmentation:
    """The augmentation that `--augment` asks for; None is the usual one for so many channels.

    Raises:
        ConfigurationError: The text has something else than `flip`, `pad=N` and `cutout=N`.
    """
    if text is None:
        # He et al. (2016) for 32x32 colour; small gray images have a margin of their own.
        return Augmentation(flip=True, pad=4 if channels == 3 else 2, cutout=0)
    values = {'flip': 0, 'pad': 0, 'cutout': 0}
    for word in [] if text == 'none' else text.split(','):
        name, _, number = word.partition('=')
        fits = word == 'flip' or (name in {'pad', 'cutout'} and number.isdecimal())
        if not fits:
            raise ConfigurationError(
                f'--augment {text}: {word!r} is none of flip, pad=PIXELS, cutout=PIXELS; '
                'give some of these with commas between, or none'
            )
        values[name] = int(number or 1)
    return Augmentation(bool(values['flip']), values['pad'], values['cutout'])


def rule_options(words: list[str]) -> dict[str, Any]:
    """Settings of a rule from `NAME=VALUE` words; a value is a number, a list of them, or text.

    Raises:
        ConfigurationError: A word has no `=`.
    """
    options: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition('=')
        if not equals:
            raise ConfigurationError(f'--rule-option {word}: give NAME=VALUE')
        try:
            options[name.replace('-', '_')] = json.loads(text)
        except ValueError:
            options[name.replace('-', '_')] = text
    return options


def data_digest(dataset: Dataset) -> str:
    """What the weights learn from, in 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for images in (dataset.train, dataset.validation):
        digest.update(images.pixels)
        digest.update(images.labels)
    return digest.hexdigest()[:16]


def make_fabric(args: argparse.Namespace) -> Fabric:
    """The machine's half of the training.

    Raises:
        ConfigurationError: There is no such device or strategy.
    """
    from lightning_fabric import Fabric  # noqa: PLC0415 - a second to import, not for --help

    logging.getLogger('lightning_fabric').setLevel(logging.WARNING)
    try:
        return Fabric(
            accelerator=args.device,
            devices=args.devices,
            num_nodes=args.num_nodes,
            strategy=args.strategy,
            precision=args.precision,
        )
    except (ValueError, RuntimeError, TypeError) as error:
        raise ConfigurationError(
            f'no training on --device {args.device} --devices {args.devices} --strategy '
            f'{args.strategy}: {error}'
        ) from error


def train(fabric: Fabric, job: Job) -> dict[str, Any]:
    """Trains and exports; every process of the fabric runs it, the first one writes.

    Returns:
        The figures for `--json`.
    """
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(job.recipe.seed)
    net = build(job.spec)
    macs = stage_macs(net, job.spec.image_shape)
    rule = make_rule(job.rule, net, **job.rule_options)
    normalisation = Normalisation.of(job.dataset.train)
    trainer = Trainer(
        fabric,
        net,
        rule,
        job.recipe,
        train=job.dataset.train,
        validation=job.dataset.validation,
        normalisation=normalisation,
    )
    start = time.perf_counter()
    first = fabric.is_global_zero
    if job.resume:
        trainer.load_state_dict(checkpoint.load(job.folder / CHECKPOINT, job.identity))
    elif first:
        _save(trainer, job)
    with TrainingProgress(
        job.recipe.epochs, trainer.steps_per_epoch, done=trainer.epoch, quiet=not first
    ) as progress:
        progress.say(
            f'{job.spec.name}, rule {job.rule}: {len(net)} stages of '
            f'{" ".join(f"{m / 1e6:.2f}" for m in macs)} MMAC, {sum(macs) / 1e6:.2f} together; '
            f'{len(job.dataset.train)} images to learn from, {len(job.dataset.validation)} to '
            'validate'
        )
        longest_s = 0.0
        while trainer.epoch < job.recipe.epochs:
            begun = time.perf_counter()
            if begun + longest_s - start > job.max_s:
                progress.say(f'stopped by --max-minutes after {trainer.epoch} epochs')
                break
            progress.epoch(trainer.run_epoch(progress.step))
            if first:
                _save(trainer, job)
            longest_s = max(longest_s, time.perf_counter() - begun)
    return _export(trainer, rule, job, normalisation, macs) if first else {}


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
    checkpoint.save(job.folder / CHECKPOINT, job.identity, trainer.state_dict())
    checkpoint.write_whole(job.folder / LOG, rows.getvalue().encode())


def _export(
    trainer: Trainer, rule: Rule, job: Job, normalisation: Normalisation, macs: list[int]
) -> dict[str, Any]:
    validation = job.dataset.validation
    bundle = export_ladder(
        trainer.scored_net,
        job.out,
        normalisation=normalisation,
        combine=rule.combine(len(macs)),
        image=image_spec(job.spec.image_shape[0]),
        class_names=job.dataset.class_names,
        parity_pixels=validation.pixels[:PARITY_IMAGES],
        provenance={
            'command': job.command,
            'data': f'{job.dataset.train.name}, validated on {validation.name}',
            'licence': 'the weights: as their training data allows',
        },
    )
    last = trainer.history[-1]
    print(f'bundle {bundle.path}')
    return {
        'network': asdict(job.spec),
        'rule': job.rule,
        'options': job.identity,
        'macs': macs,
        'validation_accuracies': last.accuracies,
        'epochs': trainer.epoch,
        'seconds': sum(f.seconds for f in trainer.history),
        'images_per_s': last.images_per_s,
        'bundle': str(bundle.path),
    }
