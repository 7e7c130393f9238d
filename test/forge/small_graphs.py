"""ONNX graphs small enough to count by hand, shaped like an exported EfficientNet-Lite stage."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE, CLASSES = 8, 5


def conv_net(*, groups: int = 1, filters: int = 4) -> onnx.ModelProto:
    """`image` uint8 [1, 8, 8, 3] -> Conv 3x3, ReLU6 -> average pool -> Gemm -> `logits` [1, 5]."""
    rng = np.random.default_rng(0)
    constants = {
        'scale': np.float32(128),
        'kernel': rng.normal(size=(filters, 3 // groups, 3, 3)).astype(np.float32),
        'shift': rng.normal(size=filters).astype(np.float32),
        'low': np.float32(0),
        'high': np.float32(6),
        'flat': np.array([1, filters], np.int64),
        'weight': rng.normal(size=(CLASSES, filters)).astype(np.float32),
        'bias': rng.normal(size=CLASSES).astype(np.float32),
    }
    nodes = [
        helper.make_node('Cast', ['image'], ['cast'], to=TensorProto.FLOAT),
        helper.make_node('Transpose', ['cast'], ['nchw'], perm=[0, 3, 1, 2]),
        helper.make_node('Div', ['nchw', 'scale'], ['x']),
        helper.make_node(
            'Conv', ['x', 'kernel', 'shift'], ['conv'], 'conv', pads=[1, 1, 1, 1], group=groups
        ),
        helper.make_node('Clip', ['conv', 'low', 'high'], ['relu6'], 'relu6'),
        helper.make_node('GlobalAveragePool', ['relu6'], ['pooled'], 'pool'),
        helper.make_node('Reshape', ['pooled', 'flat'], ['features'], 'flatten'),
        helper.make_node('Gemm', ['features', 'weight', 'bias'], ['logits'], 'head', transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        'conv_net',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, [1, CLASSES])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model
