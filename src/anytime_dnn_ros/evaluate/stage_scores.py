"""What a bundle answers after every stage, and how long that takes: the node's own path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.ladder.frame_fit import ColorOrder
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.reference import ReferenceTimes, measure_reference_times

Pixels = NDArray[np.uint8]
# A probability below this has no logarithm in float32 that is worth keeping.
LEAST_PROBABILITY = np.finfo(np.float32).tiny
TIMED_IMAGES, TIMING_BUDGET_S = 300, 20.0
SHOWN_DIFFERENCES = 5


def bundle_labels(
    bundle: Bundle, labels: NDArray[np.int64], class_names: Sequence[str]
) -> NDArray[np.int64]:
    """The labels of some data as indices into a bundle's own list of classes.

    Args:
        bundle: Its `labels` name the classes.
        labels: Indices into `class_names`, int64 [images].
        class_names: One name per class of the data.

    Raises:
        ConfigurationError: The bundle and the data do not have the same classes.
    """
    if bundle.labels == tuple(class_names):
        return labels
    ours, theirs = set(bundle.labels), set(class_names)
    # A name that stands twice cannot tell which of its classes is meant.
    if ours != theirs or not len(ours) == len(bundle.labels) == len(class_names):
        raise ConfigurationError(
            f'the bundle {bundle.path} has {len(bundle.labels)} classes, the data '
            f'{len(class_names)}, and they are not the same: only in the bundle '
            f'{_shown(ours - theirs)}; only in the data {_shown(theirs - ours)}. '
            "Give the data that the ladder was trained for, its folders named like the bundle's "
            'labels.txt'
        )
    order = np.array([bundle.labels.index(name) for name in class_names], np.int64)
    return order[labels]


def stage_scores(
    bundle: Bundle, pixels: Pixels, progress: Callable[[int, int], object] = lambda done, of: None
) -> NDArray[np.float32]:
    """Runs every stage on every image: ONNX Runtime, batch 1, one thread.

    Args:
        bundle: A checked bundle.
        pixels: Images of any size, uint8 [images, H, W, C], C = 3 RGB or 1 grey; they are fitted
            as a camera frame is.
        progress: Called after each image with how many are done and how many there are.

    Returns:
        Scores of the combined answer after each stage, before any temperature:
        log-probabilities, float32 [images, stages, classes].

    Raises:
        EngineError: A stage cannot be loaded or run, or gave a number that is not finite.
        ConfigurationError: The pixels have another shape or type.
    """
    frames, order = _frames(pixels)
    # Without quality data the answers come at temperature 1.
    plain = replace(bundle, quality=None)
    scores = np.empty((len(frames), len(bundle.manifest.stages), len(bundle.labels)), np.float32)
    with closing(load_engine(bundle, 'onnxruntime')) as engine:
        path = ServingPath(plain, engine)
        for i, frame in enumerate(frames):
            path.begin(frame, order)
            for stage in range(path.num_stages):
                own = path.run_stage(stage, engine.new_token()).newest
                scores[i, stage] = own.probabilities
            progress(i + 1, len(frames))
    np.maximum(scores, LEAST_PROBABILITY, out=scores)
    return np.log(scores, out=scores)


def stage_times(
    bundle: Bundle,
    pixels: Pixels,
    runs: int = TIMED_IMAGES,
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> tuple[ReferenceTimes, EngineInfo]:
    """Times every stage alone, in a pass of its own: one thread, nothing else measured.

    Combination and softmax are included. The resize is not: it depends on the camera, not on
    the ladder.

    Args:
        bundle: A checked bundle.
        pixels: As for `stage_scores`.
        runs: How many images, each through all stages; fewer where the ladder is so slow that
            the pass would take more than `TIMING_BUDGET_S`.
        progress: Called between two images, not timed, with how many are done and `runs`.

    Returns:
        The times, and what ran the stages.
    """
    frames, order = _frames(pixels)
    images = enumerate(cycle(frames))
    with closing(load_engine(bundle, 'onnxruntime')) as engine:
        path = ServingPath(bundle, engine)

        def begin() -> None:
            done, frame = next(images)
            progress(done, runs)
            path.begin(frame, order)
            for stage in range(path.num_stages):
                path.fit(stage)

        def run(stage: int) -> None:
            path.run_stage(stage, engine.new_token())

        times = measure_reference_times(
            run, path.num_stages, begin=begin, runs=runs, budget_s=TIMING_BUDGET_S
        )
        return times, engine.info()


def _frames(pixels: Pixels) -> tuple[Pixels, ColorOrder]:
    """The images as the serving path takes a frame: [H, W, 3] or [H, W]."""
    if (
        pixels.ndim != 4
        or pixels.shape[3] not in {1, 3}
        or pixels.dtype != np.uint8
        or not pixels.size
    ):
        raise ConfigurationError(
            f'images must be uint8 [images, height, width, 3 or 1], at least one of them; '
            f'not {pixels.dtype} {list(pixels.shape)}'
        )
    return (pixels, 'rgb') if pixels.shape[3] == 3 else (pixels[..., 0], 'gray')


def _shown(names: set[str]) -> str:
    ordered = sorted(names)
    shown = ', '.join(map(repr, ordered[:SHOWN_DIFFERENCES])) or 'nothing'
    left = len(ordered) - SHOWN_DIFFERENCES
    return f'{shown} and {left} more' if left > 0 else shown
