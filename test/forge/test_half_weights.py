"""Weights stored as float16: half the bytes, the same graph, nearly the same answers."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.forge import onnx_macs
from anytime_dnn_ros.forge.half_weights import LEAST_CONSTANTS, halved


def model(weights):
    """y = x W, W of shape [32, columns]."""
    node = helper.make_node('MatMul', ['x', 'w'], ['y'])
    graph = helper.make_graph(
        [node],
        'product',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1, 32])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1, weights.shape[1]])],
        [numpy_helper.from_array(weights.astype(np.float32), 'w')],
    )
    opset = [helper.make_opsetid('', 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def test_half_the_bytes_and_the_weights_rounded():
    rng = np.random.default_rng(0)
    weights, x = rng.normal(size=(32, 64)), rng.normal(size=(1, 32)).astype(np.float32)
    whole = model(weights).SerializeToString()
    half = halved(whole)
    onnx.checker.check_model(onnx.load_from_string(half))
    assert len(half) < 0.55 * len(whole)
    (y,) = InferenceSession(half).run(None, {'x': x})
    rounded = weights.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(y, x @ rounded, rtol=1e-4, atol=1e-4)


def test_costs_are_counted_alike():
    whole = model(np.ones((32, 64)))
    half = onnx.load_from_string(halved(whole.SerializeToString()))
    assert onnx_macs.count(half) == onnx_macs.count(whole)


def test_small_constants_stay():
    weights = np.full((32, LEAST_CONSTANTS // 32 - 1), 0.1)
    whole = model(weights).SerializeToString(deterministic=True)
    assert halved(whole) == whole


def test_what_float16_cannot_hold_is_refused():
    with pytest.raises(BundleError, match='--half-weights'):
        halved(model(np.full((32, 64), 1e5)).SerializeToString())
