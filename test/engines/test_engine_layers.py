"""The inspector's JSON of three versions becomes the same layers."""

import pytest
from recorded_builder import TABLE

from anytime_dnn_ros.engines.engine_layers import inspect_plan, parse_layers
from anytime_dnn_ros.engines.tensorrt_library import TensorRT
from anytime_dnn_ros.errors import EngineError
from inspected_engines import IN_8_6, IN_10, IN_11, KERNEL, NAMES_ONLY, written


@pytest.mark.parametrize(
    ('document', 'precisions'),
    [
        (IN_8_6, ['uint8 > int8', 'int8 > fp32', 'fp32']),
        (IN_10, ['uint8 > fp16', 'fp16 > fp32']),
        (IN_11, ['uint8 > bf16', 'bf16 > fp32']),
    ],
)
def test_precisions_are_told_in_each_version(document, precisions):
    engine = parse_layers(written(document), 'small')
    assert [layer.precision for layer in engine.layers] == precisions
    assert (engine.ends[0], engine.ends[-1]) == ('image', 'logits')


def test_shapes_kernels_weights_and_sizes():
    convolution, reformat, product = parse_layers(written(IN_8_6), 'small').layers
    assert (convolution.kind, convolution.tactic) == ('CaskConvolution', KERNEL)
    assert convolution.outputs[0].shape == (1, 8, 14, 14)
    assert convolution.weight_bytes == 72 + 4 * 8
    assert convolution.outputs[0].num_bytes == 8 * 14 * 14
    assert reformat.outputs[0].num_bytes == 4 * 8 * 14 * 14
    assert (reformat.tactic, product.weight_bytes) == ('', 0)


def test_the_nodes_of_the_onnx_file_are_found():
    layers = parse_layers(written(IN_10), 'small').layers
    assert [layer.onnx_nodes for layer in layers] == [
        ('/Cast', '/Transpose', '/Mul'),
        ('/head/Gemm',),
    ]


def test_a_shape_that_is_not_known_has_no_size():
    document = {'Layers': [{'Name': 'a', 'Outputs': [{'Name': 'x', 'Dimensions': [-1, 3]}]}]}
    (layer,) = parse_layers(written(document), 'small').layers
    assert (layer.precision, layer.outputs[0].num_bytes) == ('', 0)


def test_the_summary_counts_what_layers_write():
    engine = parse_layers(written(IN_8_6), 'small', plan_bytes=2_000_000, memory_bytes=500_000)
    assert engine.summary == (
        '3 layers, 2.00 MB serialised, 0.50 MB of device memory for activations, 2 write fp32, '
        '1 write int8'
    )


def test_an_engine_that_tells_only_names_is_refused_with_the_mend():
    with pytest.raises(EngineError, match=r"'small'.*DETAILED.*profilingVerbosity"):
        parse_layers(written(NAMES_ONLY), 'small')


@pytest.mark.parametrize(
    'text',
    [
        '',
        '[]',
        '{}',
        '{"Layers": 3}',
        '{"Layers": [{}]}',
        '{"Layers": [{"Name": "a", "Inputs": 5}]}',
        '[' * 100_000,
    ],
)
def test_what_is_no_such_json_is_one_error(text):
    with pytest.raises(EngineError, match=r"layers of 'small' cannot be read: this is not"):
        parse_layers(text, 'small')


class Names:
    """Of an object of one version; any other name of it is an error."""

    def __init__(self, version, kind, **values):
        for name, value in values.items():
            assert version in TABLE[f'{kind}.{name}'], name
            setattr(self, name, value)


def library(version, plan=b'plan'):
    """TensorRT of a version whose runtime loads just this plan."""
    inspector = Names(
        version, 'EngineInspector', get_engine_information=lambda form: written(IN_10)
    )
    newer = version in TABLE['ICudaEngine.device_memory_size_v2']
    size = {'device_memory_size_v2' if newer else 'device_memory_size': 4096}
    engine = Names(version, 'ICudaEngine', create_engine_inspector=lambda: inspector, **size)

    class Module:
        class ILogger:
            ERROR, INTERNAL_ERROR, WARNING = 'error', 'internal', 'warning'

        class LayerInformationFormat:
            JSON = 'json'

        def Runtime(log):  # noqa: N802, N805 - TensorRT's name, called on the class
            def load(given):
                if given != plan:
                    log.log('error', 'the engine plan file is of another version')
                    return None
                return engine

            return Names(version, 'Runtime', deserialize_cuda_engine=load)

    return TensorRT(Module, 'tensorrt', version)


@pytest.mark.parametrize('version', ['8.6.1', '10.3.0', '11.0.0', '11.4.0'])
def test_a_plan_is_loaded_and_looked_into(version):
    engine = inspect_plan(library(version), b'plan', 'small')
    assert (engine.plan_bytes, engine.memory_bytes, len(engine.layers)) == (4, 4096, 2)


def test_a_runtime_that_cannot_start_is_one_error():
    broken = library('10.3.0')

    def fail(log):
        log.log('error', 'CUDA initialization failure with error: 35')
        raise TypeError('pybind11::init(): factory function returned nullptr')

    broken.module.Runtime = fail
    with pytest.raises(EngineError, match=r"cannot load the engine 'small': CUDA init.*35"):
        inspect_plan(broken, b'plan', 'small')


def test_a_plan_of_another_version_is_one_error_with_the_mend():
    with pytest.raises(EngineError, match=r"'small': the engine plan file.*on this machine"):
        inspect_plan(library('10.3.0'), b'foreign', 'small')
