"""What `anytime-dnn train` is asked for: from options to one training, its data read."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anytime_dnn_ros.datasets import Dataset, read_dataset
from anytime_dnn_ros.datasets.idx import DIGITS
from anytime_dnn_ros.datasets.read import VALIDATION_SHARE
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge import checkpoint
from anytime_dnn_ros.forge.augment import Augmentation
from anytime_dnn_ros.forge.checkpoint import Checkpoint
from anytime_dnn_ros.forge.networks import NetworkSpec, fit_width, is_pretrained
from anytime_dnn_ros.forge.recipe import FINE_TUNING_RATE, LEARNING_RATE, Recipe
from anytime_dnn_ros.forge.stage_limit import read_limit, within_limit
from anytime_dnn_ros.ladder.bundle import check_can_write_bundle
from anytime_dnn_ros.whole_file import check_can_write

# As in the manifest's schema.
BUNDLE_NAME = '[A-Za-z0-9][A-Za-z0-9_.-]*'
# Of an identity, where the trunk is frozen; such a checkpoint holds the exits only.
FROZEN = 'network frozen'
# Of an identity: the patience of what the training started from.
START_EARLY_STOP = 'start patience'
USUAL_VIEWS = 4
# Calibration fits on one half and counts on the other.
LEAST_VALIDATION = 2
# Options of one call or one machine: another call for the same training gives its own.
OF_THE_CALL = frozenset(
    {
        *('run', 'data', 'out', 'json', 'half_weights', 'resume', 'max_minutes', 'start_from'),
        *('threads', 'device', 'devices', 'num_nodes', 'strategy', 'max_stage_ms', 'target'),
    }
)


@dataclass(frozen=True)
class Job:
    """One training, asked for.

    Attributes:
        identity: What decides the weights that come out; a checkpoint must have the same.
        options: From which `read_job` reads the same training again, given data and place, and
            the command that gave them; plain values.
        validation_share: Of the training images, held out.
        half_weights: Store large weights as float16.
        resume: Go on from the checkpoint.
        max_s: Wall time that no epoch may end after, seconds.
        command: For the bundle's provenance.
        image_size: Height and width that the network reads, where it enlarges the images.
        views: Of each training image to keep the features of a frozen trunk for.
        start: The training whose weights this one begins with; None = it begins anew.
    """

    spec: NetworkSpec
    rule: str
    rule_options: dict[str, Any]
    recipe: Recipe
    dataset: Dataset
    validation_share: float
    identity: dict[str, Any]
    options: dict[str, Any]
    out: Path
    half_weights: bool
    resume: bool
    max_s: float
    command: str
    image_size: int | None = None
    views: int = 1
    start: Checkpoint | None = None

    @property
    def folder(self) -> Path:
        """Where checkpoint and log are: a bundle's own folder holds nothing else."""
        return train_folder(self.out)

    @property
    def checkpoint(self) -> Path:
        """The state after the last whole epoch."""
        return self.folder / 'checkpoint.pt'

    @property
    def log(self) -> Path:
        """One line per epoch."""
        return self.folder / 'log.csv'


def train_folder(out: Path) -> Path:
    """The folder beside a bundle for what its training leaves."""
    return out.with_name(f'{out.name}.train')


