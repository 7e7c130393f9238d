"""The float types inside an ONNX stage; its inputs and outputs stay as they are."""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

PRODUCTS = ('MatMul', 'Gemm')


def with_plain_weights(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Has weights that are stored in another type than they are used in stored as they are used.

    A bundle may store float32 weights as float16 with a Cast behind each. A convolution whose
    weights come from another node is a special case to TensorRT, which 8 has in part only.

    Args:
        proto: Left as it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    stored = {tensor.name: tensor for tensor in copy.graph.initializer}
    kept = []
    for node in copy.graph.node:
        if node.op_type != 'Cast' or node.input[0] not in stored:
            kept.append(node)
            continue
        (to,) = (attribute.i for attribute in node.attribute if attribute.name == 'to')
        dtype = helper.tensor_dtype_to_np_dtype(to)
        value = numpy_helper.to_array(stored[node.input[0]]).astype(dtype)
        copy.graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
    used = {name for node in kept for name in node.input}
    weights = [tensor for tensor in copy.graph.initializer if tensor.name in used]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(weights)
    return copy


def to_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Turns weights and activations to float16.

    Inputs and outputs keep their types, so the manifest still describes the stage and logits of
    stages can be compared.

    Args:
        proto: Left as it is.
    """
    # The package they lie in puts a folder of short names on the path: only when it is needed.
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415
    from onnxruntime.transformers.onnx_model import OnnxModel  # noqa: PLC0415

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    changed = convert_float_to_float16(copy, keep_io_types=True)
    # Casts of inputs come last, after what reads them.
    OnnxModel.graph_topological_sort(changed.graph)
    return changed


def products_to_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Casts what goes into each matrix product to float16, and its result back to float32.

    Args:
        proto: Left as it is.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    nodes = []
    for node in copy.graph.node:
        if node.op_type not in PRODUCTS:
            nodes.append(node)
            continue
        for i, name in enumerate(node.input):
            # A name of its own for each use: two products may read the same tensor.
            node.input[i] = f'{node.output[0]}/input{i}_float16'
            nodes.append(helper.make_node('Cast', [name], [node.input[i]], to=TensorProto.FLOAT16))
        result, node.output[0] = node.output[0], f'{node.output[0]}_float16'
        nodes += [
            node,
            helper.make_node('Cast', [node.output[0]], [result], to=TensorProto.FLOAT),
        ]
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy
