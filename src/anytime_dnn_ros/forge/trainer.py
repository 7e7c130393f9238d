"""Trains a staged network: one epoch after another, each a function of the seed and its number.

Because an epoch draws all its randomness from (seed, epoch), a training that goes on from the
checkpoint of its last whole epoch takes the very steps that it would have taken: bit for bit on a
CPU with the same number of threads; elsewhere sums may be added in another order.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from anytime_dnn_ros.forge.recipe import MOMENTUM, Recipe, learning_rate, parameter_groups
from anytime_dnn_ros.forge.rules import Rule
from anytime_dnn_ros.forge.rules.snapshot import snapshot_ladder
from anytime_dnn_ros.forge.staged import StagedNet

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Weights = dict[str, Tensor]
EVALUATION_BATCH = 500
# Images of one process in one step.
LEAST_BATCH = 2


class Labelled(Protocol):
    """What is learnt from: `Images`, or anything whose `pixels` a `Preparation` understands."""

    @property
    def pixels(self) -> NDArray[Any]:
        """One entry per image, [N, ...]."""
        ...

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64 [N]."""
        ...


class Preparation(Protocol):
    """From a batch of `pixels`, augmented, to what the network is called with."""

    def apply(self, pixels: Tensor) -> Any:
        """A `Normalisation` gives images."""
        ...


class TrainingError(AnytimeError):
    """A training cannot go on."""


@dataclass(frozen=True)
class EpochFigures:
    """One line of the log.

    Attributes:
        epoch: From 1.
        learning_rate: Of the epoch's first step.
        losses: Mean loss of each exit over the epoch.
        accuracies: Share of validation images that each exit names right, 0..1.
        seconds: Wall time of the epoch's training, without validation.
        images_per_s: Training images per second of it.
    """

    epoch: int
    learning_rate: float
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    seconds: float
    images_per_s: float

    @property
    def score(self) -> float:
        """Mean accuracy over the exits: what early stopping looks at."""
        return sum(self.accuracies) / len(self.accuracies)


