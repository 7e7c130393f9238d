"""The rewrite at load: the same answers, in the type that this CPU is fast at."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from anytime_dnn_ros.engines.symmetric_int8 import to_unsigned

IN_SCALE, MID_SCALE, OUT_SCALE, WEIGHT_SCALE = 0.02, 0.05, 0.05, 0.01
CHANNELS, SIZE = 4, 8


def symmetric_model(*, activation='Relu', boundary=False):
    """Convolution, activation, convolution in symmetric Q/DQ, with folded int32 biases.

    Args:
        activation: `Relu`, `Clip` (ReLU6) or None.
        boundary: Whether the int8 tensor between the two is an output of the model too.
    """
    rng = np.random.default_rng(1)
    constants, nodes = [], []

    def constant(name, value):
        constants.append(numpy_helper.from_array(value, name))
        return name

    def quantize(source, name, scale):
        parameters = [
            constant(f'{name}_scale', np.float32(scale)),
            constant(f'{name}_zero', np.int8(0)),
        ]
        nodes.append(helper.make_node('QuantizeLinear', [source, *parameters], [f'{name}_q']))
        nodes.append(helper.make_node('DequantizeLinear', [f'{name}_q', *parameters], [name]))
        return name

    def convolve(source, name, in_scale):
        weight = rng.integers(-127, 128, (CHANNELS, CHANNELS, 3, 3)).astype(np.int8)
        bias = rng.integers(-500, 500, CHANNELS).astype(np.int32)
        for suffix, value, scale in (
            ('w', weight, WEIGHT_SCALE),
            ('b', bias, WEIGHT_SCALE * in_scale),
        ):
            inputs = [
                constant(f'{name}_{suffix}_q', value),
                constant(f'{name}_{suffix}_scale', np.float32(scale)),
            ]
            nodes.append(helper.make_node('DequantizeLinear', inputs, [f'{name}_{suffix}']))
        nodes.append(
            helper.make_node('Conv', [source, f'{name}_w', f'{name}_b'], [name], pads=[1, 1, 1, 1])
        )
        return name

    inner = convolve(quantize('x', 'xq', IN_SCALE), 'conv1', IN_SCALE)
    if activation == 'Relu':
        nodes.append(helper.make_node('Relu', [inner], ['act']))
        inner = 'act'
    elif activation == 'Clip':
        bounds = [constant('low', np.float32(0)), constant('high', np.float32(6))]
        nodes.append(helper.make_node('Clip', [inner, *bounds], ['act']))
        inner = 'act'
    middle = quantize(inner, 'mid', MID_SCALE)
    quantize(convolve(middle, 'conv2', MID_SCALE), 'y', OUT_SCALE)
    shape = [1, CHANNELS, SIZE, SIZE]
    outputs = [helper.make_tensor_value_info('y', TensorProto.FLOAT, shape)]
    if boundary:
        outputs.append(helper.make_tensor_value_info('mid_q', TensorProto.INT8, shape))
    graph = helper.make_graph(
        nodes,
        'symmetric',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        outputs,
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


def run(model, optimised=True):
    options = ort.SessionOptions()
    if not optimised:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    x = np.random.default_rng(0).uniform(-2.5, 2.5, (1, CHANNELS, SIZE, SIZE))
    return session.run(None, {'x': x.astype(np.float32)})


def constants_of(model):
    graph = onnx.load_model_from_string(model).graph
    return graph, {t.name: numpy_helper.to_array(t) for t in graph.initializer}


def activation_quantizers(model):
    """Zero points of the quantised activations, by the tensor that is quantised."""
    graph, constants = constants_of(model)
    return {n.input[0]: constants[n.input[2]] for n in graph.node if n.op_type == 'QuantizeLinear'}


@pytest.mark.parametrize('activation', ['Relu', 'Clip', None])
def test_the_answers_stay_within_quantisation(activation):
    model = symmetric_model(activation=activation)
    rewritten, count = to_unsigned(model)
    assert count == 3
    onnx.checker.check_model(onnx.load_model_from_string(rewritten))
    (expected,), (exact,), (fused,) = run(model), run(rewritten, optimised=False), run(rewritten)
    assert np.ptp(expected) > 100 * OUT_SCALE
    # The finer middle scale moves a sum of 36 products by little more than a step.
    assert np.abs(exact - expected).max() <= 5 * OUT_SCALE
    assert np.abs(fused - exact).max() <= OUT_SCALE * 1.01


def test_without_a_relu_the_rewrite_changes_no_bit():
    model = symmetric_model(activation=None)
    (expected,) = run(model, optimised=False)
    (exact,) = run(to_unsigned(model)[0], optimised=False)
    np.testing.assert_allclose(exact, expected, atol=1e-5)


def test_zero_points_become_0_after_a_relu_and_128_elsewhere():
    zero_points = activation_quantizers(to_unsigned(symmetric_model())[0])
    assert {z.dtype for z in zero_points.values()} == {np.dtype(np.uint8)}
    assert {name: int(z) for name, z in zero_points.items()} == {'x': 128, 'act': 0, 'conv2': 128}


def test_scale_after_a_relu_is_twice_as_fine():
    graph, constants = constants_of(to_unsigned(symmetric_model())[0])
    (middle,) = [n for n in graph.node if n.op_type == 'QuantizeLinear' and n.input[0] == 'act']
    assert constants[middle.input[1]] == pytest.approx(MID_SCALE * 127 / 255)


def test_an_int8_tensor_at_the_boundary_keeps_its_type():
    model = symmetric_model(boundary=True)
    rewritten, count = to_unsigned(model)
    assert count == 2
    assert activation_quantizers(rewritten)['act'].dtype == np.int8
    (expected, expected_q), (got, got_q) = run(model), run(rewritten)
    assert got_q.dtype == np.int8
    assert np.abs(got_q.astype(int) - expected_q).max() <= 1
    assert np.abs(got - expected).max() <= 5 * OUT_SCALE


def test_folded_biases_become_float32():
    graph, constants = constants_of(to_unsigned(symmetric_model())[0])
    _, before = constants_of(symmetric_model())
    convolutions = {n.output[0]: n for n in graph.node if n.op_type == 'Conv'}
    for name, in_scale in (('conv1', IN_SCALE), ('conv2', MID_SCALE)):
        bias = constants[convolutions[name].input[2]]
        assert bias.dtype == np.float32
        np.testing.assert_allclose(
            bias, before[f'{name}_b_q'] * WEIGHT_SCALE * in_scale, rtol=1e-6
        )


def test_weights_stay_int8():
    rewritten = to_unsigned(symmetric_model())[0]
    _, constants = constants_of(rewritten)
    assert constants['conv1_w_q'].dtype == np.int8


def test_a_float_model_comes_back_as_it_was():
    graph = helper.make_graph(
        [helper.make_node('Relu', ['x'], ['y'])],
        'float',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, [1])],
    )
    model = helper.make_model(graph).SerializeToString()
    assert to_unsigned(model) == (model, 0)
