"""From what a training came to, to its calibrated bundle and its figures."""

from __future__ import annotations

import math
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from anytime_dnn_ros.datasets import image_spec
from anytime_dnn_ros.datasets.read import VALIDATION_SHARE
from anytime_dnn_ros.evaluate.calibrate import calibrate_bundle
from anytime_dnn_ros.evaluate.progress_bar import image_progress
from anytime_dnn_ros.forge.ladder_export import export_ladder
from anytime_dnn_ros.forge.networks import is_pretrained
from anytime_dnn_ros.forge.staged import StagedNet
from anytime_dnn_ros.forge.start_training import Started, as_served
from anytime_dnn_ros.forge.train_job import Job, early_stop_epochs
from anytime_dnn_ros.ladder.bundle import Bundle

if TYPE_CHECKING:
    from lightning_fabric import Fabric

PARITY_IMAGES = 256
LICENCE = 'of the weights: what the training data allows'
TRUNK_LICENCE = ", and the licence of the trunk's own weights"
HALF_WEIGHTS_HELP = 'store large weights as float16: half the file, same run time'


def leave_bundle(fabric: Fabric, job: Job, training: Started) -> dict[str, Any]:
    """Exports and calibrates what the trainer stands at; the first process writes.

    Returns:
        The figures for `--json`; of the first process only.

    Raises:
        AnytimeError: The network cannot be exported, or the disk refuses; a bundle that was there
            is left as it was.
    """
    trainer = training.trainer
    result = trainer.result()
    accuracies = trainer.accuracies(result)
    net = training.whole(result)
    if not fabric.is_global_zero:
        return {}
    console = Console(highlight=False)
    bundle = _bundle(net, training, job, console)
    percent = ' '.join(f'{100 * share:.1f}' for share in accuracies)
    console.print(
        f'{bundle.path}: of the validation images the network in torch ({job.recipe.precision}) '
        f'names {percent} % right',
        markup=False,
        soft_wrap=True,
    )
    seconds = sum(f.seconds for f in trainer.history)
    images = sum(f.images_per_s * f.seconds for f in trainer.history)
    return {
        'network': asdict(job.spec),
        'rule': job.rule,
        'identity': job.identity,
        'macs': [stage.macs for stage in bundle.manifest.stages],
        'validation_accuracies': accuracies,
        'epochs': trainer.epoch,
        'seconds': seconds,
        'images_per_s': images / seconds if seconds else None,
        'bundle': str(bundle.path),
    }


def weights_licence(network: str) -> str:
    """Which licences the weights of a trained network stand under.

    Args:
        network: Its name.

    Raises:
        ConfigurationError: No such network.
    """
    if not is_pretrained(network):
        return LICENCE
    known = ' (EfficientNet-Lite0: Apache-2.0)' if network == 'efficientnet_lite0' else ''
    return f'{LICENCE}{TRUNK_LICENCE}{known}'


def _bundle(net: StagedNet, training: Started, job: Job, console: Console) -> Bundle:
    train, validation = job.dataset.train, job.dataset.validation
    trainer, epochs = training.trainer, job.recipe.epochs
    data = (
        f'trained on {train.name} ({len(train)} images), validated on {validation.name} '
        f'({len(validation)} images)'
    )
    if not trainer.finished:
        data += f', stopped after {trainer.epoch} of {epochs} epochs'
    provenance: dict[str, Any] = {
        'command': job.command,
        'data': data,
        'licence': weights_licence(job.spec.name),
    }
    if job.validation_share != VALIDATION_SHARE:
        provenance['validation_share'] = job.validation_share
    early_stop = early_stop_epochs(job.identity)
    if early_stop:
        provenance['early_stop_epochs'] = early_stop
    # Elsewhere until it is calibrated too: Ctrl-C in between must leave nothing.
    with tempfile.TemporaryDirectory() as folder:
        draft = export_ladder(
            net,
            Path(folder) / job.out.name,
            normalisation=replace(training.normalisation, size=None),
            combine=training.rule.combine(len(net)),
            image=image_spec(job.spec.image_shape[0]),
            class_names=job.dataset.class_names,
            # Evenly spread, as images may lie class by class.
            parity_pixels=as_served(
                validation.pixels[:: math.ceil(len(validation) / PARITY_IMAGES)], job
            ),
            provenance=provenance,
            half_weights=job.half_weights,
        )
        with image_progress(console) as bar:
            return calibrate_bundle(
                draft.path,
                validation,
                out=job.out,
                progress=lambda done, of: bar('calibrating', done, of),
            )
