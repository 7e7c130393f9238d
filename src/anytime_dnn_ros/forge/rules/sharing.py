"""What the exits of a net share: the features of a trunk, or only its parameters."""

from __future__ import annotations

from torch.nn import Parameter

from anytime_dnn_ros.forge.staged import StagedNet


def has_trunk(net: StagedNet) -> bool:
    """Whether a stage reads what an earlier one wrote."""
    # Exits without their trunk read what no stage writes, and that is no image either.
    written: set[str] = set()
    for stage in net.stages:
        if not written.isdisjoint(stage.reads):
            return True
        written.update(stage.writes)
    return False


def exit_parameters(net: StagedNet) -> list[set[Parameter]]:
    """The parameters on the way from what the net is given to each exit."""
    # Tensors that no stage writes are given: the image, or what a frozen trunk made of it.
    below: dict[str, set[Parameter]] = {}
    exits = []
    for stage in net.stages:
        reached = set(stage.body.parameters()).union(
            *(below.get(name, set()) for name in stage.reads)
        )
        exits.append(reached.union(stage.head.parameters()))
        below.update(dict.fromkeys(stage.writes, reached))
    return exits


def has_shared_parameters(net: StagedNet) -> bool:
    """Whether a parameter that is trained stands below two exits."""
    seen: set[Parameter] = set()
    for parameters in exit_parameters(net):
        trained = {p for p in parameters if p.requires_grad}
        if seen & trained:
            return True
        seen |= trained
    return False
