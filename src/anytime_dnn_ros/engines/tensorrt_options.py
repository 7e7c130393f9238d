"""How a bundle is loaded into TensorRT; apart from what does it, which needs more libraries."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PRECISIONS = ('auto', 'fp32', 'fp16', 'int8')


@dataclass(frozen=True)
class TensorRtOptions:
    """How a bundle is loaded into TensorRT.

    Attributes:
        precision: One of `PRECISIONS`.
        folder: From `timing.profile_cache.cache_folder`: keeps engines, kernel timings and what
            was found of agreement; None keeps nothing.
        must_keep: Whether an engine that cannot be kept is an error, not a warning.
        frames: Folder of photos to compare engines on; None for synthetic frames.
        workspace_bytes: GPU memory that a layer's algorithm may use; None = no limit.
        dla_core: Jetson's accelerator for what it can run; None = GPU alone.
    """

    precision: str = 'auto'
    folder: Path | None = None
    must_keep: bool = False
    frames: Path | None = None
    workspace_bytes: int | None = None
    dla_core: int | None = None
