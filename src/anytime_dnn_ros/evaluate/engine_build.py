"""Engines for `anytime-dnn profile`: loaded as its options say, or with `--build` only built."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from anytime_dnn_ros.engines.base import Engine, EngineInfo
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.engines.tensorrt_options import TensorRtOptions
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.timing.profile_cache import NO_CACHE

PERCENT = 100


def check_build(args: argparse.Namespace, folder: Path | None) -> None:
    """Whether `--build` goes with the other options.

    Args:
        args: Of `anytime-dnn profile`.
        folder: From `cache_folder`.

    Raises:
        ConfigurationError: It does not.
    """
    if args.engine == 'onnxruntime':
        raise ConfigurationError(
            'ONNX Runtime loads a bundle as it is, there is nothing to build: give --engine '
            'tensorrt with --build'
        )
    if folder is None:
        raise ConfigurationError(
            f'--build keeps engines for later, and --cache-dir {NO_CACHE} keeps none: leave one '
            'of the two out'
        )
    if args.json or args.html:
        raise ConfigurationError(
            '--build measures nothing to write: leave --json and --html out, or run profile '
            'again without --build'
        )


def loaded(
    args: argparse.Namespace,
    bundle: Bundle,
    folder: Path | None,
    progress: Callable[[str, int, int], object],
    say: Callable[[str], object],
) -> Engine:
    """The engine asked for; nothing but TensorRT will do for `--build`.

    Args:
        args: Of `anytime-dnn profile`.
        bundle: A checked bundle.
        folder: From `cache_folder`.
        progress: From `image_progress`.
        say: Takes a warning.

    Raises:
        AnytimeError: As `load_engine`.
    """
    return load_engine(
        bundle,
        'tensorrt' if args.build else args.engine,
        args.threads,
        tensorrt=TensorRtOptions(precision=args.precision, folder=folder, must_keep=args.build),
        say=say,
        progress=lambda share: progress('engines', round(PERCENT * share), PERCENT),
    )


def built(bundle: Bundle, info: EngineInfo) -> str:
    """What `--build` says in the end: a line about it and one per stage."""
    width = max(len(stage.name) for stage in info.stages)
    lines = [f'{bundle.manifest.name}: {info.library} {info.version}, {info.device}']
    lines += [f'  {s.name:{width}}  {s.precision}  {s.detail}' for s in info.stages]
    return '\n'.join(lines)
