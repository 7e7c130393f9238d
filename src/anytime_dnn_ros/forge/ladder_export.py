"""From a trained staged net to a bundle whose answers are torch's, proven on real images."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.forge import onnx_macs
from anytime_dnn_ros.forge.export import OUTPUT, export_module
from anytime_dnn_ros.forge.half_weights import halved
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet
from anytime_dnn_ros.ladder.bundle import Bundle, write_bundle
from anytime_dnn_ros.ladder.manifest import (
    IMAGE_SOURCE,
    CombineSpec,
    ImageSpec,
    InputSpec,
    Manifest,
    StageSpec,
    TensorSpec,
)
from anytime_dnn_ros.serving import ServingPath

# Two libraries add float32 numbers in different orders: 1e-6 of the logits' range was usual,
# a wrong graph is off by 1e-2 and more. Classes that are as close as that may change places.
LOGIT_TOLERANCE = 1e-4
# A net that answers everything alike has no range; its logits still carry float32 rounding.
LEAST_RANGE = 1e-2
PARITY_BATCH = 64
# Of halved weights with the whole ones, share of images.
LEAST_AGREEMENT = 0.99

FloatArray = NDArray[np.float32]


class ParityError(BundleError):
    """The exported stages do not answer as the torch network does."""


@dataclass(frozen=True, eq=False)
class Wire:
    """A tensor between stages: who gives it, by which name, and what it looks like."""

    source: str
    example: Tensor


def export_ladder(
    net: StagedNet,
    path: Path,
    *,
    normalisation: Normalisation,
    combine: CombineSpec,
    image: ImageSpec,
    class_names: tuple[str, ...],
    parity_pixels: NDArray[np.uint8],
    provenance: dict[str, Any],
    half_weights: bool = False,
) -> Bundle:
    """Writes a network as a ladder bundle, one ONNX file per stage, and proves its answers.

    The network itself is left as it is: a copy is exported, in evaluation mode, float32, on the
    CPU.

    Args:
        net: A trained network.
        path: The bundle's folder, and the ladder's name; a bundle that is there is replaced.
        normalisation: What the network saw in training; becomes part of the graph.
        combine: How the stages' logits become answers.
        image: How a camera frame becomes the network's pixels.
        class_names: One per class.
        parity_pixels: Real images, uint8 [N, H, W, C] at the network's own size.
        provenance: `command`, `data` and `licence`, see the manifest's schema; what the parity
            check measured is added as `parity`.
        half_weights: Store large constants as float16, see `half_weights.py`; each stage then
            carries its agreement with the float32 file.

    Returns:
        The bundle as read back from disk, without quality data.

    Raises:
        ParityError: ONNX Runtime's answers differ from torch's, or those of halved weights from
            the others; nothing is written.
        BundleError: The parts do not fit together, or the disk refuses; nothing is written.
    """
    if parity_pixels.ndim != 4 or not len(parity_pixels):
        raise BundleError(
            f'the parity check needs images as [N, H, W, C], N > 0, not '
            f'{list(parity_pixels.shape)}; give some of the validation images'
        )
    net = _for_export(net)
    specs, files = _stages(net, normalisation, parity_pixels[:1])
    manifest = Manifest(
        name=path.absolute().name,
        task='classification',
        kind=net.kind,
        image=image,
        combine=combine,
        stages=tuple(specs),
        provenance=provenance,
    )
    with tempfile.TemporaryDirectory() as folder:
        draft = write_bundle(Path(folder) / manifest.name, manifest, files, class_names, None)
        logits = _bundle_logits(draft, parity_pixels)
        parity = _check_parity(
            manifest.name, _torch_logits(net, normalisation, parity_pixels), logits
        )
        if half_weights:
            files = {name: halved(data) for name, data in files.items()}
            draft = write_bundle(draft.path, manifest, files, class_names, None)
            manifest = _with_agreement(manifest, logits, _bundle_logits(draft, parity_pixels))
    manifest = replace(manifest, provenance={**provenance, 'parity': parity})
    return write_bundle(path, manifest, files, class_names, None)


def check_exportable(
    net: StagedNet, normalisation: Normalisation, pixels: NDArray[np.uint8]
) -> None:
    """Refuses a network that cannot be exported, whatever it may learn; it is left as it is.

    Args:
        net: Need not be trained.
        normalisation: As for `export_ladder`.
        pixels: One image, uint8 [1, H, W, C] at the network's own size.

    Raises:
        AnytimeError: It does what an ONNX file cannot say, or what cannot be counted.
    """
    _stages(_for_export(net), normalisation, pixels)


def _for_export(net: StagedNet) -> StagedNet:
    copied: StagedNet = copy.deepcopy(net).eval().float().cpu()
    return copied


class _StageFromWires(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A stage as its file runs it: uint8 pixels in, logits and the wanted features out."""

    def __init__(
        self, stage: Stage, normalisation: Normalisation, reads: Sequence[int], keep: Sequence[int]
    ) -> None:
        super().__init__()
        self.stage = stage
        self.normalisation = normalisation
        self.reads = reads
        self.keep = keep

    def forward(self, *wires: Tensor) -> tuple[Tensor, ...]:
        tensors = [
            # Cast first: TensorRT takes uint8 at the input and in no other operator.
            self.normalisation.apply(wire.float()) if wire.dtype == torch.uint8 else wire
            for wire in wires
        ]
        features = self.stage.features(*(tensors[i] for i in self.reads))
        return (self.stage.head(*features), *(features[i] for i in self.keep))


