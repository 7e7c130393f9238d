"""Symmetric int8 activations rewritten to uint8 at load, for ONNX Runtime.

A bundle holds the one form that TensorRT accepts: int8 with zero point 0. ONNX Runtime fuses a
ReLU or ReLU6 into the convolution before it only where the zero point is the type's smallest
value, so that form can be slower than float32 (measured on x86; the fusion rule is the same on
every CPU). The rewrite loses nothing: after a ReLU,
s8 at scale s (its upper half only) becomes u8 zero point 0 at scale s·127/255, twice as fine;
everywhere else s8 becomes u8 with zero point 128 at the same scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

# Operators that let a ReLU's "nothing below zero" through.
SIGN_KEEPING_OPS = {'MaxPool', 'GlobalAveragePool', 'AveragePool', 'Reshape', 'Flatten'}


@dataclass
class _Graph:
    """A graph with its look-up tables."""

    graph: onnx.GraphProto
    constants: dict[str, onnx.TensorProto]
    producers: dict[str, onnx.NodeProto]
    consumers: dict[str, list[onnx.NodeProto]]

    def constant(self, name: str) -> NDArray[np.generic] | None:
        tensor = self.constants.get(name)
        return None if tensor is None else numpy_helper.to_array(tensor)

    def add(self, name: str, value: NDArray[np.generic]) -> str:
        self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name


def to_unsigned(model: bytes) -> tuple[bytes, int]:
    """Rewrites the symmetric int8 activations of an ONNX model to uint8.

    Tensors that cross the model's boundary keep their type. Biases stored as int32 with a scale
    tied to their input's are turned back to float32, since that input's scale changes.

    Args:
        model: A serialised ONNX model.

    Returns:
        The serialised model and how many activations were rewritten; the model is returned as it
        was where there are none.
    """
    proto = onnx.load_model_from_string(model)
    nodes = list(proto.graph.node)
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    graph = _Graph(
        graph=proto.graph,
        constants={t.name: t for t in proto.graph.initializer},
        producers={name: node for node in nodes for name in node.output},
        consumers=consumers,
    )
    boundary = {tensor.name for tensor in proto.graph.output}
    count = sum(_rewrite(graph, node, boundary) for node in nodes)
    if not count:
        return model, 0
    for node in nodes:
        _unfold_bias(graph, node)
    # The recorded types of the rewritten tensors no longer hold.
    del proto.graph.value_info[:]
    return proto.SerializeToString(), count


def _rewrite(graph: _Graph, node: onnx.NodeProto, boundary: set[str]) -> bool:
    """Turns one QuantizeLinear and its DequantizeLinear nodes to uint8, if they are symmetric."""
    if node.op_type != 'QuantizeLinear' or len(node.input) < 3 or node.input[0] in graph.constants:
        return False
    scale, zero_point = graph.constant(node.input[1]), graph.constant(node.input[2])
    readers = graph.consumers.get(node.output[0], [])
    if scale is None or zero_point is None or zero_point.dtype != np.int8 or zero_point.size != 1:
        return False
    if node.output[0] in boundary or any(r.op_type != 'DequantizeLinear' for r in readers):
        return False
    if int(zero_point.item()) == 0 and _is_non_negative(graph, node.input[0]):
        scale, offset = scale * np.float32(127 / 255), 0
    else:
        offset = int(zero_point.item()) + 128
    scale_name = graph.add(f'{node.output[0]}_u8_scale', np.asarray(scale, np.float32))
    zero_name = graph.add(f'{node.output[0]}_u8_zero', np.asarray(offset, np.uint8))
    for quantizer in [node, *readers]:
        # An explicit output type would contradict the new zero point.
        kept = [a for a in quantizer.attribute if a.name != 'output_dtype']
        del quantizer.attribute[:]
        quantizer.attribute.extend(kept)
        quantizer.input[1], quantizer.input[2] = scale_name, zero_name
    return True


def _is_non_negative(graph: _Graph, name: str) -> bool:
    producer = graph.producers.get(name)
    while producer is not None and producer.op_type in SIGN_KEEPING_OPS:
        producer = graph.producers.get(producer.input[0])
    if producer is None:
        return False
    if producer.op_type == 'Clip' and len(producer.input) > 1:
        low = graph.constant(producer.input[1])
        return low is not None and float(low.item()) >= 0
    return str(producer.op_type) == 'Relu'


def _unfold_bias(graph: _Graph, node: onnx.NodeProto) -> None:
    """Replaces `DequantizeLinear(int32 constant)` by the float32 constant it stands for."""
    if node.op_type != 'DequantizeLinear' or node.input[0] not in graph.constants:
        return
    value, scale = graph.constant(node.input[0]), graph.constant(node.input[1])
    if value is None or scale is None or value.dtype != np.int32:
        return
    bias = (value.astype(np.float64) * scale.astype(np.float64)).astype(np.float32)
    name = graph.add(f'{node.output[0]}_float', bias)
    for reader in graph.consumers.get(node.output[0], []):
        for position, source in enumerate(reader.input):
            if source == node.output[0]:
                reader.input[position] = name
    graph.graph.node.remove(node)
