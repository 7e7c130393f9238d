"""Any trained torch module made anytime: its trunk in pieces, with an exit behind each piece."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.depthwise import make_depthwise_float
from anytime_dnn_ros.forge.exit_heads import ExitHead, Shape, side_step
from anytime_dnn_ros.forge.staged import Stage, StagedNet
from anytime_dnn_ros.forge.trunk_cuts import cut

# Channels of the side network at the first exit; they double where the map's side halves.
SIDE_WIDTH = 32
MAX_WIDENING = 8


class TrunkStep(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A piece of trunk and the step of the side network that reads what the piece gives.

    Args:
        piece: From its first `piece_reads` inputs to a tuple of tensors.
        step: From these tensors and the other inputs to the side network's state; None = no
            side network.
        frozen: Keep the piece as it was trained, its BatchNorm too.
    """

    def __init__(
        self, piece: nn.Module, step: nn.Module | None, piece_reads: int, *, frozen: bool
    ) -> None:
        super().__init__()
        self.piece = piece
        self.step = step
        self.piece_reads = piece_reads
        self.frozen = frozen
        if frozen:
            piece.requires_grad_(requires_grad=False)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """What the piece gives, then the side network's state."""
        features = self.piece(*tensors[: self.piece_reads])
        if self.step is None:
            return tuple(features)
        return (*features, self.step(*features, *tensors[self.piece_reads :]))

    def train(self, mode: bool = True) -> TrunkStep:
        """Training mode for all but a frozen piece."""
        super().train(mode)
        if self.frozen:
            self.piece.eval()
        return self


def make_anytime(
    module: nn.Module,
    example: Tensor,
    *,
    cuts: Sequence[str] | int,
    num_classes: int,
    features: str = '',
    side_width: int = SIDE_WIDTH,
    frozen: bool = True,
) -> StagedNet:
    """Cuts a trained module into stages and gives each an exit, still to be trained.

    The module's own classifier is dropped; the module itself is left as it is.

    Args:
        module: From float [batch, channels, height, width], normalised as it was trained on, to
            anything.
        example: One input of the size that the stages will read.
        cuts: Names of modules or traced operations to cut behind, in running order (one stage
            more than names), or how many stages of about equal trunk cost to make.
        num_classes: Of the exits.
        features: The module whose output is the last feature tensor; found where left out.
        side_width: Channels of the side network at the first exit; 0 = linear exits only.
        frozen: Train the exits and the side network only.

    Returns:
        An interruptible net; with `frozen`, see `feature_cache` for the fast way to train it.

    Raises:
        ConfigurationError: See `trunk_cuts.cut`; or the side width is negative.
    """
    if side_width < 0:
        raise ConfigurationError(f'side width {side_width}: give channels, or 0 for none')
    stages: list[Stage] = []
    side: list[tuple[str, Shape]] = []
    first_height = 0
    for k, piece in enumerate(cut(module, example, cuts, features), 1):
        if not frozen:
            make_depthwise_float(piece.module)
        reads, writes, shapes = [*piece.reads], [*piece.writes], [*piece.shapes]
        step: nn.Module | None = None
        if side_width:
            height = min((s[2] for s in shapes if len(s) == 4), default=1)
            first_height = first_height or height
            widening = min(MAX_WIDENING, max(1, round(first_height / height)))
            step, shape = side_step(shapes + [s for _, s in side], side_width * widening)
            reads += [name for name, _ in side]
            side = [(f'side_{k}', shape)]
            writes, shapes = [*writes, side[0][0]], [*shapes, shape]
        body = TrunkStep(piece.module, step, len(piece.reads), frozen=frozen)
        stages.append(Stage(body, ExitHead(shapes, num_classes), reads, writes))
    return StagedNet(stages)


class _Given(nn.Module):  # type: ignore[misc]
    """Stands for a piece whose tensors are there already."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors


class StagedExits(StagedNet):
    """Side network and heads of a net made by `make_anytime`, without its trunk.

    It is called with the tensors that the pieces of trunk give, all of them in order, instead of
    an image. Parameters are those of the whole net, not copies.
    """

    def __init__(self, net: StagedNet) -> None:
        stages = []
        for stage in net.stages:
            body = stage.body
            given = stage.writes if body.step is None else stage.writes[:-1]
            reads = (*given, *stage.reads[body.piece_reads :])
            step = TrunkStep(_Given(), body.step, len(given), frozen=False)
            stages.append(Stage(step, stage.head, reads, stage.writes))
        super().__init__(stages, net.kind)
        self.given = tuple(name for s in stages for name in s.reads[: s.body.piece_reads])

    def forward(self, image: Sequence[Tensor], *, equilibrium: bool = False) -> tuple[Tensor, ...]:
        """Runs every step on the trunk's tensors, which stand here for the image."""
        return self.run(dict(zip(self.given, image, strict=True)), equilibrium=equilibrium)


def with_exits(net: StagedNet, exits: StagedNet) -> StagedNet:
    """The whole net again: the trunk of `net`, side network and heads of `exits`.

    Args:
        net: Made by `make_anytime`.
        exits: Its `StagedExits`, or a copy with other weights.
    """
    return StagedNet(
        [
            Stage(
                TrunkStep(
                    stage.body.piece,
                    trained.body.step,
                    stage.body.piece_reads,
                    frozen=stage.body.frozen,
                ),
                trained.head,
                stage.reads,
                stage.writes,
            )
            for stage, trained in zip(net.stages, exits.stages, strict=True)
        ],
        net.kind,
    )