def read_job(args: argparse.Namespace) -> Job:
    """What the options ask for, checked, with the data read."""
    for option in ('width', 'mmac', 'threads', 'max_minutes', 'views', 'devices', 'num_nodes'):
        value = getattr(args, option)
        if value is not None and not 0 < value < math.inf:
            raise ConfigurationError(
                f'--{option.replace("_", "-")} {value}: give more than 0, and a finite number'
            )
    if not 0 < args.validation_share < 1:
        raise ConfigurationError(
            f'--validation-share {args.validation_share:g}: give more than 0 and less than 1'
        )
    dataset = read_dataset(
        args.data,
        size=args.size,
        limit=args.limit,
        validation_share=args.validation_share,
        parts=['train', 'validation'],
    )
    if len(dataset.validation) < LEAST_VALIDATION:
        raise ConfigurationError(
            f'{len(dataset.validation)} image is held out of {len(dataset.train) + 1}, and the '
            f'bundle is calibrated on {LEAST_VALIDATION} or more; give more images, or a larger '
            '--limit or --validation-share'
        )
    _, height, width, channels = dataset.train.pixels.shape
    if args.image_size is not None:
        height = width = _enlarged(args.image_size, height, width)
    spec = NetworkSpec(
        name=args.network,
        image_shape=(channels, height, width),
        num_classes=len(dataset.class_names),
        width=args.width,
        stages=args.stages,
        cuts=tuple(filter(None, (args.cuts or '').split(','))),
        features=args.features,
        frozen=args.freeze_trunk,
    )

    def fit(spec: NetworkSpec) -> NetworkSpec:
        return spec if args.mmac is None else fit_width(spec, args.mmac * 1e6)

    limit = read_limit(args)
    spec = within_limit(spec, limit, fit) if limit else fit(spec)
    recipe = Recipe(
        epochs=args.epochs,
        batch=args.batch,
        learning_rate=_usual_rate(spec) if args.lr is None else args.lr,
        seed=args.seed,
        ema=args.ema,
        weight_decay=args.weight_decay,
        patience=args.early_stop,
        augmentation=augmentation(args.augment, channels, dataset.class_names),
        precision=args.precision,
    )
    views = USUAL_VIEWS if args.views is None else args.views
    options = rule_options(args.rule_option)
    if args.label_smoothing:
        options['label_smoothing'] = args.label_smoothing
    command = shlex.join(['anytime-dnn', *sys.argv[1:]])
    network = {
        f'network {key}': value
        for key, value in asdict(spec).items()
        if value or key not in {'cuts', 'features', 'frozen'}
    }
    start = None if args.start_from is None else _read_start(args, network)
    if start and start.options:
        command = f'{start.options["command"]} && {command}'
    return Job(
        spec=spec,
        rule=args.rule,
        rule_options=options,
        recipe=recipe,
        dataset=dataset,
        validation_share=args.validation_share,
        identity={
            **network,
            'rule': args.rule,
            **{f'rule {key}': value for key, value in options.items()},
            **asdict(recipe),
            'data': data_digest(dataset),
            **({'views': views} if spec.frozen else {}),
            **(_identity_of(start) if start else {}),
        },
        options={
            **{name: value for name, value in vars(args).items() if name not in OF_THE_CALL},
            # As chosen: no other call needs the target's file for the same network.
            'stages': spec.stages,
            'command': command,
        },
        out=args.out.absolute(),
        half_weights=args.half_weights,
        resume=args.resume,
        max_s=float('inf') if args.max_minutes is None else args.max_minutes * 60,
        command=command,
        image_size=args.image_size,
        views=views,
        start=start,
    )


def _read_start(args: argparse.Namespace, network: dict[str, Any]) -> Checkpoint:
    """The training to begin with, if it is of this network.

    Args:
        args: Of the command.
        network: The network's part of the identity.
    """
    path: Path = args.start_from
    if path.resolve().parent == train_folder(args.out).resolve():
        raise ConfigurationError(
            f'--start-from {path} is in the folder where this training keeps its own checkpoint, '
            'and would be replaced; give another --out'
        )
    start = checkpoint.read(path)

    def without_frozen(identity: dict[str, Any]) -> dict[str, Any]:
        return {
            key: value
            for key, value in identity.items()
            if key.startswith('network ') and key != FROZEN
        }

    found = checkpoint.differences(without_frozen(start.identity), without_frozen(network))
    if found:
        raise ConfigurationError(
            f'--start-from {path} is of another network ({found}); give the same network, size '
            'and cuts, and images of the same kind'
        )
    if not start.state['epoch']:
        raise ConfigurationError(
            f'--start-from {path} has not trained for a whole epoch yet; go on with its own '
            'command and --resume first'
        )
    held_out = (start.options or {}).get('validation_share', VALIDATION_SHARE)
    if held_out < args.validation_share:
        raise ConfigurationError(
            f'--start-from {path} has learnt from images that this training would be validated '
            f'on; give --validation-share {held_out:g} or less'
        )
    if network.get(FROZEN) and not start.identity.get(FROZEN):
        raise ConfigurationError(
            f'--start-from {path}: its trunk has learnt with the exits, and a training of exits '
            'alone keeps no trunk; leave out --freeze-trunk'
        )
    return start


