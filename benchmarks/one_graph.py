"""The stages of a bundle as one graph with all heads: what a network without stages costs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import compose

from anytime_dnn_ros.ladder.bundle import Bundle, write_bundle
from anytime_dnn_ros.ladder.manifest import (
    IMAGE_SOURCE,
    CombineSpec,
    InputSpec,
    StageSpec,
    TensorSpec,
)


def one_graph(bundle: Bundle) -> onnx.ModelProto:
    """All stages in one ONNX graph.

    Its outputs are the stages' logits, `<stage>/<answer>`; features stay inside; stages that read
    the image in one size share one input.
    """
    merged: onnx.ModelProto | None = None
    for index, stage in enumerate(bundle.manifest.stages):
        model = compose.add_prefix(onnx.load(bundle.stage_file(index)), f'{stage.name}/')
        wires = [(t.source, f'{stage.name}/{t.name}') for t in stage.inputs if not t.is_image]
        if merged is None:
            merged = model
            continue
        # A later stage may read what this one reads too, so nothing is dropped yet.
        kept = [output.name for part in (merged, model) for output in part.graph.output]
        merged = compose.merge_models(merged, model, io_map=wires, outputs=kept)
    assert merged is not None
    answers = {f'{stage.name}/{stage.answer}' for stage in bundle.manifest.stages}
    for output in [o for o in merged.graph.output if o.name not in answers]:
        merged.graph.output.remove(output)
    _share_images(merged)
    merged.graph.name = bundle.manifest.name
    merged.graph.doc_string = ''
    onnx.checker.check_model(merged)
    return merged


def _share_images(model: onnx.ModelProto) -> None:
    """Leaves one image input of each size."""
    first: dict[bytes, str] = {}
    for value in list(model.graph.input):
        name = first.setdefault(value.type.SerializeToString(), value.name)
        if name == value.name:
            continue
        for node in model.graph.node:
            for position, given in enumerate(node.input):
                if given == value.name:
                    node.input[position] = name
        model.graph.input.remove(value)


def one_stage_bundle(bundle: Bundle, folder: Path) -> Bundle:
    """The same ladder as a bundle of one stage, so that every engine runs it as it runs stages.

    Its answer is the last stage's; the logits of the others are outputs too, and stay on the
    device as features do.

    Args:
        bundle: A ladder.
        folder: Where to write.
    """
    model = one_graph(bundle)
    stages = bundle.manifest.stages
    sizes = {f'{s.name}/{t.name}': t for s in stages for t in s.inputs}
    precisions = {stage.precision for stage in stages}
    whole = StageSpec(
        name='all',
        file='stages/all.onnx',
        inputs=tuple(
            InputSpec(value.name, sizes[value.name].dtype, sizes[value.name].shape, IMAGE_SOURCE)
            for value in model.graph.input
        ),
        outputs=tuple(
            TensorSpec(f'{s.name}/{o.name}', o.dtype, o.shape)
            for s in stages
            for o in s.outputs
            if o.name == s.answer
        ),
        answer=f'{stages[-1].name}/{stages[-1].answer}',
        macs=sum(stage.macs for stage in stages),
        parameters=sum(stage.parameters for stage in stages),
        precision=precisions.pop() if len(precisions) == 1 else 'mixed',
        sha256='',
    )
    manifest = replace(
        bundle.manifest,
        name=f'{bundle.manifest.name}_one_graph',
        combine=CombineSpec('last'),
        stages=(whole,),
    )
    files = {whole.name: model.SerializeToString(deterministic=True)}
    return write_bundle(folder / manifest.name, manifest, files, bundle.labels, None)


def stage_logits(
    bundle: Bundle, images: dict[tuple[int, ...], NDArray[np.uint8]]
) -> list[NDArray[np.float32]]:
    """What every stage answers in ONNX Runtime on the CPU, one after another.

    Args:
        bundle: A ladder.
        images: The image by the shape that a stage reads, uint8 [1, H, W, C].
    """
    known: dict[str, NDArray[np.generic]] = {}
    answers = []
    for index, stage in enumerate(bundle.manifest.stages):
        feeds = {t.name: images[t.shape] if t.is_image else known[t.source] for t in stage.inputs}
        names = [output.name for output in stage.outputs]
        given = cpu_session(bundle.stage_file(index).read_bytes()).run(names, feeds)
        known |= {f'{stage.name}/{n}': value for n, value in zip(names, given, strict=True)}
        answers.append(known[f'{stage.name}/{stage.answer}'])
    return answers


def graph_logits(
    bundle: Bundle, whole: Bundle, images: dict[tuple[int, ...], NDArray[np.uint8]]
) -> list[NDArray[np.float32]]:
    """The same by `one_stage_bundle`."""
    stage = whole.manifest.stages[0]
    feeds = {tensor.name: images[tensor.shape] for tensor in stage.inputs}
    names = [f'{s.name}/{s.answer}' for s in bundle.manifest.stages]
    return list(cpu_session(whole.stage_file(0).read_bytes()).run(names, feeds))


def cpu_session(model: bytes) -> onnxruntime.InferenceSession:
    """One thread, errors only."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
