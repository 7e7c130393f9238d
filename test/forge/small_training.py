"""A training of seconds: images whose class is easily seen, and a net of two stages for them."""

import logging
from pathlib import Path

import cv2
import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.forge.augment import Augmentation
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.recipe import Recipe
from anytime_dnn_ros.forge.rules import make_rule
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet
from anytime_dnn_ros.forge.trainer import Trainer

SIZE, CLASSES = 8, 3
logging.getLogger('lightning_fabric').setLevel(logging.WARNING)


def easy_images(count: int, seed: int) -> Images:
    """Noise, one third of whose rows are bright: the class says which."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % CLASSES
    pixels = rng.integers(0, 120, (count, SIZE, SIZE, 1), np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[2 * label : 2 * label + 2] += 130
    return Images(pixels, labels, ('top', 'middle', 'bottom'), 'easy')


def write_easy_images(folder: Path, count: int, seed: int = 1) -> Path:
    """The same as small colour images in a folder, without a test part: none is needed."""
    images = easy_images(count, seed)
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        file = folder / 'train' / images.class_names[label] / f'{number:03}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.cvtColor(cv2.resize(pixels, (16, 16)), cv2.COLOR_GRAY2BGR))
    return folder


def small_net() -> StagedNet:
    """Two stages with all that a checkpoint must hold: BatchNorm, and dropout that draws."""
    torch.manual_seed(0)

    def body(given: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(given, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.1)
        )

    def head() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(8 * SIZE * SIZE, CLASSES))

    return StagedNet(
        [Stage(body(1), head(), [IMAGE], ['a']), Stage(body(8), head(), ['a'], ['b'])]
    )


def recipe(**changes) -> Recipe:
    values = {'epochs': 4, 'batch': 16, 'learning_rate': 0.01, 'precision': '32-true'}
    return Recipe(**{**values, 'augmentation': Augmentation(pad=1), **changes})


def make_trainer(rule='sum', options=None, fabric=None, **changes) -> Trainer:
    if fabric is None:
        fabric = Fabric(accelerator='cpu', devices=1, precision='32-true')
    net, train = small_net(), easy_images(96, 1)
    return Trainer(
        fabric,
        net,
        make_rule(rule, net, **(options or {})),
        recipe(**changes),
        train=train,
        validation=easy_images(30, 2),
        normalisation=Normalisation.of(train),
    )
