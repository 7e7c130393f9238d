"""What is asked of which TensorRT, and what is said when it refuses: the builder is recorded, or
NVIDIA's own where it is installed.
"""

from unittest.mock import Mock

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from recorded_builder import PLAN, RecordedBuilder

from anytime_dnn_ros.engines.tensorrt_builder import (
    BuildOptions,
    build_engine,
    stage_precision,
)
from anytime_dnn_ros.engines.tensorrt_library import TensorRT, find_tensorrt
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from ladders import stage_model

BEFORE_10, FROM_10, FROM_11 = ['8.6.1'], ['10.3.0', '10.13.3', '10.16.1'], ['11.0.0', '11.4.0']
FLOAT_STAGE = stage_model(first=True, last=True)


def quantised_stage(zero_point: int = 0) -> bytes:
    """The image through one pair of quantisers, and a product."""
    nodes = [
        helper.make_node('Cast', ['image'], ['x'], to=TensorProto.FLOAT),
        helper.make_node('QuantizeLinear', ['x', 'scale', 'zero'], ['q'], 'quantiser'),
        helper.make_node('DequantizeLinear', ['q', 'scale', 'zero'], ['d'], 'dequantiser'),
        helper.make_node('MatMul', ['d', 'weight'], ['logits'], 'head'),
    ]
    constants = {
        'scale': np.float32(2),
        'zero': np.int8(zero_point),
        'weight': np.ones((8, 3), np.float32),
    }
    return model(nodes, constants)


