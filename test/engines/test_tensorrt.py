import threading
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from anytime_dnn_ros.engines.base import StageCancelledError
from anytime_dnn_ros.engines.cuda import CudaError
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.engines.stage_engines import StageEngine
from anytime_dnn_ros.engines.tensorrt import TensorRtEngine
from anytime_dnn_ros.engines.tensorrt_builder import BuildOptions
from anytime_dnn_ros.errors import EngineError
from engines.fake_cuda import STICKY, cudaError_t
from engines.fake_tensorrt import fake_plan
from ladders import SIZE, make_ladder


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('tensorrt') / 'colours')


@pytest.fixture(scope='module')
def truth(bundle):
    engine = load_engine(bundle, 'onnxruntime')
    yield engine
    engine.close()


@pytest.fixture
def load(bundle, library, gpu, cuda):
    loaded = []

    def load(engines=None, **options):
        plans = engines or built(bundle)
        loaded.append(TensorRtEngine(bundle, plans, library, gpu, runtime=cuda, **options))
        return loaded[-1]

    yield load
    for engine in loaded:
        engine.close()


def built(bundle, change=lambda index, model: model):
    return [
        StageEngine(
            fake_plan(change(index, bundle.stage_file(index).read_bytes())),
            BuildOptions('fp32'),
            is_kept=False,
        )
        for index in range(len(bundle.manifest.stages))
    ]


def answers(engine, image):
    engine.image_buffer(0)[:] = image
    return [engine.run_stage(i, engine.new_token()).copy() for i in range(engine.num_stages)]


def noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize('cuda_graphs', [True, False])
def test_stages_give_what_onnxruntime_gives_frame_after_frame(load, truth, cuda_graphs):
    engine = load(cuda_graphs=cuda_graphs)
    for seed in range(3):
        np.testing.assert_allclose(
            answers(engine, noise(seed)), answers(truth, noise(seed)), rtol=1e-5
        )
    details = [stage.detail for stage in engine.info().stages]
    assert all(detail.endswith('a CUDA graph') == cuda_graphs for detail in details)


def test_a_captured_stage_is_one_launch(load, cuda):
    engine = load()
    cuda.calls.clear()
    answers(engine, noise(0))
    assert cuda.calls.count('cudaGraphLaunch') == 3
    assert 'cudaMemcpyAsync' not in cuda.calls


def test_features_stay_on_the_device(load, cuda):
    engine = load(cuda_graphs=False)
    cuda.calls.clear()
    answers(engine, noise(0))
    # The image up, and three answers down.
    assert cuda.calls.count('cudaMemcpyAsync') == 4


def test_a_stage_that_cannot_be_captured_is_queued_and_says_so(load, truth, cuda):
    cuda.can_capture = False
    engine = load()
    np.testing.assert_allclose(answers(engine, noise(1)), answers(truth, noise(1)), rtol=1e-5)
    for stage in engine.info().stages:
        assert 'no CUDA graph' in stage.detail
        assert 'cudaErrorStreamCaptureInvalidated' in stage.detail


def test_info_tells_what_serves_and_that_nothing_can_be_cancelled(load):
    info = load().info()
    assert (info.library, info.version, info.can_cancel) == ('tensorrt', '10.3.0', False)
    assert info.device == 'Fake Orin (compute capability 8.7)'
    assert [(s.name, s.precision) for s in info.stages] == [
        ('exit1', 'fp32'),
        ('exit2', 'fp32'),
        ('exit3', 'fp32'),
    ]


def test_two_loads_of_one_build_describe_themselves_alike(load, bundle):
    # Else the stage times kept under the first start's description are lost to the second.
    kept = [replace(engine, is_kept=True) for engine in built(bundle)]
    assert load().info() == load(kept).info()


def test_an_engine_that_reads_the_image_as_float_gets_it_so(load, bundle, truth):
    def reads_float(index, model):
        proto = onnx.load_model_from_string(model)
        if index == 0:
            proto.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
        return proto.SerializeToString()

    engine = load(built(bundle, reads_float))
    assert engine.image_buffer(0).dtype == np.uint8
    for seed in range(2):
        np.testing.assert_allclose(
            answers(engine, noise(seed)), answers(truth, noise(seed)), rtol=1e-5
        )


def test_members_of_one_size_share_the_image(tmp_path, library, gpu, cuda):
    ladder = make_ladder(tmp_path / 'colours', convolutions=(1,))
    (stage,) = ladder.manifest.stages
    twins = (stage, replace(stage, name='twin'))
    pair = replace(ladder, manifest=replace(ladder.manifest, stages=twins))
    engine = TensorRtEngine(pair, built(pair), library, gpu, runtime=cuda)
    assert np.shares_memory(engine.image_buffer(0), engine.image_buffer(1))
    first, second = answers(engine, noise(2))
    np.testing.assert_array_equal(first, second)
    engine.close()


