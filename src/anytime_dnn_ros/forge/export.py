"""From torch to float ONNX files that read camera pixels."""

from __future__ import annotations

import io
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidProtobuf
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from anytime_dnn_ros.errors import BundleError, MissingDependencyError
from anytime_dnn_ros.forge import MEND

if TYPE_CHECKING:
    import torch

# TensorRT 8.5 (JetPack 5) reads operator sets up to 17.
OPSET = 17
INPUT, OUTPUT = 'image', 'logits'


def export_float(
    net: torch.nn.Module, *, resolution: int, margin: int, mean: float, scale: float
) -> onnx.ModelProto:
    """Exports `net` with centre crop and normalisation in front, BatchNorm and padding folded.

    Args:
        net: From float32 [1, 3, resolution, resolution] to logits float32 [1, classes].
        resolution: Height and width that the network reads, pixels.
        margin: Pixels by which the image input is larger, cropped evenly; even, may be 0.
        mean: Subtracted from each uint8 pixel value.
        scale: Divides the difference.

    Returns:
        A model from `image` uint8 [1, resolution + margin, resolution + margin, 3] (RGB) to
        `logits` float32 [1, classes], static shapes.

    Raises:
        MissingDependencyError: torch is not installed.
    """
    library = _torch()
    module_type: Any = library.nn.Module
    start, size = margin // 2, resolution + margin

    class FromPixels(module_type):  # type: ignore[misc] # torch is not typed here
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, image: torch.Tensor) -> Any:
            # Cast first: TensorRT takes uint8 at the input and in no other operator.
            pixels = image.float()
            if margin:
                pixels = pixels[:, start : start + resolution, start : start + resolution, :]
            return self.net((pixels.permute(0, 3, 1, 2) - mean) / scale)

    image = library.zeros(1, size, size, 3, dtype=library.uint8)
    return export_module(FromPixels().eval(), (image,), [INPUT], [OUTPUT])


def export_module(
    module: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> onnx.ModelProto:
    """Exports a module with static shapes, its constants, BatchNorm and padding folded.

    Args:
        module: In evaluation mode.
        example: One tensor per input, of the shape and type that the file is to read.
        inputs: A name for each of them.
        outputs: A name for each tensor that the module gives.

    Raises:
        MissingDependencyError: torch is not installed.
        BundleError: The module does what an ONNX file cannot say, or the disk is full.
        OSError: The disk is full.
    """
    library = _torch()
    # Not into a file: the RuntimeError of a full disk would be taken for the network's.
    buffer = io.BytesIO()
    # The TorchScript exporter: static, and no exporter version has changed what it writes.
    with warnings.catch_warnings():
        # It warns that it is old and that it leaves the crop for the next step to fold.
        warnings.simplefilter('ignore')
        try:
            library.onnx.export(
                module,
                example,
                buffer,
                input_names=list(inputs),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=False,
            )
        except RuntimeError as error:
            raise BundleError(
                f'the network cannot be written as ONNX (operator set {OPSET}): '
                f'{str(error).splitlines()[0]} Replace that operator in the network'
            ) from error
    model = _folded(buffer.getvalue())
    # ONNX Runtime names every operator set that it has; other engines may not know them.
    used = {node.domain for node in model.graph.node}
    for unused in [entry for entry in model.opset_import if entry.domain not in used]:
        model.opset_import.remove(unused)
    return model


def _folded(raw: bytes) -> onnx.ModelProto:
    """Merges each Pad into its Conv by ONNX Runtime's basic optimisations, and infers the shapes.

    Not by `quant_pre_process`, which goes on with the unfolded graph where the disk is full.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'folded.onnx'
        # ONNX Runtime does not always tell that it could not write all: Python does.
        file.write_bytes(raw)
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(file)
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        try:
            ort.InferenceSession(raw, options, providers=['CPUExecutionProvider'])
            model = onnx.load(str(file))
        except (InvalidProtobuf, DecodeError) as error:
            raise BundleError(
                f'ONNX Runtime could not write {file} ({error}); make room there, or set TMPDIR '
                'to a folder with room'
            ) from error
    model = onnx.shape_inference.infer_shapes(model)
    # `quantize_static` asks for that.
    add_pre_process_metadata(model)
    return model


def _torch() -> Any:
    try:
        import torch  # noqa: PLC0415 - the module must be importable without the forge extra
    except ImportError as error:
        raise MissingDependencyError(f'torch is not installed; {MEND}') from error
    return torch