def model(nodes, constants) -> bytes:
    graph = helper.make_graph(
        nodes,
        'stage',
        [helper.make_tensor_value_info('image', TensorProto.UINT8, [1, 8])],
        [helper.make_tensor_value_info('logits', TensorProto.FLOAT, [1, 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    return made.SerializeToString()


def build(library: TensorRT, stage: bytes = FLOAT_STAGE, precision='fp32', **how) -> bytes:
    options = {k: how.pop(k) for k in ('workspace_bytes', 'dla_core', 'target') if k in how}
    return build_engine(library, stage, BuildOptions(precision, **options), name='wide', **how)


def parsed_types(recorded: RecordedBuilder) -> set[int]:
    proto = onnx.load_model_from_string(recorded.parser.parse.call_args.args[0])
    return {tensor.data_type for tensor in proto.graph.initializer}


@pytest.fixture
def rtx():
    """NVIDIA's own builder, whose targets need not be here."""
    pytest.importorskip(
        'tensorrt_rtx_bindings', reason='TensorRT for RTX is not installed (make tensorrt)'
    )
    return find_tensorrt()


@pytest.mark.parametrize('version', BEFORE_10)
@pytest.mark.parametrize(
    ('precision', 'flags'), [('fp32', []), ('fp16', ['FP16']), ('int8', ['INT8'])]
)
def test_before_10_flags_allow_a_precision(version, precision, flags):
    recorded = RecordedBuilder(version)
    stage = quantised_stage() if precision == 'int8' else FLOAT_STAGE
    assert build(recorded.library, stage, precision) == PLAN
    assert recorded.network_flags == ['EXPLICIT_BATCH']
    assert recorded.builder_flags == flags
    assert TensorProto.FLOAT16 not in parsed_types(recorded)


@pytest.mark.parametrize('version', FROM_10 + FROM_11)
@pytest.mark.parametrize('precision', ['fp32', 'fp16', 'int8'])
def test_from_10_on_the_types_in_the_file_decide(version, precision):
    recorded = RecordedBuilder(version)
    stage = quantised_stage() if precision == 'int8' else FLOAT_STAGE
    assert build(recorded.library, stage, precision) == PLAN
    assert recorded.network_flags == ['STRONGLY_TYPED']
    assert recorded.builder_flags == []
    assert (TensorProto.FLOAT16 in parsed_types(recorded)) == (precision == 'fp16')


@pytest.mark.parametrize('version', BEFORE_10 + FROM_11)
def test_weights_stored_in_half_reach_the_parser_as_plain_weights(version):
    nodes = [
        helper.make_node('Cast', ['image'], ['x'], to=TensorProto.FLOAT),
        helper.make_node('Cast', ['half'], ['weight'], to=TensorProto.FLOAT),
        helper.make_node('MatMul', ['x', 'weight'], ['logits'], 'head'),
    ]
    recorded = RecordedBuilder(version)
    build(recorded.library, model(nodes, {'half': np.ones((8, 3), np.float16)}))
    proto = onnx.load_model_from_string(recorded.parser.parse.call_args.args[0])
    assert [node.op_type for node in proto.graph.node] == ['Cast', 'MatMul']
    assert {t.name: t.data_type for t in proto.graph.initializer} == {'weight': TensorProto.FLOAT}


@pytest.mark.parametrize('version', BEFORE_10 + FROM_10 + FROM_11)
def test_every_option_is_set_with_names_that_the_version_has(version, tmp_path):
    recorded = RecordedBuilder(version)
    build(
        recorded.library,
        precision='fp16',
        workspace_bytes=2**28,
        dla_core=1,
        timing_cache=tmp_path / 'timings',
        progress=[].append,
    )
    config = recorded.config
    assert config.profiling_verbosity.name == 'DETAILED'
    assert config.set_memory_pool_limit.call_args.args == (
        recorded.module.MemoryPoolType.WORKSPACE,
        2**28,
    )
    assert (config.default_device_type.name, config.DLA_core) == ('DLA', 1)
    assert recorded.builder_flags[-1] == 'GPU_FALLBACK'
    # On a DLA types decide from 11 on only.
    assert ('FP16' in recorded.builder_flags) == (version not in FROM_11)
    assert (tmp_path / 'timings').read_bytes() == b'kernel timings'


@pytest.mark.parametrize('version', FROM_10)
def test_a_dla_before_11_takes_no_quantised_stage(version):
    with pytest.raises(ConfigurationError, match=r'DLA, which takes fp16 .*leave dla_core out'):
        build(RecordedBuilder(version).library, quantised_stage(), 'int8', dla_core=0)


@pytest.mark.parametrize(('cores', 'mend'), [(2, 'choose 0 to 1'), (0, 'leave it out')])
def test_a_dla_core_that_is_not_there_is_refused(cores, mend):
    recorded = RecordedBuilder('10.3.0')
    recorded.builder.num_DLA_cores = cores
    with pytest.raises(ConfigurationError, match=f'has {cores} DLA cores: {mend}'):
        build(recorded.library, precision='fp16', dla_core=2)


def test_kept_timings_are_used(tmp_path):
    recorded = RecordedBuilder('10.3.0')
    (tmp_path / 'timings').write_bytes(b'old timings')
    build(recorded.library, timing_cache=tmp_path / 'timings')
    recorded.config.create_timing_cache.assert_called_once_with(b'old timings')


def test_timings_of_another_gpu_are_left_for_new_ones(tmp_path):
    recorded = RecordedBuilder('10.3.0')
    recorded.config.set_timing_cache.side_effect = [False, True]
    (tmp_path / 'timings').write_bytes(b'foreign')
    build(recorded.library, timing_cache=tmp_path / 'timings')
    assert [c.args for c in recorded.config.create_timing_cache.call_args_list] == [
        (b'foreign',),
        (b'',),
    ]
    assert (tmp_path / 'timings').read_bytes() == b'kernel timings'


def test_damaged_timings_are_left_for_new_ones(tmp_path):
    recorded, fresh = RecordedBuilder('10.3.0'), Mock()
    recorded.config.create_timing_cache.side_effect = [None, fresh]
    (tmp_path / 'timings').write_bytes(b'damaged')
    build(recorded.library, timing_cache=tmp_path / 'timings')
    recorded.config.set_timing_cache.assert_called_once_with(fresh, ignore_mismatch=False)


def test_timings_that_cannot_be_kept_cost_a_warning(tmp_path):
    (tmp_path / 'folder').write_text('a file')
    said = []
    engine = build(
        RecordedBuilder('10.3.0').library,
        timing_cache=tmp_path / 'folder' / 'timings',
        say=said.append,
    )
    assert engine == PLAN
    assert all('kernel timings' in sentence for sentence in said)
    assert said


def test_a_parser_that_knows_only_the_number_of_a_node_still_names_it():
    recorded = RecordedBuilder('8.6.1')
    recorded.parser.parse.return_value = False
    recorded.parser.num_errors = 1
    # 8.6 has no more than these two.
    recorded.parser.get_error.return_value = Mock(spec_set=['node', 'desc'])
    recorded.parser.get_error.return_value.node.return_value = 3
    recorded.parser.get_error.return_value.desc.return_value = 'no plugin\n'
    with pytest.raises(EngineError, match=r"stage 'wide': node 'head' \(MatMul\): no plugin\. "):
        build(recorded.library, quantised_stage(), 'int8')


def test_a_builder_that_cannot_start_is_one_error_with_the_logs_words():
    recorded = RecordedBuilder('10.3.0')

    def fail(log):
        log.log('ERROR', 'CUDA initialization failure with error: 35')
        raise TypeError('pybind11::init(): factory function returned nullptr')

    recorded.module.Builder = fail
    with pytest.raises(EngineError, match=r"cannot build stage 'wide': CUDA init.* error: 35"):
        build(recorded.library)


def test_a_build_that_gives_nothing_says_what_the_log_says():
    recorded = RecordedBuilder('11.4.0')

    def fail(*_):
        recorded.log.log('WARNING', 'slow')
        recorded.log.log('ERROR', 'no kernel for this')

    recorded.builder.build_serialized_network.side_effect = fail
    with pytest.raises(EngineError, match=r"11\.4\.0 .*stage 'wide': no kernel for this$"):
        build(recorded.library)


@pytest.mark.parametrize(
    ('said', 'mend'),
    [
        ('Error Code 2: OutOfMemory (no further information)', 'end other programs'),
        ('There may not be enough free memory for allocation to succeed.', 'end other programs'),
        ('no implementation for node conv due to insufficient workspace.', 'workspace_mib'),
    ],
)
def test_too_little_memory_for_a_build_is_told_with_the_mend(said, mend):
    recorded = RecordedBuilder('10.3.0')
    recorded.builder.build_serialized_network.side_effect = lambda *_: recorded.log.log(
        'ERROR', said
    )
    with pytest.raises(EngineError, match=rf"stage 'wide': .*; [^;]*{mend}"):
        build(recorded.library)


@pytest.mark.parametrize('zero_point', [-3, 5])
def test_a_zero_point_is_named_with_its_node_and_the_mend(zero_point):
    with pytest.raises(
        EngineError, match=r"node 'quantiser'.*zero point that is not 0.*quantise activations"
    ):
        build(RecordedBuilder('10.3.0').library, quantised_stage(zero_point), 'int8')


def test_unsigned_activations_are_named_too():
    nodes = [
        helper.make_node('Cast', ['image'], ['x'], to=TensorProto.FLOAT),
        helper.make_node('QuantizeLinear', ['x', 'scale', 'zero'], ['q'], 'unsigned one'),
        helper.make_node('DequantizeLinear', ['q', 'scale', 'zero'], ['logits']),
    ]
    stage = model(nodes, {'scale': np.float32(1), 'zero': np.uint8(0)})
    with pytest.raises(EngineError, match=r"node 'unsigned one' .*is uint8.*symmetric int8"):
        build(RecordedBuilder('10.3.0').library, stage, 'int8')


def test_a_zero_point_in_a_constant_node_is_found_too():
    value = numpy_helper.from_array(np.int8(7))
    nodes = [
        helper.make_node('Constant', [], ['zero'], value=value),
        helper.make_node('Cast', ['image'], ['x'], to=TensorProto.FLOAT),
        helper.make_node('QuantizeLinear', ['x', 'scale', 'zero'], ['q'], 'quantiser'),
        helper.make_node('DequantizeLinear', ['q', 'scale', 'zero'], ['logits']),
    ]
    with pytest.raises(EngineError, match="node 'quantiser'"):
        build(RecordedBuilder('10.3.0').library, model(nodes, {'scale': np.float32(1)}), 'int8')


@pytest.mark.parametrize(
    ('stage', 'precision', 'mend'),
    [(FLOAT_STAGE, 'int8', 'take fp32 or fp16'), (quantised_stage(), 'fp16', 'take int8')],
)
def test_a_precision_that_the_stage_has_not_is_refused(stage, precision, mend):
    with pytest.raises(ConfigurationError, match=mend):
        build(RecordedBuilder('10.3.0').library, stage, precision)


@pytest.mark.parametrize(
    ('wish', 'manifest', 'precision'),
    [
        ('auto', 'int8', 'int8'),
        ('auto', 'float32', 'fp16'),
        ('fp32', 'float32', 'fp32'),
        ('fp16', 'float32', 'fp16'),
        ('int8', 'int8', 'int8'),
    ],
)
def test_the_precision_of_a_stage(wish, manifest, precision):
    assert stage_precision(wish, manifest) == precision


@pytest.mark.parametrize(
    ('wish', 'manifest', 'mend'),
    [
        ('int8', 'float32', 'take a quantised one'),
        ('fp16', 'int8', "take 'auto' or 'int8'"),
        ('half', 'float32', 'choose one of auto, fp32'),
    ],
)
def test_a_wish_that_cannot_be_had_names_what_can(wish, manifest, mend):
    with pytest.raises(ConfigurationError, match=mend):
        stage_precision(wish, manifest)


def test_plain_tensorrt_builds_for_no_other_machine():
    with pytest.raises(ConfigurationError, match='build on that machine'):
        build(RecordedBuilder('11.4.0').library, target='8.6')


@pytest.mark.parametrize('target', ['9.0', '8.7'])
def test_rtx_says_which_gpus_it_serves(rtx, target):
    with pytest.raises(ConfigurationError, match=rf'capability {target}, only .*8\.6.*12\.0'):
        build(rtx, target=target)


def test_an_unsupported_operator_is_named_with_its_node(rtx):
    unknown = model([helper.make_node('Wonder', ['image'], ['logits'], 'odd one')], {})
    with pytest.raises(EngineError, match=r"stage 'wide': node 'odd one' \(Wonder\): .*operators"):
        build(rtx, unknown, target='8.6')


def test_what_is_no_onnx_at_all_is_an_engine_error():
    with pytest.raises(EngineError, match='not an ONNX file'):
        build(RecordedBuilder('10.3.0').library, b'\xff not a model')


def test_progress_rises_to_the_whole(rtx):
    shares = []
    assert build(rtx, target='8.6', progress=shares.append)
    assert len(shares) > 20
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_what_progress_raises_stops_the_build(rtx):
    calls = []

    def stop(share):
        calls.append(share)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(rtx, target='8.6', progress=stop)
    assert len(calls) == 1


def test_float32_products_on_turing_are_refused_with_the_mend(rtx):
    with pytest.raises(EngineError, match=r"not supported.*take 'auto' or 'fp16'"):
        build(rtx, target='7.5')