def _stages(
    net: StagedNet, normalisation: Normalisation, pixels: NDArray[np.uint8]
) -> tuple[list[StageSpec], dict[str, bytes]]:
    """Exports every stage, last first: what a file really reads, earlier ones have to give."""
    reads, written, answers = wiring(net, normalisation, pixels)
    specs: list[StageSpec] = []
    files: dict[str, bytes] = {}
    wanted: set[str] = set()
    for k in reversed(range(len(net))):
        name = _stage_name(k)
        wires = list({wire.source: wire for wire in reads[k]}.values())
        keep = [i for i, wire in enumerate(written[k]) if wire.source in wanted]
        # A feature handed on under a second name is one tensor.
        keep = [i for i in keep if written[k][i].source == f'{name}/{net.stages[k].writes[i]}']
        module = _StageFromWires(
            net.stages[k],
            normalisation,
            [[wire.source for wire in wires].index(wire.source) for wire in reads[k]],
            keep,
        )
        # A stage may write under the name that it reads; one file cannot have it twice.
        inputs = [wire.source.replace('/', '.') for wire in wires]
        outputs = [OUTPUT, *(net.stages[k].writes[i] for i in keep)]
        model = export_module(
            module.eval(), tuple(wire.example for wire in wires), inputs, outputs
        )
        model.graph.name = name
        used = _drop_unread_inputs(model)
        wires = [wire for wire, label in zip(wires, inputs, strict=True) if label in used]
        wanted |= {wire.source for wire in wires}
        count = onnx_macs.count(model)
        specs.append(
            StageSpec(
                name=name,
                file=f'stages/{name}.onnx',
                inputs=tuple(
                    InputSpec(
                        wire.source.replace('/', '.'), *_type(wire.example), source=wire.source
                    )
                    for wire in wires
                ),
                outputs=(
                    TensorSpec(OUTPUT, *_type(answers[k])),
                    *(
                        TensorSpec(net.stages[k].writes[i], *_type(written[k][i].example))
                        for i in keep
                    ),
                ),
                answer=OUTPUT,
                macs=count.macs,
                parameters=count.parameters,
                precision='float32',
                sha256='',
            )
        )
        files[name] = model.SerializeToString(deterministic=True)
    return specs[::-1], files


def wiring(
    net: StagedNet, normalisation: Normalisation, pixels: NDArray[np.uint8]
) -> tuple[list[list[Wire]], list[list[Wire]], list[Tensor]]:
    """Runs one image through: how a bundle's stages are wired.

    A stage that hands on a tensor which it was given writes no wire of its own: the reader is
    wired to where that tensor came from.

    Args:
        net: In evaluation mode.
        normalisation: What the network saw in training.
        pixels: One image, uint8 [1, H, W, C], or several.

    Returns:
        Per stage, the wires it reads, in the order of its body's inputs, the wires it writes, and
        its logits.
    """
    image = torch.from_numpy(pixels)
    wires = {IMAGE: Wire(IMAGE_SOURCE, image)}
    tensors = {IMAGE: normalisation.apply(image)}
    reads, written, answers = [], [], []
    with torch.no_grad():
        for k, stage in enumerate(net.stages):
            _check_names(stage, k)
            given = [tensors[name] for name in stage.reads]
            features = stage.features(*given)
            reads.append([wires[name] for name in stage.reads])
            answers.append(stage.head(*features))
            known = list(zip(given, reads[-1], strict=True))
            for name, tensor in zip(stage.writes, features, strict=True):
                wire = next((wire for other, wire in known if other is tensor), None)
                known.append(
                    (tensor, wire or Wire(f'{_stage_name(k)}/{name}', tensor.contiguous()))
                )
            written.append([wire for _, wire in known[len(given) :]])
            wires.update(zip(stage.writes, written[-1], strict=True))
            tensors.update(zip(stage.writes, features, strict=True))
    return reads, written, answers


