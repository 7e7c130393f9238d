"""Several processes training one net: what a rule must know of all of them."""

from __future__ import annotations

from torch import Tensor, distributed


def mean_over_ranks(tensor: Tensor) -> Tensor:
    """The mean of every process's `tensor`; the tensor itself where there is one process."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return tensor
    total = tensor.detach().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