def test_a_token_cancelled_before_the_run_stops_it_and_one_cancelled_later_does_not(load, truth):
    engine = load()
    engine.image_buffer(0)[:] = noise(0)
    token = engine.new_token()
    token.cancel()
    with pytest.raises(StageCancelledError, match='exit1'):
        engine.run_stage(0, token)
    token = engine.new_token()
    answer = engine.run_stage(0, token)
    token.cancel()
    truth.image_buffer(0)[:] = noise(0)
    np.testing.assert_allclose(answer, truth.run_stage(0, truth.new_token()), rtol=1e-5)


def test_another_thread_than_the_loading_one_can_run_stages(load, truth, cuda):
    engine, results = load(), []
    cuda.calls.clear()
    thread = threading.Thread(target=lambda: results.append(answers(engine, noise(3))))
    thread.start()
    thread.join()
    np.testing.assert_allclose(results[0], answers(truth, noise(3)), rtol=1e-5)
    assert cuda.calls[0] == 'cudaSetDevice'


def test_device_time_of_a_stage_counts_its_own_work(load):
    engine = load(cuda_graphs=False)
    answers(engine, noise(0))
    # On the fake each piece of work takes a millisecond: image, stage, answer, and one event.
    assert [engine.device_ms(stage) for stage in range(3)] == [4.0, 3.0, 3.0]


def test_close_frees_all_memory_streams_events_and_graphs(load, cuda):
    engine = load()
    assert cuda.used_bytes() > 0
    engine.close()
    assert cuda.memory == {}
    assert cuda.handles == {}


def test_a_load_that_fails_frees_what_it_took(load, bundle, cuda):
    plans = built(bundle)
    plans[2] = replace(plans[2], plan=b'of another version')
    with pytest.raises(EngineError, match=r"stage 'exit3' cannot load.*magicTag does not match"):
        load(plans)
    assert cuda.memory == {}
    assert cuda.handles == {}


def test_a_runtime_that_cannot_start_is_said_in_tensorrts_words(load, cuda, module):
    module.broken = True
    with pytest.raises(EngineError, match=r'cannot start on Fake Orin: CUDA init.* error: 35'):
        load()
    assert cuda.handles == {}


def test_an_engine_runs_on_the_dla_core_that_it_was_built_for(load, bundle, module):
    load()
    assert module.dla_cores == [0, 0, 0]
    module.dla_cores.clear()
    load([replace(b, options=replace(b.options, dla_core=1)) for b in built(bundle)])
    assert module.dla_cores == [1, 1, 1]


def test_too_little_device_memory_is_said_with_the_mend(load, cuda, module):
    module.activation_bytes = cuda.device_bytes + 1
    with pytest.raises(CudaError, match=r"'exit1'.*cudaErrorMemoryAllocation.*nvidia-smi"):
        load()
    assert cuda.memory == {}


def test_a_buffer_that_finds_no_room_is_said_with_the_mend(load, cuda):
    cuda.device_bytes = 5000
    with pytest.raises(CudaError, match=r'cudaMalloc.*cudaErrorMemoryAllocation.*smaller bundle'):
        load()
    assert cuda.memory == {}


def test_an_engine_that_tensorrt_refuses_is_told_with_the_mend(load, bundle, cuda):
    foreign = [replace(b, plan=b'of another build') for b in built(bundle)]
    with pytest.raises(EngineError, match=r"'exit1' cannot load.*delete .*magicTag does not"):
        load(foreign)
    assert cuda.memory == {}


def test_an_engine_with_other_tensors_than_the_manifest_is_refused(load, bundle):
    plans = built(bundle)
    with pytest.raises(EngineError, match=r"'exit1'.*manifest says.*export"):
        load([plans[2], plans[1], plans[0]])


def test_an_error_that_passes_leaves_the_engine_whole(load, truth, cuda):
    engine = load()
    cuda.refusals['cudaGraphLaunch'] = [cudaError_t.cudaErrorMemoryAllocation]
    with pytest.raises(CudaError, match=r"'exit1' failed.*cudaErrorMemoryAllocation") as told:
        answers(engine, noise(0))
    assert not told.value.is_sticky
    np.testing.assert_allclose(answers(engine, noise(4)), answers(truth, noise(4)), rtol=1e-5)


def test_an_error_that_does_not_pass_says_that_the_process_must_start_again(load, cuda):
    engine = load()
    cuda.fault = STICKY
    with pytest.raises(CudaError, match=r"'exit1' failed.*IllegalAddress.*start it again"):
        answers(engine, noise(0))
    with pytest.raises(CudaError) as told:
        answers(engine, noise(0))
    assert told.value.is_sticky
    # Closing tells nothing new.
    engine.close()


def test_what_tensorrt_refuses_to_queue_is_told_in_its_words(load, cuda):
    engine = load(cuda_graphs=False)
    engine._stages[1].context._addresses.clear()
    with pytest.raises(EngineError, match=r"'exit2' failed.*no address is set for features_in"):
        answers(engine, noise(0))
