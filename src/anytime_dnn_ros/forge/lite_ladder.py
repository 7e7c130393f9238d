"""The ladder `lite`: ImageNet-1k by EfficientNet-Lite nets in INT8, cheapest first.

Candidates {net x resolution} are exported, quantised and timed; then stages are taken greedily,
each the one that lowers the combined answer's negative log-likelihood most per millisecond, as
long as the bundle fits its size.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anytime_dnn_ros.engines.symmetric_int8 import to_unsigned
from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.forge import efficientnet_lite as lite
from anytime_dnn_ros.forge import onnx_macs
from anytime_dnn_ros.forge.export import INPUT, OUTPUT, export_float
from anytime_dnn_ros.forge.photos import Photos
from anytime_dnn_ros.forge.quantize import quantize, top1_agreement
from anytime_dnn_ros.forge.stacking import (
    FloatArray,
    combined,
    fit_weights,
    negative_log_likelihood,
    stacked,
)
from anytime_dnn_ros.ladder.bundle import Bundle, write_bundle
from anytime_dnn_ros.ladder.manifest import (
    IMAGE_SOURCE,
    CombineSpec,
    ImageSpec,
    InputSpec,
    Manifest,
    Quality,
    StageQuality,
    StageSpec,
    TensorSpec,
)
from anytime_dnn_ros.quality.performance_profile import count_profiles
from anytime_dnn_ros.quality.temperature import probabilities_at

CANDIDATES = (
    ('lite0', 128),
    ('lite0', 160),
    ('lite0', 192),
    ('lite0', 224),
    ('lite1', 240),
    ('lite2', 260),
)
# A frame much larger than the input is reduced by a whole factor first, so linear does not alias;
# it agrees with the reference preprocessing about as well as area, at a seventh of the time.
IMAGE = ImageSpec(color_order='rgb', resize='center_crop', interpolation='linear')
TIMED_RUNS, TIMED_ROUNDS = 20, 7
ORT_ERROR_LEVEL = 3
# Stage times differed by up to 10 % from build to build. Gains per millisecond closer than that
# are a tie, which the better answer wins, so that every build chooses the same stages.
RATE_TIE = 0.1
RULES = ('last', 'average', 'product', 'stack')
PACKAGES = ('onnx', 'onnxruntime', 'torch', 'efficientnet-lite-pytorch')
# Even photos calibrate the ranges, order the stages and fit the weights; odd ones report, and say
# which candidate is faithful enough to its float parent.
FIT, REPORT = slice(0, None, 2), slice(1, None, 2)


@dataclass(frozen=True, eq=False)
class Candidate:
    """One net at one resolution, quantised and measured.

    Attributes:
        model: The serialised INT8 Q/DQ file.
        logits: Its logits on all photos, [photos, classes], run as the engine runs it.
        agreement: Share of the odd photos on which it names the class its float parent names.
        float_ms: Median time of the float parent, 1 thread, milliseconds.
        int8_ms: Median time of the INT8 file after the s8-to-u8 pass, 1 thread, milliseconds.
    """

    name: str
    size: int
    model: bytes
    logits: FloatArray
    agreement: float
    float_accuracy: float
    int8_accuracy: float
    float_ms: float
    int8_ms: float
    count: onnx_macs.Count


def build_candidate(net: str, resolution: int, photos: Photos) -> Candidate:
    """Exports, quantises and measures one net at one resolution."""
    size = resolution + lite.CROP_MARGIN
    name = f'{net}_{resolution}_int8'
    parent = export_float(
        lite.load_net(net, resolution),
        resolution=resolution,
        margin=lite.CROP_MARGIN,
        mean=lite.PIXEL_MEAN,
        scale=lite.PIXEL_SCALE,
    )
    parent.graph.name = name
    images = photos.fitted(size, IMAGE)
    int8 = quantize(parent, images[FIT])
    model = int8.SerializeToString(deterministic=True)
    parent_session = _session(parent.SerializeToString())
    session = _session(to_unsigned(model)[0])
    logits, parent_logits = _logits(session, images), _logits(parent_session, images)
    truth = np.arange(len(images))[REPORT]
    times = _p50_ms([parent_session, session], images[0])
    return Candidate(
        name=name,
        size=size,
        model=model,
        logits=logits,
        agreement=top1_agreement(logits[REPORT], parent_logits[REPORT]),
        float_accuracy=_accuracy(parent_logits[REPORT], truth),
        int8_accuracy=_accuracy(logits[REPORT], truth),
        float_ms=times[0],
        int8_ms=times[1],
        count=onnx_macs.count(int8),
    )


def choose_stages(
    candidates: Sequence[Candidate], *, max_bytes: int, min_agreement: float
) -> list[Candidate]:
    """Takes stages greedily by gain per millisecond (`RATE_TIE`), measured on the fit half.

    Args:
        candidates: All of them, of one data set.
        max_bytes: Most bytes of all stages together.
        min_agreement: Least agreement of a stage with its float parent, 0..1.

    Raises:
        AnytimeError: No candidate is faithful and small enough.
    """
    truth = np.arange(len(candidates[0].logits))[FIT]
    left = [c for c in candidates if c.agreement >= min_agreement]
    chosen: list[Candidate] = []
    # Knowing nothing is the uniform answer.
    loss = float(np.log(candidates[0].logits.shape[1]))
    while True:
        room = max_bytes - sum(len(c.model) for c in chosen)
        losses = {c: _fitted_loss([*chosen, c], truth) for c in left if len(c.model) <= room}
        rates = {c: (loss - after) / c.int8_ms for c, after in losses.items()}
        best_rate = max(rates.values(), default=0.0)
        if best_rate <= 0:
            break
        tied = [c for c, rate in rates.items() if rate >= (1 - RATE_TIE) * best_rate]
        best = min(tied, key=lambda c: losses[c])
        chosen.append(best)
        left.remove(best)
        loss = losses[best]
    if not chosen:
        raise AnytimeError(
            f'no candidate agrees with its float parent on {min_agreement:.0%} of the photos '
            f'within {max_bytes} bytes; lower --min-agreement or raise --max-mb'
        )
    return chosen


def rule_figures(stages: Sequence[Candidate], spec: CombineSpec) -> dict[str, list[list[float]]]:
    """Accuracy and negative log-likelihood on the report half, by rule and prefix."""
    truth = np.arange(len(stages[0].logits))[REPORT]
    figures: dict[str, list[list[float]]] = {}
    for rule in RULES:
        rule_spec = spec if rule == spec.rule else CombineSpec(rule)  # type: ignore[arg-type]
        answers = [
            combined([s.logits[REPORT] for s in stages[:k]], rule_spec)
            for k in range(1, len(stages) + 1)
        ]
        figures[rule] = [[_accuracy(a, truth), negative_log_likelihood(a, truth)] for a in answers]
    return figures


def write_ladder(
    path: Path, stages: Sequence[Candidate], spec: CombineSpec, photos: Photos
) -> Bundle:
    """Writes the bundle of the chosen stages and reads it back."""
    fit = f'the even photos of {photos.name}'
    report = f'the odd photos of {photos.name}'
    caution = 'one photo per ImageNet class, probably training images: optimistic'
    manifest = Manifest(
        name='lite',
        task='classification',
        kind='interruptible',
        image=IMAGE,
        combine=spec,
        stages=tuple(_stage_spec(k, stage, report) for k, stage in enumerate(stages, 1)),
        provenance={
            'command': f'anytime-dnn ensemble lite --data {photos.name}',
            'data': f'ranges, choice of stages and weights: {fit}; figures: {report} ({caution})',
            'versions': {name: metadata.version(name) for name in PACKAGES},
            'licence': lite.LICENCE,
            'notice': lite.NOTICE_TEXT,
        },
    )
    accuracies = [accuracy for accuracy, _ in rule_figures(stages, spec)[spec.rule]]
    members = [stage.logits for stage in stages]
    answers = [combined(members[:k], spec) for k in range(1, len(stages) + 1)]
    probabilities = probabilities_at(np.stack(answers, 1), [1.0] * len(stages))
    truth = np.arange(len(probabilities))
    quality = Quality(
        data=f'{report} ({caution}); temperatures of the guards: {fit}',
        held_out=False,
        stages=tuple(StageQuality(accuracy=accuracy) for accuracy in accuracies),
        # No label sets: what training images cover, others would not.
        profiles=count_profiles(probabilities, truth, truth[FIT], truth[REPORT]),
    )
    files = {stage.name: stage.model for stage in stages}
    return write_bundle(path, manifest, files, photos.labels, quality)


def _stage_spec(number: int, stage: Candidate, data: str) -> StageSpec:
    return StageSpec(
        name=stage.name,
        file=f'stages/{number}_{stage.name}.onnx',
        inputs=(InputSpec(INPUT, 'uint8', (1, stage.size, stage.size, 3), IMAGE_SOURCE),),
        outputs=(TensorSpec(OUTPUT, 'float32', (1, stage.logits.shape[1])),),
        answer=OUTPUT,
        macs=stage.count.macs,
        parameters=stage.count.parameters,
        precision='int8',
        sha256='',
        agreement={'top1': stage.agreement, 'data': data},
    )


def stack_spec(stages: Sequence[Candidate]) -> CombineSpec:
    """Fits the weights of every prefix on the fit half."""
    truth = np.arange(len(stages[0].logits))[FIT]
    members = [stage.logits[FIT] for stage in stages]
    rows = tuple(fit_weights(members[:k], truth) for k in range(1, len(members) + 1))
    return CombineSpec('stack', rows)


def _fitted_loss(stages: Sequence[Candidate], truth: NDArray[np.intp]) -> float:
    members = [stage.logits[FIT] for stage in stages]
    return negative_log_likelihood(stacked(members, fit_weights(members, truth)), truth)


def _session(model: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    # Warnings tell of every scale that fusion left unused.
    options.log_severity_level = ORT_ERROR_LEVEL
    return ort.InferenceSession(model, options, providers=['CPUExecutionProvider'])


def _logits(session: ort.InferenceSession, images: Sequence[NDArray[np.uint8]]) -> FloatArray:
    return np.concatenate([session.run([OUTPUT], {INPUT: image})[0] for image in images])


def _p50_ms(sessions: Sequence[ort.InferenceSession], image: NDArray[np.uint8]) -> list[float]:
    """Median run time of each session in its quietest round, milliseconds."""
    medians: list[list[float]] = [[] for _ in sessions]
    for _ in range(TIMED_ROUNDS):
        for session, rounds in zip(sessions, medians, strict=True):
            times = []
            for _ in range(TIMED_RUNS):
                start = time.perf_counter()
                session.run([OUTPUT], {INPUT: image})
                times.append(time.perf_counter() - start)
            rounds.append(float(np.median(times)) * 1e3)
    return [min(rounds) for rounds in medians]


def _accuracy(scores: FloatArray, truth: NDArray[np.intp]) -> float:
    return float(np.mean(scores.argmax(1) == truth))