class Trainer:
    """A network in training.

    Args:
        fabric: Launched; gives device, precision and the other processes.
        net: Trained in place, on the fabric's device.
        rule: Made for `net`.
        recipe: How to train.
        train: What to learn from.
        validation: What every epoch is scored on.
        normalisation: Of `train`.

    Attributes:
        net: The network.
        epoch: Whole epochs done.
        history: Figures of each.
        snapshots: The weights at the end of each cycle, if the rule has more than one.
        best: The weights of the best epoch, if the recipe has patience.
        steps_per_epoch: The images beyond the last whole batch sit out.

    Raises:
        ConfigurationError: Batch, epochs, rule and data do not fit together.
    """

    def __init__(
        self,
        fabric: Fabric,
        net: StagedNet,
        rule: Rule,
        recipe: Recipe,
        *,
        train: Labelled,
        validation: Labelled,
        normalisation: Preparation,
    ) -> None:
        self._fabric, self._rule, self._recipe = fabric, rule, recipe
        self.steps_per_epoch = len(train.labels) // recipe.batch
        self._check_fit(len(train.labels))
        device = fabric.device
        self.net = net.to(device=device, memory_format=torch.channels_last)
        self._average = copy.deepcopy(net).eval() if recipe.ema else None
        self._optimiser = torch.optim.SGD(
            parameter_groups(net, recipe.weight_decay),
            lr=recipe.learning_rate,
            momentum=MOMENTUM,
            nesterov=True,
            fused=True,
        )
        self._normalisation = normalisation
        self._pixels = torch.from_numpy(train.pixels).to(device)
        self._labels = torch.from_numpy(train.labels).to(device)
        # Each process scores its own share.
        share = slice(fabric.global_rank, None, fabric.world_size)
        self._validation_pixels = torch.from_numpy(validation.pixels[share]).to(device)
        self._validation_labels = torch.from_numpy(validation.labels[share]).to(device)
        self._validation_count = len(validation.labels)
        self.epoch = 0
        self.history: list[EpochFigures] = []
        self.snapshots: list[Weights] = []
        self.best: Weights | None = None

    def _check_fit(self, count: int) -> None:
        recipe, rule, world = self._recipe, self._rule, self._fabric.world_size
        if not self.steps_per_epoch:
            raise ConfigurationError(
                f'a batch of {recipe.batch} is more than the {count} training images; give a '
                'smaller --batch or more images'
            )
        if recipe.batch % world:
            raise ConfigurationError(
                f'{world} processes cannot share a batch of {recipe.batch} evenly; give a --batch '
                f'divisible by {world}'
            )
        if recipe.batch < LEAST_BATCH * world:
            raise ConfigurationError(
                f'a batch of {recipe.batch} gives a process {recipe.batch // world} image, and '
                f'BatchNorm needs {LEAST_BATCH} to tell how they differ; give a larger --batch'
            )
        if recipe.patience and rule.cycles > 1:
            raise ConfigurationError(
                f'rule {rule.name} needs all its {rule.cycles} cycles; leave out --early-stop'
            )
        if recipe.epochs * self.steps_per_epoch < rule.cycles:
            raise ConfigurationError(
                f'{recipe.epochs * self.steps_per_epoch} steps have no room for the '
                f'{rule.cycles} cycles of rule {rule.name}; give more --epochs'
            )

    @property
    def scored_net(self) -> StagedNet:
        """The network whose answers count: the average of the weights where one is kept."""
        net: StagedNet = self.net if self._average is None else self._average
        return net

    @property
    def best_epoch(self) -> int:
        """The first epoch of the highest score; 0 before there is one."""
        return max(self.history, key=lambda f: f.score).epoch if self.history else 0

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or patience is at its end."""
        patience = self._recipe.patience or self._recipe.epochs
        return self.epoch >= min(self._recipe.epochs, self.best_epoch + patience)

    def result(self) -> StagedNet:
        """What the training came to: the newest weights, the best, or a ladder of snapshots."""
        if len(self.snapshots) > 1:
            return snapshot_ladder([self._with_weights(weights) for weights in self.snapshots])
        return self.scored_net if self.best is None else self._with_weights(self.best)

    def _with_weights(self, weights: Weights) -> StagedNet:
        net: StagedNet = copy.deepcopy(self.scored_net)
        net.load_state_dict(weights)
        return net

    def run_epoch(self, on_step: Callable[[int], None] = lambda _: None) -> EpochFigures:
        """Trains one epoch and scores it.

        Args:
            on_step: Called after each step with the number of steps done in the epoch.

        Raises:
            TrainingError: The loss is no longer finite.
        """
        rate = self._rate(0)
        start = time.perf_counter()
        losses = self._run_steps(on_step)
        seconds = time.perf_counter() - start
        if not all(map(math.isfinite, losses)):
            raise TrainingError(
                f'the loss of epoch {self.epoch + 1} is not finite ({losses}): the training '
                'diverged; give a lower --lr'
            )
        self.epoch += 1
        figures = EpochFigures(
            epoch=self.epoch,
            learning_rate=rate,
            losses=losses,
            accuracies=self.accuracies(self.scored_net),
            seconds=seconds,
            images_per_s=self.steps_per_epoch * self._recipe.batch / seconds,
        )
        self.history.append(figures)
        if self._recipe.patience and self.best_epoch == self.epoch:
            self.best = _copied_weights(self.scored_net)
        return figures

    def _rate(self, step: int) -> float:
        steps = self._recipe.epochs * self.steps_per_epoch
        step += self.epoch * self.steps_per_epoch
        return learning_rate(step, steps, self._recipe.learning_rate, self._rule.cycles)

    def _ends_cycle(self, step: int) -> bool:
        """Whether this step of the epoch is the last of one of several cycles."""
        cycles, steps = self._rule.cycles, self._recipe.epochs * self.steps_per_epoch
        step += self.epoch * self.steps_per_epoch
        return cycles > 1 and (step + 1) * cycles // steps > step * cycles // steps

    def _run_steps(self, on_step: Callable[[int], None]) -> tuple[float, ...]:
        """Every step of one epoch; returns the mean loss of each exit."""
        recipe, rank, world = self._recipe, self._fabric.global_rank, self._fabric.world_size
        device = self._fabric.device
        order_seed, *seeds = _seeds(recipe.seed, self.epoch, 1 + world)
        shuffle = torch.Generator().manual_seed(order_seed)
        order = torch.randperm(len(self._labels), generator=shuffle).to(device)
        chance = torch.Generator(device).manual_seed(seeds[rank])
        # Dropout and drop-path draw from the process's own generator.
        torch.manual_seed(seeds[rank])
        share = recipe.batch // world
        total = torch.zeros(len(self.net), device=device)
        self.net.train()
        for step in range(self.steps_per_epoch):
            first = step * recipe.batch + rank * share
            chosen = order[first : first + share]
            pixels = recipe.augmentation(self._pixels[chosen], chance)
            total += self._run_step(step, pixels, self._labels[chosen])
            if self._ends_cycle(step):
                self._average_buffers()
                self.snapshots.append(_copied_weights(self.scored_net))
            on_step(step + 1)
        self._average_buffers()
        return tuple((self._mean_of_processes(total) / self.steps_per_epoch).tolist())

    def _average_buffers(self) -> None:
        """Brings running statistics together, which are each process's own between steps."""
        nets = (self.net,) if self._average is None else (self.net, self._average)
        for buffer in (buffer for net in nets for buffer in net.buffers()):
            if buffer.is_floating_point():
                buffer.copy_(self._mean_of_processes(buffer))

    def _run_step(self, step: int, pixels: Tensor, labels: Tensor) -> Tensor:
        done = self.epoch * self.steps_per_epoch + step
        for group in self._optimiser.param_groups:
            group['lr'] = self._rate(step)
        self._optimiser.zero_grad()
        image = self._normalisation.apply(pixels)
        with self._fabric.autocast():
            logits = self.net(image, equilibrium=self._rule.equilibrium)
        losses = self._rule.losses(logits, labels)
        self._rule.backward(self.net, losses)
        self._average_gradients()
        self._optimiser.step()
        if self._average is not None:
            # The first steps must not weigh for long in a short training.
            decay = min(self._recipe.ema, (1 + done) / (10 + done))
            _move_towards(self._average, self.net, 1 - decay)
        return losses.detach()

    def _average_gradients(self) -> None:
        """One message for all gradients.

        DistributedDataParallel would not see the gradients that a rule writes by itself, and would
        stop at the paths that drop-path leaves out.
        """
        if self._fabric.world_size == 1:
            return
        parameters = [p for p in self.net.parameters() if p.requires_grad]
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        mean = self._mean_of_processes(torch.cat([g.flatten() for g in gradients]))
        pieces = mean.split([p.numel() for p in parameters])
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.grad = piece.view_as(parameter)

    def _mean_of_processes(self, tensor: Tensor) -> Tensor:
        mean: Tensor = self._fabric.all_reduce(tensor, reduce_op='mean')
        return mean

    @torch.inference_mode()  # type: ignore[untyped-decorator] # torch is not typed here
    def accuracies(self, net: StagedNet) -> tuple[float, ...]:
        """Share of the validation images that each answer of a network names right, 0..1."""
        net.eval()
        right = torch.zeros(len(net), device=self._fabric.device)
        batches = zip(
            self._validation_pixels.split(EVALUATION_BATCH),
            self._validation_labels.split(EVALUATION_BATCH),
            strict=True,
        )
        for pixels, labels in batches:
            with self._fabric.autocast():
                logits = net(self._normalisation.apply(pixels))
            answers = torch.stack(self._rule.answers(logits))
            right += (answers.argmax(2) == labels).sum(1)
        total: Tensor = self._fabric.all_reduce(right, reduce_op='sum')
        return tuple(count / self._validation_count for count in total.tolist())

    def state_dict(self) -> dict[str, Any]:
        """Everything that a training needs to go on: tensors and plain values."""
        return {
            'epoch': self.epoch,
            'net': self.net.state_dict(),
            'average': self._average and self._average.state_dict(),
            'optimiser': self._optimiser.state_dict(),
            'rule': self._rule.state_dict(),
            'history': [asdict(figures) for figures in self.history],
            'snapshots': self.snapshots,
            'best': self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a `state_dict` of the same network, rule and recipe."""
        self.epoch = state['epoch']
        self.net.load_state_dict(state['net'])
        if self._average is not None:
            self._average.load_state_dict(state['average'])
        self._optimiser.load_state_dict(state['optimiser'])
        self._rule.load_state_dict(state['rule'])
        self.history = [EpochFigures(**figures) for figures in state['history']]
        self.snapshots, self.best = state['snapshots'], state['best']


def _copied_weights(net: nn.Module) -> Weights:
    """A copy of a network's state on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in net.state_dict().items()}


def _seeds(seed: int, epoch: int, count: int) -> list[int]:
    """Independent seeds of one epoch."""
    return [int(s) for s in np.random.SeedSequence([seed, epoch]).generate_state(count)]


@torch.no_grad()  # type: ignore[untyped-decorator] # torch is not typed here
def _move_towards(average: nn.Module, net: nn.Module, share: float) -> None:
    """Moves weights and running statistics by `share` of the way; copies counts and masks."""
    pairs = list(zip(_tensors(average), _tensors(net), strict=True))
    moved = [(a, b) for a, b in pairs if a.is_floating_point()]
    torch._foreach_lerp_([a for a, _ in moved], [b for _, b in moved], share)
    for a, b in pairs:
        if not a.is_floating_point():
            a.copy_(b)


def _tensors(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
