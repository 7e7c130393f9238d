"""The quantised file: symmetric, faithful, and fused by ONNX Runtime after the s8-to-u8 pass."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from small_graphs import conv_net

from anytime_dnn_ros.engines.symmetric_int8 import to_unsigned
from anytime_dnn_ros.forge.quantize import (
    QuantizationError,
    check_symmetric,
    quantize,
    split_classifier,
    top1_agreement,
)


def logits(model: bytes, images: list[np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(model, providers=['CPUExecutionProvider'])
    return np.concatenate([session.run(None, {'image': image})[0] for image in images])


@pytest.fixture
def quantised(calibration_images: list[np.ndarray]) -> onnx.ModelProto:
    return quantize(conv_net(), calibration_images)


def test_every_zero_point_is_zero_and_the_operator_set_stays(quantised):
    # x, relu6, pooled and features, each Q and DQ, and two dequantised weights.
    assert check_symmetric(quantised) == 10
    assert [(o.domain, o.version) for o in quantised.opset_import] == [('', 17)]


def test_float_biases_stay_float(quantised):
    stored = {t.name: t.data_type for t in quantised.graph.initializer}
    assert stored['shift'] == onnx.TensorProto.FLOAT
    assert onnx.TensorProto.INT32 not in stored.values()


def test_quantised_answers_follow_the_float_parent(quantised, calibration_images):
    parent = logits(conv_net().SerializeToString(), calibration_images)
    canonical = logits(quantised.SerializeToString(), calibration_images)
    unsigned = logits(to_unsigned(quantised.SerializeToString())[0], calibration_images)
    spread = np.ptp(parent)
    assert np.abs(canonical - parent).max() < 0.05 * spread
    assert np.abs(unsigned - parent).max() < 0.05 * spread


def test_onnxruntime_runs_the_convolution_and_its_relu6_as_one_int8_operator(quantised, tmp_path):
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / 'fused.onnx')
    ort.InferenceSession(
        to_unsigned(quantised.SerializeToString())[0],
        options,
        providers=['CPUExecutionProvider'],
    )
    fused = Counter(node.op_type for node in onnx.load(tmp_path / 'fused.onnx').graph.node)
    assert fused['QLinearConv'] == 1
    assert fused['Conv'] == fused['Clip'] == 0


def test_split_classifier_computes_the_same(calibration_images):
    model = conv_net()
    before = logits(model.SerializeToString(), calibration_images)
    split_classifier(model)
    assert {'MatMul', 'Sub'} <= {node.op_type for node in model.graph.node}
    assert 'Gemm' not in {node.op_type for node in model.graph.node}
    np.testing.assert_allclose(
        logits(model.SerializeToString(), calibration_images), before, rtol=1e-4, atol=1e-4
    )


def test_quantising_leaves_the_parent_unchanged(calibration_images):
    model = conv_net()
    before = model.SerializeToString()
    quantize(model, calibration_images)
    assert model.SerializeToString() == before


def test_a_gemm_that_is_no_classifier_is_refused():
    model = conv_net()
    gemm = next(node for node in model.graph.node if node.op_type == 'Gemm')
    gemm.attribute.append(onnx.helper.make_attribute('alpha', 0.5))
    with pytest.raises(QuantizationError, match='no plain classifier'):
        split_classifier(model)


def test_an_asymmetric_file_is_refused(quantised):
    zero = next(t for t in quantised.graph.initializer if t.name.endswith('zero_point'))
    zero.CopyFrom(numpy_helper.from_array(np.array(3, np.int8), zero.name))
    with pytest.raises(QuantizationError, match='zero point 0'):
        check_symmetric(quantised)


def test_a_float_file_is_refused():
    with pytest.raises(QuantizationError, match='no QuantizeLinear'):
        check_symmetric(conv_net())


def test_agreement_counts_equal_first_choices():
    parent = np.array([[0, 1], [1, 0], [0, 1], [0, 1]], np.float32)
    net = np.array([[0, 9], [9, 0], [9, 0], [0, 9]], np.float32)
    assert top1_agreement(net, parent) == 0.75
