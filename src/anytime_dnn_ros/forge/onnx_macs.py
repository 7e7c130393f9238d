"""Multiply-accumulates and parameters of an ONNX model, and how much of it runs in INT8.

Counted from the file, so the same count holds for float and Q/DQ models alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx
from onnx import helper, shape_inference

from anytime_dnn_ros.errors import AnytimeError

# Operators that hand a stored tensor on with other bits or another shape.
PASS_THROUGH_OPS = {
    'QuantizeLinear',
    'DequantizeLinear',
    'Identity',
    'Cast',
    'Transpose',
    'Reshape',
    'Flatten',
    'Squeeze',
    'Unsqueeze',
    'MaxPool',
}
CONV_OPS = {'Conv', 'ConvTranspose'}
MATRIX_OPS = {'Gemm', 'MatMul', 'Einsum'}
# An elementwise operator's constant is a parameter only where it is a bias after a product.
BIAS_OPS = {'Add', 'Sub'}
NORM_OPS = {'BatchNormalization'}


@dataclass(frozen=True)
class Count:
    """What one inference costs.

    Attributes:
        macs: Multiply-accumulates of convolutions and matrix products.
        int8_macs: Those whose two factors are both quantised.
        parameters: Weights, biases and normalisation constants.
    """

    macs: int
    int8_macs: int
    parameters: int

    @property
    def int8_share(self) -> float:
        """Share of the MACs that may run in INT8, 0..1."""
        return self.int8_macs / self.macs if self.macs else 0.0


def count(model: onnx.ModelProto) -> Count:
    """Counts a model with static shapes.

    Raises:
        AnytimeError: A shape is not known, or an operator cannot be counted.
    """
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    stored = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    shapes = {**_static_shapes(graph), **stored}
    producers = {name: node for node in graph.node for name in node.output}

    def origin(name: str) -> tuple[str, bool]:
        """The stored or computed tensor behind `name`, and whether it was dequantised."""
        quantised = False
        while name in producers and producers[name].op_type in PASS_THROUGH_OPS:
            quantised |= producers[name].op_type == 'DequantizeLinear'
            name = producers[name].input[0]
        return name, quantised

    macs = int8_macs = 0
    parameters: set[str] = set()
    for node in graph.node:
        if node.op_type in CONV_OPS | MATRIX_OPS:
            cost = _node_macs(node, shapes)
            macs += cost
            int8_macs += cost if all(origin(name)[1] for name in node.input[:2]) else 0
        after_product = node.op_type in BIAS_OPS and any(
            name in producers and producers[name].op_type in CONV_OPS | MATRIX_OPS
            for name in node.input
        )
        if node.op_type in CONV_OPS | MATRIX_OPS | NORM_OPS or after_product:
            parameters |= {origin(name)[0] for name in node.input if name} & stored.keys()
    return Count(macs, int8_macs, sum(prod(stored[name]) for name in parameters))


def _static_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for value in [*graph.value_info, *graph.input, *graph.output]:
        dims = value.type.tensor_type.shape.dim
        if all(dim.HasField('dim_value') for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    data, weight, out = (shapes.get(n) for n in (*node.input[:2], node.output[0]))
    if data is None or weight is None or out is None:
        raise AnytimeError(
            f'{node.op_type} {node.name!r} has no static shape; export the model with a fixed '
            'batch and image size'
        )
    if node.op_type == 'Conv':
        return prod(out) * prod(weight[1:])
    if node.op_type == 'ConvTranspose':
        return prod(data) * prod(weight[1:])
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if node.op_type == 'Einsum':
        return _einsum_macs(node, attributes['equation'].decode(), data, weight)
    return prod(out) * data[-2 if attributes.get('transA', 0) else -1]


def _einsum_macs(
    node: onnx.NodeProto, equation: str, data: tuple[int, ...], weight: tuple[int, ...]
) -> int:
    """One product for every value that the letters of the equation can have together."""
    letters = equation.replace(' ', '').partition('->')[0].replace(',', '')
    sizes = (*data, *weight)
    if len(node.input) != 2 or len(letters) != len(sizes) or '.' in letters:
        raise AnytimeError(
            f'Einsum {node.name!r} ({equation}) cannot be counted; write it with two tensors and '
            'a letter for each of their axes, or as a matrix product'
        )
    return prod(dict(zip(letters, sizes, strict=True)).values())
