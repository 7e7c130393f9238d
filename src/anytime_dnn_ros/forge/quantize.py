"""From a float ONNX file to symmetric INT8 Q/DQ, the one form that TensorRT and others take."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from anytime_dnn_ros.errors import AnytimeError

QUANTISED_OPS = ['Conv', 'MatMul', 'Add', 'GlobalAveragePool', 'Reshape']
QUANTISER_OPTIONS = {
    # TensorRT takes only zero point 0.
    'ActivationSymmetric': True,
    'WeightSymmetric': True,
    # A Conv is quantised after its ReLU6, where its range is [0, 6]; logits stay float.
    'OpTypesToExcludeOutputQuantization': ['Conv', 'MatMul'],
    # TensorRT takes float biases; ONNX Runtime quantises them itself at load.
    'QuantizeBias': False,
}


class QuantizationError(AnytimeError):
    """A quantised model is not what a bundle may hold."""


Feed = Mapping[str, NDArray[Any]]


class _Images(CalibrationDataReader):  # type: ignore[misc] # the library is untyped
    def __init__(self, name: str, images: Sequence[NDArray[np.uint8] | Feed]) -> None:
        self._feeds = iter(
            [image if isinstance(image, Mapping) else {name: image} for image in images]
        )

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def quantize(
    model: onnx.ModelProto, images: Sequence[NDArray[np.uint8] | Feed]
) -> onnx.ModelProto:
    """Quantises weights (per channel) and activations (per tensor) to symmetric INT8.

    Activation ranges are the smallest and largest value seen: ReLU6 bounds most of them, and
    percentiles and entropy were measured to agree no better with the float parent.

    Args:
        model: Float model, BatchNorm folded; not changed.
        images: Calibration inputs, each of the input's own type and shape; of a stage with several
            inputs, arrays by name.

    Returns:
        The same graph with Q/DQ pairs, operator set unchanged.

    Raises:
        QuantizationError: A zero point of the result is not 0.
    """
    parent = onnx.ModelProto()
    parent.CopyFrom(model)
    split_classifier(parent)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'int8.onnx'
        root = logging.getLogger()
        level = root.level
        # The library advises preprocessing on the root logger each time; export.py has done it.
        root.setLevel(logging.ERROR)
        try:
            quantize_static(
                parent,
                str(path),
                _Images(parent.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTISED_OPS,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options=QUANTISER_OPTIONS,
            )
        finally:
            root.setLevel(level)
        result = onnx.load(str(path))
    # The quantiser lists every domain that ONNX Runtime knows; TensorRT wants the used one.
    del result.opset_import[:]
    result.opset_import.extend(o for o in model.opset_import if not o.domain)
    onnx.checker.check_model(result)
    check_symmetric(result)
    return result


def split_classifier(model: onnx.ModelProto) -> None:
    """Turns each `Gemm(x, W^T, b)` into `MatMul(x, W) - (-b)`, in place.

    ONNX Runtime runs an INT8 MatMul with float output in INT8. A Gemm with a float bias, and a
    MatMul followed by Add (which it fuses to Gemm), fall back to float: 12 % of a small stage.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for position, node in reversed(list(enumerate(graph.node))):
        if node.op_type != 'Gemm':
            continue
        flags = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        plain = {'alpha': 1.0, 'beta': 1.0, 'transA': 0, 'transB': 1}
        if len(node.input) != 3 or {**plain, **flags} != plain or 'transB' not in flags:
            raise QuantizationError(f'Gemm {node.name!r} is no plain classifier x W^T + b')
        weight, bias = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        product, weight_name, bias_name = (f'{node.output[0]}_{s}' for s in ('mm', 'w', 'minus_b'))
        graph.initializer.append(
            numpy_helper.from_array(np.ascontiguousarray(weight.T), weight_name)
        )
        graph.initializer.append(numpy_helper.from_array(-bias, bias_name))
        graph.initializer.remove(constants[node.input[1]])
        graph.initializer.remove(constants[node.input[2]])
        graph.node.remove(node)
        matmul = helper.make_node('MatMul', [node.input[0], weight_name], [product])
        subtract = helper.make_node('Sub', [product, bias_name], [node.output[0]])
        graph.node.insert(position, matmul)
        graph.node.insert(position + 1, subtract)


def check_symmetric(model: onnx.ModelProto) -> int:
    """Checks that every Q/DQ node is INT8 with zero point 0.

    Returns:
        How many Q/DQ nodes there are.

    Raises:
        QuantizationError: There are none, or one has another type or zero point.
    """
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [n for n in model.graph.node if n.op_type in {'QuantizeLinear', 'DequantizeLinear'}]
    if not nodes:
        raise QuantizationError('the model has no QuantizeLinear: quantise it first')
    for node in nodes:
        tensor = constants.get(node.input[2]) if len(node.input) > 2 else None
        zero_point = None if tensor is None else numpy_helper.to_array(tensor)
        if zero_point is None or zero_point.dtype != np.int8 or np.any(zero_point):
            raise QuantizationError(
                f'{node.op_type} of {node.input[0]!r} is not symmetric int8 (zero point 0), '
                'which TensorRT refuses; quantise with ActivationSymmetric and WeightSymmetric'
            )
    return len(nodes)


def top1_agreement(logits: NDArray[np.float32], parent: NDArray[np.float32]) -> float:
    """Share of rows in which two nets name the same class, both [images, classes]."""
    return float(np.mean(logits.argmax(1) == parent.argmax(1)))
