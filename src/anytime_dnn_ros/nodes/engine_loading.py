"""The engine of anytime_node, as its parameters ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic

from anytime_dnn_ros.engines.base import Engine, EngineInfo
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.engines.tensorrt_options import TensorRtOptions
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.nodes.parameters import Values
from anytime_dnn_ros.timing.profile_cache import cache_folder

# What `dla_core` says for "the GPU alone".
NO_DLA = -1
MIB = 1024 * 1024
# A build is told of this often; one that is over sooner, from the cache, is not told of at all.
BUILD_TOLD_S = 1.0

Say = Callable[[str], object]


def load_node_engine(
    bundle: Bundle,
    values: Values,
    *,
    warn: Say,
    progress: Callable[[float], object],
    must_keep: bool = False,
) -> Engine:
    """Loads a bundle's engine; builds what is not kept.

    Args:
        bundle: A checked bundle.
        values: Of the node's parameters.
        warn: Takes a warning.
        progress: Is given the percentage of the builds that is done, now and then.
        must_keep: See `TensorRtOptions`.

    Raises:
        AnytimeError: As `load_engine`.
    """
    return load_engine(
        bundle,
        values['engine'],
        values['threads'],
        tensorrt=TensorRtOptions(
            precision=values['precision'],
            folder=cache_folder(values['cache_dir'], warn),
            must_keep=must_keep,
            frames=_folder(values['agreement_frames']),
            workspace_bytes=values['workspace_mib'] * MIB or None,
            dla_core=None if values['dla_core'] == NO_DLA else values['dla_core'],
        ),
        on_engine_error=values['on_engine_error'],
        say=warn,
        progress=_now_and_then(progress),
    )


def build_node_engines(
    bundle: Bundle, values: Values, *, warn: Say, progress: Callable[[float], object]
) -> EngineInfo:
    """Builds and compares the engines of a bundle, so that the next start finds them.

    Args:
        bundle: As for `load_node_engine`, like the rest.
        values: Likewise.
        warn: Likewise.
        progress: Likewise.

    Returns:
        What would serve.

    Raises:
        ConfigurationError: They would be kept nowhere.
        EngineError: ONNX Runtime would serve, which needs no build; or a build failed or is not
            kept.
        MissingDependencyError: As `load_engine`.
    """
    if cache_folder(values['cache_dir'], warn) is None:
        raise ConfigurationError(
            f'build_only is set, but cache_dir = {values["cache_dir"]!r} keeps no engines; name a '
            'folder, or leave cache_dir empty for the usual one'
        )
    engine = load_node_engine(bundle, values, warn=warn, progress=progress, must_keep=True)
    info = engine.info()
    engine.close()
    if info.library == 'onnxruntime':
        raise EngineError(
            'build_only is set, but ONNX Runtime would serve, which loads the bundle as it is'
            f'{f" ({info.reason})" if info.reason else ""}; leave build_only out, or set engine: '
            'tensorrt on the machine that is to serve'
        )
    return info


def _folder(name: str) -> Path | None:
    try:
        return Path(name).expanduser() if name else None
    except RuntimeError as error:
        raise ConfigurationError(
            f'agreement_frames = {name!r} cannot be used: {error}; name a folder of photos, or '
            'leave it empty for synthetic frames'
        ) from error


def _now_and_then(progress: Callable[[float], object]) -> Callable[[float], object]:
    told_s = monotonic()

    def tell(share: float) -> None:
        nonlocal told_s
        now_s = monotonic()
        if now_s - told_s >= BUILD_TOLD_S:
            told_s = now_s
            progress(100 * share)

    return tell
