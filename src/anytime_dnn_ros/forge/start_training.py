"""From a job to a trainer that is ready, and from its result to a whole network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from anytime_dnn_ros.datasets import image_spec
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.forge.anytime_trunk import StagedExits, with_exits
from anytime_dnn_ros.forge.checkpoint import Checkpoint
from anytime_dnn_ros.forge.feature_cache import AnyView, cached_features
from anytime_dnn_ros.forge.ladder_export import check_exportable
from anytime_dnn_ros.forge.networks import build, is_pretrained, pretrained_normalisation
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.rules import Rule, make_rule
from anytime_dnn_ros.forge.staged import StagedNet
from anytime_dnn_ros.forge.train_job import FROZEN, Job
from anytime_dnn_ros.forge.trainer import Trainer
from anytime_dnn_ros.ladder.frame_fit import fit_frame

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class Started:
    """A training that may begin.

    Attributes:
        net: The whole network.
        normalisation: From pixels to what the network reads.
        trainer: Of the whole network, or of its exits on cached features of a frozen trunk.
    """

    net: StagedNet
    normalisation: Normalisation
    rule: Rule
    trainer: Trainer

    def whole(self, result: StagedNet) -> StagedNet:
        """The whole network with what the trainer's result came to."""
        return with_exits(self.net, result) if isinstance(result, StagedExits) else result


@contextmanager
def started(fabric: Fabric, job: Job, *, learns: bool = True) -> Iterator[Started]:
    """Builds network, rule and trainer; computes the features of a frozen trunk.

    Args:
        fabric: Launched.
        job: What to train.
        learns: Whether an epoch will be run; else a frozen trunk's features of one batch do.

    Raises:
        AnytimeError: The parts do not fit together, or a network of the user's own cannot be
            exported.
    """
    net = build(job.spec)
    if job.start:
        _begin_with(net, job.start)
    normalisation = replace(
        pretrained_normalisation(job.spec) or Normalisation.of(job.dataset.train),
        size=job.image_size,
    )
    if learns and is_pretrained(job.spec.name):
        # Hours of training must not end in this error.
        image = as_served(job.dataset.validation.pixels[:1], job)
        check_exportable(net, replace(normalisation, size=None), image)
    trained = StagedExits(net) if job.spec.frozen else net
    rule = make_rule(job.rule, trained, **job.rule_options)
    train, validation = job.dataset.train, job.dataset.validation
    if not job.spec.frozen:
        trainer = Trainer(
            fabric,
            net,
            rule,
            job.recipe,
            train=train,
            validation=validation,
            normalisation=normalisation,
        )
        yield Started(net, normalisation, rule, trainer)
        return
    if rule.cycles > 1:
        raise ConfigurationError(
            f'rule {rule.name} makes a ladder of {rule.cycles} whole networks, which cannot share '
            'a frozen trunk; leave out --freeze-trunk, or give another rule'
        )
    views = job.views
    if not learns:
        train, views = train.subset(np.arange(min(job.recipe.batch, len(train)))), 1
    net.to(fabric.device)
    console = Console(quiet=not fabric.is_global_zero)
    if learns:
        # A log file shows no bar, and this takes minutes.
        console.print(f'the frozen trunk first sees {len(train)} images, {views} x each')
    with (
        image_progress(console) as bar,
        cached_features(
            net,
            train,
            validation,
            normalisation=normalisation,
            augment=job.recipe.augmentation,
            views=views,
            seed=job.recipe.seed,
            autocast=fabric.autocast,
            on_images=lambda done, of: bar('features of the frozen trunk', done, of),
        ) as cache,
    ):
        trainer = Trainer(
            fabric,
            trained,
            rule,
            replace(job.recipe, augmentation=AnyView(cache.views)),
            train=cache.train,
            validation=cache.validation,
            normalisation=cache,
        )
        yield Started(net, normalisation, rule, trainer)


def _begin_with(net: StagedNet, start: Checkpoint) -> None:
    """Gives a network the weights of another training, all of them or those of its exits."""
    learnt = StagedExits(net) if start.identity.get(FROZEN) else net
    try:
        learnt.load_state_dict(start.weights)
    except RuntimeError as error:
        raise ConfigurationError(
            f'--start-from {start.path}: its network was built otherwise '
            f'({" ".join(str(error).split())}); give a checkpoint of the network as it is now'
        ) from error


def as_served(pixels: NDArray[np.uint8], job: Job) -> NDArray[np.uint8]:
    """Images at the size that the network reads, fitted as a robot fits its frames."""
    if job.image_size is None:
        return pixels
    count, channels = len(pixels), pixels.shape[3]
    fitted = np.empty((count, job.image_size, job.image_size, channels), np.uint8)
    for image, buffer in zip(pixels, fitted, strict=True):
        gray = channels == 1
        fit_frame(
            image[..., 0] if gray else image,
            'gray' if gray else 'rgb',
            buffer,
            image_spec(channels),
        )
    return fitted
