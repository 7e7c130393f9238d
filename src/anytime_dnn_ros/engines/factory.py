"""Which engine serves a bundle on this machine."""

from __future__ import annotations

import sys

from anytime_dnn_ros.engines.base import Engine
from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.ladder.bundle import Bundle

ENGINES = ('auto', 'onnxruntime')


def load_engine(bundle: Bundle, engine: str = 'auto', threads: int = 1) -> Engine:
    """Loads all stages of a bundle and warms them up.

    Args:
        bundle: A checked bundle.
        engine: One of `ENGINES`; `auto` takes the best that this machine has.
        threads: CPU threads inside a stage.

    Raises:
        ConfigurationError: No such engine.
        EngineError: The engine cannot load a stage.
        MissingDependencyError: The engine's library is not in this Python.
    """
    if engine not in ENGINES:
        raise ConfigurationError(
            f'engine {engine!r} is unknown: choose one of {", ".join(ENGINES)}'
        )
    # Imported here so that a robot needs only the library it uses.
    try:
        from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415
    except ImportError as error:
        raise MissingDependencyError(
            f'the engine needs onnxruntime and onnx in the Python that runs the node, '
            f'{sys.executable}: {error}. Make a venv with them (pip install -r '
            'requirements/robot.txt), export ANYTIME_DNN_VENV=<its folder>, and start again; '
            'see docs/robot.md'
        ) from error

    return OnnxRuntimeEngine(bundle, threads=threads)
