"""A network whose stages run one after another, each giving an answer: what training sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

IMAGE = 'image'


class _ScaleGradient(torch.autograd.Function):  # type: ignore[misc] # torch is not typed here
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return tensor.view_as(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.factor, None


class Stage(nn.Module):  # type: ignore[misc]
    """A piece of network and the exit behind it.

    Args:
        body: From the tensors that `reads` names to one tensor, or a tuple of them, one per name
            in `writes`.
        head: From the body's tensors, all of them in order, to logits float32 [batch, classes].
        reads: `IMAGE` or names that earlier stages write.
        writes: Names of what the body gives; later stages may read them.
    """

    def __init__(
        self, body: nn.Module, head: nn.Module, reads: Sequence[str], writes: Sequence[str]
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.reads = tuple(reads)
        self.writes = tuple(writes)

    def features(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the body gives, one tensor per name in `writes`."""
        given = self.body(*inputs)
        return tuple(given) if isinstance(given, (tuple, list)) else (given,)


class StagedNet(nn.Module):  # type: ignore[misc]
    """Stages that run in order; after stage k there is answer k.

    Args:
        stages: In running order. They may share parameters.
        kind: `contract` where a stage computes anew what an earlier one did.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        kind: Literal['interruptible', 'contract'] = 'interruptible',
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.kind = kind

    def __len__(self) -> int:
        return len(self.stages)

    def forward(self, image: Tensor, *, equilibrium: bool = False) -> tuple[Tensor, ...]:
        """Runs every stage.

        Args:
            image: Normalised, float [batch, channels, height, width].
            equilibrium: Scale gradients so that the trunk hears every exit alike: behind stage i
                (from 0) of N by 1 / (N - i), before it by N - i (Li et al., "Improved techniques
                for training adaptive deep networks", ICCV 2019). They scale by N - i - 1 after
                exit i, which is the same where a stage reads the one before it and no other.

        Returns:
            One [batch, classes] of logits per stage.
        """
        return self.run({IMAGE: image}, equilibrium=equilibrium)

    def run(self, tensors: dict[str, Tensor], *, equilibrium: bool = False) -> tuple[Tensor, ...]:
        """Runs every stage on the tensors that are there, by name, and adds what it writes."""
        answers = []
        for i, stage in enumerate(self.stages):
            given = [tensors[name] for name in stage.reads]
            left = len(self.stages) - i
            if equilibrium:
                given = [_ScaleGradient.apply(tensor, float(left)) for tensor in given]
            features = stage.features(*given)
            if equilibrium:
                features = tuple(_ScaleGradient.apply(tensor, 1 / left) for tensor in features)
            answers.append(stage.head(*features))
            tensors.update(zip(stage.writes, features, strict=True))
        return tuple(answers)


def stage_macs(net: StagedNet, image_shape: tuple[int, int, int]) -> list[int]:
    """Multiply-accumulates of each stage alone, for one image.

    Args:
        net: Any staged net; it is put into evaluation mode while counting.
        image_shape: Channels, height, width.
    """
    training = net.training
    net.eval()
    device = next(net.parameters()).device
    tensors = {IMAGE: torch.zeros(1, *image_shape, device=device)}
    counts = []
    with torch.no_grad():
        for stage in net.stages:
            with FlopCounterMode(display=False) as counter:
                features = stage.features(*(tensors[name] for name in stage.reads))
                stage.head(*features)
            counts.append(counter.get_total_flops() // 2)
            tensors.update(zip(stage.writes, features, strict=True))
    net.train(training)
    return counts
