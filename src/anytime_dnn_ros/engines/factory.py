"""Which engine serves a bundle on this machine."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from anytime_dnn_ros.engines.base import Engine
from anytime_dnn_ros.engines.recovery import ON_ENGINE_ERROR, RecoveringEngine
from anytime_dnn_ros.engines.tensorrt_library import find_device, find_tensorrt, unserved
from anytime_dnn_ros.engines.tensorrt_options import TensorRtOptions
from anytime_dnn_ros.errors import ConfigurationError, EngineError, MissingDependencyError
from anytime_dnn_ros.ladder.bundle import Bundle

if TYPE_CHECKING:
    from anytime_dnn_ros.engines.tensorrt import TensorRtEngine

LOG = logging.getLogger(__name__)
DEFAULTS = TensorRtOptions()
ENGINES = ('auto', 'onnxruntime', 'tensorrt')


def load_engine(
    bundle: Bundle,
    engine: str = 'auto',
    threads: int = 1,
    *,
    tensorrt: TensorRtOptions = DEFAULTS,
    on_engine_error: str = 'rebuild',
    say: Callable[[str], object] = LOG.warning,
    progress: Callable[[float], object] | None = None,
) -> Engine:
    """Loads all stages of a bundle and warms them up.

    Args:
        bundle: A checked bundle.
        engine: One of `ENGINES`. `auto` takes TensorRT where the library and a GPU are there, else
            ONNX Runtime; `EngineInfo.reason` tells why. So it does where TensorRT then fails,
            which `say` is told too.
        threads: CPU threads inside a stage; TensorRT needs none.
        tensorrt: How TensorRT builds, checks and keeps its engines.
        on_engine_error: One of `ON_ENGINE_ERROR`: what follows when TensorRT fails at run time.
            `rebuild` needs engines that are kept; without them it is `fall_back`, since a build
            takes minutes.
        say: Takes a warning.
        progress: Is given the share of building and comparing that is done, 0..1.

    Raises:
        ConfigurationError: No such engine, or an option cannot be used.
        EngineError: The engine cannot load a stage, or there is no GPU for it.
        MissingDependencyError: The engine's library is not in this Python.
    """
    for name, value, known in (
        ('engine', engine, ENGINES),
        ('on_engine_error', on_engine_error, ON_ENGINE_ERROR),
    ):
        if value not in known:
            raise ConfigurationError(
                f'{name} {value!r} is unknown: choose one of {", ".join(known)}'
            )
    if engine == 'onnxruntime':
        return _onnxruntime(bundle, threads)
    if engine == 'auto' and (lacking := _why_no_tensorrt()):
        return _onnxruntime(bundle, threads, reason=lacking)

    try:
        return _tensorrt(bundle, threads, tensorrt, on_engine_error, say, progress)
    except (EngineError, MissingDependencyError) as error:
        if engine == 'tensorrt':
            raise
        say(f'ONNX Runtime serves, because TensorRT cannot: {error}')
        return _onnxruntime(bundle, threads, reason=str(error), is_degraded=True)


def _why_no_tensorrt() -> str:
    """What `auto` lacks for TensorRT; empty if nothing."""
    device = find_device()
    if device is None:
        return 'this machine has no NVIDIA GPU that CUDA can use'
    try:
        why = unserved(find_tensorrt(), device.compute_capability)
    except MissingDependencyError as error:
        why = str(error)
    return why and f'{device.name} is not used: {why}'


def _tensorrt(  # noqa: PLR0917 - handed on from one call
    bundle: Bundle,
    threads: int,
    options: TensorRtOptions,
    on_engine_error: str,
    say: Callable[[str], object],
    progress: Callable[[float], object] | None,
) -> Engine:
    try:
        from anytime_dnn_ros.engines.tensorrt_loader import load_tensorrt  # noqa: PLC0415
    except ImportError as error:
        raise _missing(error) from error

    def load() -> TensorRtEngine:
        return load_tensorrt(bundle, options, say=say, progress=progress)

    engine = load()
    takes_minutes = on_engine_error == 'rebuild' and not engine.is_kept
    return RecoveringEngine(
        engine,
        rebuild=load,
        fall_back=lambda: _onnxruntime(bundle, threads),
        on_error='fall_back' if takes_minutes else on_engine_error,
    )


def _onnxruntime(
    bundle: Bundle, threads: int, *, reason: str = '', is_degraded: bool = False
) -> Engine:
    # Imported here so that the error of a robot without it names the mend.
    try:
        from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415
    except ImportError as error:
        raise _missing(error) from error
    return OnnxRuntimeEngine(bundle, threads=threads, reason=reason, is_degraded=is_degraded)


def _missing(error: ImportError) -> MissingDependencyError:
    return MissingDependencyError(
        f'the engine needs onnxruntime and onnx in the Python that runs the node, '
        f'{sys.executable}: {error}. Make a venv with them (pip install -r '
        'requirements/robot.txt), export ANYTIME_DNN_VENV=<its folder>, and start again; '
        'see docs/robot.md'
    )
