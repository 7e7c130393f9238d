"""Counting MACs, parameters and the INT8 share of small graphs whose counts are known by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import conv_net

from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.forge.onnx_macs import Count, count
from anytime_dnn_ros.forge.quantize import quantize

# conv_net: 3 -> 4 channels, 3x3, 8x8 pixels, then 4 -> 5 classes.
CONV_MACS, CLASSIFIER_MACS = 8 * 8 * 4 * 3 * 3 * 3, 4 * 5
PARAMETERS = 4 * 3 * 3 * 3 + 4 + 4 * 5 + 5


def test_float_net_is_counted_by_hand():
    assert count(conv_net()) == Count(CONV_MACS + CLASSIFIER_MACS, 0, PARAMETERS)


def test_grouped_convolution_divides_by_the_groups():
    model = conv_net(groups=3, filters=3)
    assert count(model).macs == 8 * 8 * 3 * 1 * 3 * 3 + 3 * 5


def test_quantising_changes_only_the_int8_share(calibration_images):
    quantised = count(quantize(conv_net(), calibration_images))
    assert quantised == Count(CONV_MACS + CLASSIFIER_MACS, CONV_MACS + CLASSIFIER_MACS, PARAMETERS)
    assert quantised.int8_share == 1.0


def test_unknown_shape_is_an_error_that_names_the_operator():
    weight = numpy_helper.from_array(np.zeros((4, 5), np.float32), 'w')
    graph = helper.make_graph(
        [helper.make_node('MatMul', ['x', 'w'], ['y'], 'head')],
        'dynamic',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, ['n', 4])],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, ['n', 5])],
        [weight],
    )
    with pytest.raises(AnytimeError, match="MatMul 'head' has no static shape"):
        count(helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)]))


def einsum(equation, *shapes):
    """One Einsum of so many tensors."""
    names = [f'x{i}' for i in range(len(shapes))]
    graph = helper.make_graph(
        [helper.make_node('Einsum', names, ['y'], 'mix', equation=equation)],
        'einsum',
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in zip(names, shapes, strict=True)
        ],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
    )
    return helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid('', 17)])


@pytest.mark.parametrize(
    ('equation', 'shapes', 'macs'),
    [
        # A 1x1 convolution, and the scores of two heads of attention.
        ('oc, nchw -> nohw', [(16, 8), (1, 8, 4, 5)], 16 * 8 * 4 * 5),
        ('bhqd,bhkd->bhqk', [(1, 2, 7, 3), (1, 2, 9, 3)], 2 * 7 * 9 * 3),
    ],
)
def test_an_einsum_is_a_matrix_product_too(equation, shapes, macs):
    assert count(einsum(equation, *shapes)).macs == macs


@pytest.mark.parametrize(
    ('equation', 'shapes'),
    [('...c,oc->...o', [(1, 4, 5, 8), (16, 8)]), ('a,a,a->a', [(4,), (4,), (4,)])],
)
def test_an_einsum_that_cannot_be_counted_is_told(equation, shapes):
    with pytest.raises(AnytimeError, match=r"Einsum 'mix' .* cannot be counted"):
        count(einsum(equation, *shapes))