def _check_names(stage: Stage, k: int) -> None:
    for name in stage.writes:
        if not name or '/' in name or name == OUTPUT or stage.writes.count(name) > 1:
            raise BundleError(
                f'stage {k + 1} writes {name!r}: a feature needs a name of its own, without "/" '
                f'and not {OUTPUT!r}; rename it in the network'
            )


def _stage_name(k: int) -> str:
    return f'stage{k + 1}'


def _type(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return str(tensor.dtype).removeprefix('torch.'), tuple(tensor.shape)


def _drop_unread_inputs(model: onnx.ModelProto) -> set[str]:
    """Removes the inputs that no operator reads; returns the names of those that stay."""
    read = {name for node in model.graph.node for name in node.input}
    for value in [v for v in model.graph.input if v.name not in read]:
        model.graph.input.remove(value)
    return {value.name for value in model.graph.input}


def _check_parity(name: str, expected: FloatArray, found: FloatArray) -> dict[str, Any]:
    """Compares every stage's logits with torch's.

    Args:
        name: Of the ladder.
        expected: Torch's, float32 [N, stages, classes].
        found: The bundle's, as a robot runs it.

    Returns:
        How many images, and the largest difference as a share of the logits' range.

    Raises:
        ParityError: They differ.
    """
    largest = 0.0
    for k in range(expected.shape[1]):
        logits = expected[:, k]
        if not np.isfinite(logits).all():
            raise ParityError(
                f'stage {k + 1} of the torch network gives numbers that are not finite; the '
                'training has diverged, train it again with a lower learning rate'
            )
        span = max(float(np.ptp(logits)), LEAST_RANGE)
        share = float(np.abs(found[:, k] - logits).max()) / span
        other = int((found[:, k].argmax(1) != logits.argmax(1)).sum())
        # Not `share > LOGIT_TOLERANCE`: that lets NaN pass.
        if not share <= LOGIT_TOLERANCE:
            raise ParityError(
                f'stage {k + 1} of {name!r} answers differently in ONNX Runtime and '
                f'in torch: another best class for {other} of {len(expected)} images, logits off '
                f'by up to {share:.2g} of their range (allowed: {LOGIT_TOLERANCE:g}); nothing '
                'was written. Its forward pass does what the ONNX exporter cannot record (a '
                'branch on data, a change in place of a tensor that another stage reads)'
            )
        largest = max(largest, share)
    return {
        'images': len(expected),
        'largest_logit_difference_share': largest,
        'allowed_share': LOGIT_TOLERANCE,
    }


def _with_agreement(manifest: Manifest, parent: FloatArray, found: FloatArray) -> Manifest:
    """Each stage with the share of images on which its halved weights name the same class.

    Raises:
        ParityError: A share is below `LEAST_AGREEMENT`.
    """
    shares = (parent.argmax(2) == found.argmax(2)).mean(0)
    if shares.min() < LEAST_AGREEMENT:
        raise ParityError(
            f'stage {shares.argmin() + 1} of {manifest.name!r} agrees with its float32 file on '
            f'{shares.min():.1%} of {len(parent)} images only; leave out --half-weights'
        )
    data = f'{len(parent)} validation images, weights stored as float16'
    stages = tuple(
        replace(stage, agreement={'top1': float(share), 'data': data})
        for stage, share in zip(manifest.stages, shares, strict=True)
    )
    return replace(manifest, stages=stages)


def _torch_logits(
    net: StagedNet, normalisation: Normalisation, pixels: NDArray[np.uint8]
) -> FloatArray:
    with torch.no_grad():
        batches = [
            torch.stack(net(normalisation.apply(batch)), 1).numpy()
            for batch in torch.from_numpy(pixels).split(PARITY_BATCH)
        ]
    return np.concatenate(batches)


def _bundle_logits(bundle: Bundle, pixels: NDArray[np.uint8]) -> FloatArray:
    """Logits of each stage alone, float32 [N, stages, classes], by way of the serving path."""
    gray = bundle.manifest.image.color_order == 'gray'
    engine = OnnxRuntimeEngine(bundle)
    path = ServingPath(bundle, engine)
    logits = np.empty((len(pixels), path.num_stages, bundle.manifest.num_classes), np.float32)
    try:
        for image, row in zip(pixels, logits, strict=True):
            path.begin(image[..., 0] if gray else image, bundle.manifest.image.color_order)
            for k in range(path.num_stages):
                path.fit(k)
                row[k] = engine.run_stage(k, engine.new_token())
    finally:
        engine.close()
    return logits
