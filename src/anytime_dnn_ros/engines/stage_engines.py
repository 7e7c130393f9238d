"""The serialised engine of each stage of a bundle: from the cache, else built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from anytime_dnn_ros.engines.build_progress import BuildProgress
from anytime_dnn_ros.engines.engine_cache import (
    cached_engine,
    engine_file,
    engine_key,
    read_engine,
)
from anytime_dnn_ros.engines.tensorrt_builder import (
    BuildOptions,
    Precision,
    build_engine,
    stage_precision,
)
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.ladder.manifest import StageSpec

TORCH2TRT = 'torch2trt'
NOT_TORCH2TRT = (
    'torch2trt made it, so that it is built from the ONNX file instead; delete it, or run '
    '`anytime-dnn export ... --builder torch2trt` again'
)


@dataclass(frozen=True)
class StageEngine:
    """One stage, serialised.

    Attributes:
        plan: What `Runtime.deserialize_cuda_engine` takes.
        options: It was built with.
        is_kept: Whether the next start finds it in the cache.
        builder: What built it.
    """

    plan: bytes
    options: BuildOptions
    is_kept: bool
    builder: str = 'onnx'


def stage_engine(
    bundle: Bundle,
    index: int,
    library: TensorRT,
    device: Device,
    *,
    precision: str = 'auto',
    workspace_bytes: int | None = None,
    dla_core: int | None = None,
    folder: Path | None,
    say: Callable[[str], object],
    progress: BuildProgress | None = None,
) -> StageEngine:
    """The engine of stage `index` (0-based) for a GPU.

    One that `anytime-dnn export --builder torch2trt` made in this precision goes first.

    Args:
        bundle: A checked bundle.
        index: Which stage.
        library: From `find_tensorrt`.
        device: From `find_device`; or `target_device`, for RTX.
        precision: One of `PRECISIONS`.
        workspace_bytes: See `BuildOptions`.
        dla_core: See `BuildOptions`.
        folder: The cache folder; None keeps nothing.
        say: Takes a warning.
        progress: Is given the share done of this build, 0..1, from TensorRT 10 on.

    Raises:
        ConfigurationError: The stage cannot have that precision, or the library that GPU.
        EngineError: TensorRT cannot build the stage.
    """
    stage = bundle.manifest.stages[index]
    if folder is not None and dla_core is None:
        wanted = stage_precision('auto', stage.precision) if precision == 'auto' else precision
        key = torch2trt_key(stage, library, device, wanted)
        made = read_engine(engine_file(key, folder), key, say=say, instead=NOT_TORCH2TRT)
        if made is not None:
            return StageEngine(made, BuildOptions(cast('Precision', wanted)), True, TORCH2TRT)
    options = BuildOptions(
        stage_precision(precision, stage.precision),
        workspace_bytes=workspace_bytes,
        dla_core=dla_core,
        target=device.compute_capability if library.flavour == 'tensorrt_rtx' else None,
    )

    def build() -> bytes:
        timings = None if folder is None else folder / f'timings_{library.version}.bin'
        return build_engine(
            library,
            bundle.stage_file(index).read_bytes(),
            options,
            name=stage.name,
            timing_cache=timings,
            progress=progress,
            say=say,
        )

    plan, is_kept = cached_engine(
        build, engine_key(stage, library, device, options), folder, say=say
    )
    return StageEngine(plan, options, is_kept)


def torch2trt_key(
    stage: StageSpec, library: TensorRT, device: Device, precision: str
) -> dict[str, Any]:
    """Under what an engine by torch2trt is kept."""
    options = BuildOptions(cast('Precision', precision))
    return engine_key(stage, library, device, options, builder=TORCH2TRT)


def target_device(compute_capability: str) -> Device:
    """A GPU that is not here, to build for: TensorRT for RTX can."""
    return Device(f'any of compute capability {compute_capability}', compute_capability, -1, 0)