def _identity_of(start: Checkpoint) -> dict[str, Any]:
    """The start's part of an identity."""
    early_stop = early_stop_epochs(start.identity)
    return {
        'start': checkpoint.weights_digest(start.weights),
        **({START_EARLY_STOP: early_stop} if early_stop else {}),
    }


def early_stop_epochs(identity: Mapping[str, Any]) -> int:
    """The patience of a training, else of those that it started from; 0 = no early stop.

    Args:
        identity: Of the training.
    """
    return int(identity.get('patience') or identity.get(START_EARLY_STOP) or 0)


def _usual_rate(spec: NetworkSpec) -> float:
    fine_tuned = is_pretrained(spec.name) and not spec.frozen
    return FINE_TUNING_RATE if fine_tuned else LEARNING_RATE


def _enlarged(size: int, height: int, width: int) -> int:
    if height != width or size < height:
        raise ConfigurationError(
            f'--image-size {size}: images of {height}x{width} are enlarged only, and only square '
            'ones; --size fits them into a square or makes them smaller'
        )
    return size


def augmentation(text: str | None, channels: int, class_names: tuple[str, ...]) -> Augmentation:
    """The augmentation that `--augment` asks for; None is the usual one for such images.

    Raises:
        ConfigurationError: The text has something else than `flip`, `pad=N` and `cutout=N`.
    """
    if text is None:
        # He et al. (2016) for 32x32 colour; small gray images have a margin of their own.
        # A mirrored digit is none, or another one.
        digits = set(class_names) <= set(DIGITS)
        return Augmentation(flip=not digits, pad=4 if channels == 3 else 2, cutout=0)
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
    digest = hashlib.sha256('\n'.join(dataset.class_names).encode())
    for images in (dataset.train, dataset.validation):
        digest.update(np.ascontiguousarray(images.pixels).data)
        digest.update(np.ascontiguousarray(images.labels).data)
    return digest.hexdigest()[:16]


def check_places(args: argparse.Namespace) -> None:
    """What can be written after hours must be writable now."""
    check_out(args.out)
    check_can_write(train_folder(args.out) / 'checkpoint.pt')
    if args.json:
        check_can_write(args.json)


def check_frozen(args: argparse.Namespace) -> None:
    """What goes with a frozen trunk only, or not with one.

    Raises:
        ConfigurationError: The options do not go together.
    """
    if args.views is not None and not args.freeze_trunk:
        raise ConfigurationError(
            f'--views {args.views}: only a frozen trunk has its features kept; add '
            '--freeze-trunk, or leave it out'
        )
    processes = args.devices * args.num_nodes
    if args.freeze_trunk and processes > 1:
        raise ConfigurationError(
            f'--freeze-trunk: each of {processes} processes would compute and keep the features '
            'of all images; give --devices 1 and --num-nodes 1'
        )


def check_out(out: Path) -> None:
    """Refuses a folder that cannot become a bundle.

    Raises:
        ConfigurationError: It has no bundle's name.
        BundleError: It holds something else, or the disk refuses.
    """
    if not re.fullmatch(BUNDLE_NAME, out.name):
        raise ConfigurationError(
            f'--out {out}: the folder names the bundle: give one of letters, digits, _ . - '
            'that begins with a letter or digit'
        )
    check_can_write_bundle(out)
