"""A bundle in TensorRT on this machine: engines from the cache or built, compared, loaded."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anytime_dnn_ros.engines.agreement import (
    FEW_FRAMES,
    LEAST_TOP1,
    MOST_ERROR,
    StageAgreement,
    agreement_frames,
    compare_engines,
    refuse_disagreement,
)
from anytime_dnn_ros.engines.build_progress import BuildProgress
from anytime_dnn_ros.engines.cuda import load_runtime
from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.engines.stage_engines import StageEngine, stage_engine
from anytime_dnn_ros.engines.tensorrt import TensorRtEngine
from anytime_dnn_ros.engines.tensorrt_library import find_device, find_tensorrt
from anytime_dnn_ros.engines.tensorrt_options import TensorRtOptions
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.whole_file import keep_whole

Say = Callable[[str], object]


def load_tensorrt(
    bundle: Bundle,
    options: TensorRtOptions,
    *,
    say: Say,
    progress: BuildProgress | None = None,
) -> TensorRtEngine:
    """Loads all stages of a bundle, if they give the answers of ONNX Runtime.

    Args:
        bundle: A checked bundle.
        options: How.
        say: Takes a warning.
        progress: Is given the share of the work that is done, 0..1; comparing counts as much as
            building a stage.

    Raises:
        ConfigurationError: An option cannot be used with this bundle or machine.
        EngineError: There is no GPU, or a stage cannot be built, kept (if it must be), loaded,
            run, or believed.
        MissingDependencyError: This Python has no TensorRT or no cuda-python.
    """
    device = find_device()
    if device is None:
        raise EngineError(
            'engine: tensorrt needs an NVIDIA GPU, and the CUDA driver finds none (nvidia-smi, or '
            'tegrastats on a Jetson, must show it; in a container it needs --gpus all or '
            '--runtime nvidia). Set engine: auto or onnxruntime to serve on the CPU'
        )
    # Photos that cannot be used are told before the builds, which take minutes.
    frames = agreement_frames(options.frames)
    library, runtime = find_tensorrt(), load_runtime()
    parts = len(bundle.manifest.stages) + 1
    engines = []
    for index in range(parts - 1):
        engines.append(
            stage_engine(
                bundle,
                index,
                library,
                device,
                precision=options.precision,
                workspace_bytes=options.workspace_bytes,
                dla_core=options.dla_core,
                folder=options.folder,
                say=say,
                progress=progress and _part(progress, index, parts),
            )
        )
        if options.must_keep and not engines[-1].is_kept:
            raise EngineError(
                f'stage {bundle.manifest.stages[index].name!r} is built, but its engine is not '
                f'kept in {options.folder}; make the folder writable or make room, or name '
                'another with cache_dir'
            )
        if progress is not None:
            progress((index + 1) / parts)
    engine = TensorRtEngine(bundle, engines, library, device, runtime=runtime)
    try:
        _check_agreement(bundle, engine, engines, frames, options.folder, say)
    except BaseException:
        engine.close()
        raise
    if progress is not None:
        progress(1.0)
    return engine


def _part(progress: BuildProgress, index: int, parts: int) -> BuildProgress:
    return lambda share: progress((index + share) / parts)


def _check_agreement(  # noqa: PLR0917 - handed on from one call
    bundle: Bundle,
    engine: TensorRtEngine,
    engines: list[StageEngine],
    frames_from: tuple[Iterator[NDArray[np.uint8]], str, str],
    folder: Path | None,
    say: Say,
) -> None:
    """Compares with ONNX Runtime, unless these very builds have passed on these very frames."""
    frames, source, digest = frames_from
    key = {
        'engines': [hashlib.sha256(built.plan).hexdigest() for built in engines],
        'stages': [stage.sha256 for stage in bundle.manifest.stages],
        'frames': [source, digest],
        'limits': [LEAST_TOP1, MOST_ERROR],
        'onnxruntime': ort.__version__,
    }
    file = _agreement_file(key, folder)
    if file is not None and _has_passed(file, key):
        return
    threads = os.cpu_count() or 1
    with (
        closing(OnnxRuntimeEngine(bundle, threads=threads, plain=True)) as plain,
        closing(OnnxRuntimeEngine(bundle, threads=threads)) as serving,
    ):
        stages = compare_engines(
            engine,
            plain=plain,
            serving=serving,
            frames=frames,
            manifest=bundle.manifest,
            precisions=[built.options.precision for built in engines],
        )
    info = engine.info()
    refuse_disagreement(stages, f'{info.library} {info.version}', source)
    fewest = min(stages, key=lambda stage: stage.counted)
    if fewest.counted < FEW_FRAMES:
        say(
            f'only {fewest.counted} of {source} count for the class that stage {fewest.name!r} '
            'names, on the others it is beneath rounding; name a folder of photos with '
            'agreement_frames to know more'
        )
    if file is not None:
        _keep(file, key, stages, say)


def _agreement_file(key: dict[str, Any], folder: Path | None) -> Path | None:
    if folder is None:
        return None
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f'agreement_{digest[:32]}.json'


def _has_passed(file: Path, key: dict[str, Any]) -> bool:
    try:
        document = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError, RecursionError):
        # Comparing again is all that it costs, and writing tells what is wrong with the folder.
        return False
    return isinstance(document, dict) and document.get('key') == key


def _keep(file: Path, key: dict[str, Any], stages: tuple[StageAgreement, ...], say: Say) -> None:
    text = json.dumps({'key': key, 'stages': [asdict(stage) for stage in stages]}, indent=2)
    try:
        keep_whole(file, [text.encode()])
    except OSError as error:
        say(
            f'that the engines agree with ONNX Runtime cannot be kept in {file.parent} '
            f'({error.strerror}), so each start compares them; make the folder writable or make '
            'room, or name another with cache_dir'
        )
