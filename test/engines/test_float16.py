"""A stage in float16 keeps its signature and, nearly, its answers."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from anytime_dnn_ros.engines.float16 import products_to_float16, to_float16, with_plain_weights
from anytime_dnn_ros.ladder.bundle import read_bundle, shipped_bundles


def stage(name: str, index: int) -> onnx.ModelProto:
    return onnx.load(read_bundle(shipped_bundles()[name]).stage_file(index))


def answers(proto: onnx.ModelProto) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    session = ort.InferenceSession(proto.SerializeToString(), providers=['CPUExecutionProvider'])
    feed = {
        given.name: rng.integers(0, 256, given.shape, np.uint8)
        if given.type == 'tensor(uint8)'
        else rng.normal(size=given.shape).astype(np.float32)
        for given in session.get_inputs()
    }
    return session.run(None, feed)


@pytest.mark.parametrize(
    ('change', 'parent'),
    [
        (with_plain_weights, ('fashion', 0)),
        (with_plain_weights, ('fashion', 4)),
        (with_plain_weights, ('lite', 0)),
        (to_float16, ('fashion', 0)),
        (to_float16, ('fashion', 4)),
        (products_to_float16, ('fashion', 0)),
        (products_to_float16, ('lite', 0)),
    ],
)
def test_signature_and_answers_stay(change, parent):
    parent = stage(*parent)
    before = parent.SerializeToString()
    changed = change(parent)
    onnx.checker.check_model(changed, full_check=True)
    assert parent.SerializeToString() == before
    assert list(changed.graph.input) == list(parent.graph.input)
    assert list(changed.graph.output) == list(parent.graph.output)
    for found, expected in zip(answers(changed), answers(parent), strict=True):
        assert found.dtype == expected.dtype
        assert np.abs(found - expected).max() < 0.01 * np.ptp(expected)


def test_plain_weights_change_no_answer():
    for found, expected in zip(
        answers(with_plain_weights(stage('fashion', 2))), answers(stage('fashion', 2)), strict=True
    ):
        assert np.array_equal(found, expected)


def test_a_cast_is_read_whatever_else_it_says():
    # From opset 19 on it may have `saturate`, in any order.
    cast = helper.make_node('Cast', ['stored'], ['weight'])
    cast.attribute.extend(
        [helper.make_attribute('saturate', 1), helper.make_attribute('to', TensorProto.FLOAT16)]
    )
    graph = helper.make_graph(
        [cast, helper.make_node('Identity', ['weight'], ['y'])],
        'stage',
        [],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT16, [2])],
        [numpy_helper.from_array(np.ones(2, np.float32), 'stored')],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 19)], ir_version=9)
    onnx.checker.check_model(with_plain_weights(model), full_check=True)


def test_weights_become_float16():
    types = {t.data_type for t in to_float16(stage('fashion', 1)).graph.initializer}
    assert TensorProto.FLOAT not in types


def test_every_product_reads_and_gives_float16():
    changed = products_to_float16(stage('lite', 0))
    casts = {n.output[0]: n for n in changed.graph.node if n.op_type == 'Cast'}
    products = [n for n in changed.graph.node if n.op_type in ('MatMul', 'Gemm')]
    assert products
    for product in products:
        assert all(casts[name].attribute[0].i == TensorProto.FLOAT16 for name in product.input)
        assert any(product.output[0] in cast.input for cast in casts.values())
