import json
from dataclasses import replace
from enum import IntEnum

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from anytime_dnn_ros.engines import factory, stage_engines, tensorrt_loader
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.engines.tensorrt_library import TensorRT
from anytime_dnn_ros.engines.tensorrt_options import TensorRtOptions
from anytime_dnn_ros.errors import ConfigurationError, EngineError, MissingDependencyError
from engines.fake_cuda import STICKY, cudaError_t
from engines.fake_machine import FakeMachine
from ladders import make_ladder, solid


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('factory') / 'colours', convolutions=(1, 1))


@pytest.fixture
def machine(monkeypatch):
    return FakeMachine(monkeypatch)


@pytest.fixture
def cuda(machine):
    return machine.cuda


@pytest.fixture
def load(bundle):
    engines, said = [], []

    def load(engine='auto', folder=None, **options):
        tensorrt = TensorRtOptions(
            **{'precision': 'fp32', 'folder': folder, **options.pop('tensorrt', {})}
        )
        engines.append(load_engine(bundle, engine, tensorrt=tensorrt, say=said.append, **options))
        return engines[-1]

    load.said = said
    yield load
    for engine in engines:
        engine.close()


def wrong(model):
    """The stage with its classes turned round."""
    proto = onnx.load_model_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.name == 'head':
            turned = np.roll(numpy_helper.to_array(tensor), 1, axis=1)
            tensor.CopyFrom(numpy_helper.from_array(turned, 'head'))
    return proto.SerializeToString()


def frame_answers(engine, color='green'):
    engine.image_buffer(0)[:] = solid(color, 32, 32)
    return [int(engine.run_stage(i, engine.new_token()).argmax()) for i in range(2)]


def test_auto_without_a_gpu_serves_on_the_cpu_and_says_why(load, machine, monkeypatch):
    monkeypatch.setattr(factory, 'find_device', lambda: None)
    info = load().info()
    assert info.library == 'onnxruntime'
    assert 'no NVIDIA GPU' in info.reason
    assert not info.is_degraded
    assert load.said == []


def test_auto_with_a_gpu_and_no_tensorrt_says_what_is_missing(load, machine, monkeypatch):
    def missing():
        raise MissingDependencyError('no TensorRT in this Python')

    monkeypatch.setattr(factory, 'find_tensorrt', missing)
    info = load().info()
    assert info.library == 'onnxruntime'
    assert info.reason == 'Fake Orin is not used: no TensorRT in this Python'


def test_auto_with_a_gpu_that_rtx_does_not_serve_says_so_and_what_does(load, machine, monkeypatch):
    module = machine.library.module
    module.ComputeCapability = IntEnum('ComputeCapability', ['NONE', 'SM75', 'SM120'])
    rtx = TensorRT(module, 'tensorrt_rtx', '1.7.1')
    monkeypatch.setattr(factory, 'find_tensorrt', lambda: rtx)
    info = load().info()
    assert (info.library, info.is_degraded) == ('onnxruntime', False)
    assert info.reason.startswith('Fake Orin is not used: TensorRT for RTX 1.7.1 does not serve')
    assert 'capability 8.7, only 7.5, 12.0;' in info.reason
    assert load.said == []


@pytest.mark.parametrize('engine', ['auto', 'tensorrt'])
def test_a_gpu_and_tensorrt_serve(load, machine, engine):
    loaded = load(engine)
    assert loaded.info().library == 'tensorrt'
    assert loaded.info().reason == ''
    assert frame_answers(loaded) == [1, 1]
    assert machine.built == ['exit1', 'exit2']


def test_onnxruntime_asks_for_no_gpu(load, monkeypatch):
    monkeypatch.setattr(factory, 'find_device', pytest.fail)
    assert load('onnxruntime').info().reason == ''


def test_tensorrt_without_a_gpu_is_one_clear_error(load, machine, monkeypatch):
    monkeypatch.setattr(tensorrt_loader, 'find_device', lambda: None)
    with pytest.raises(EngineError, match=r'needs an NVIDIA GPU.*Set engine: auto') as error:
        load('tensorrt')
    assert '\n' not in str(error.value)
    assert machine.built == []


def test_engines_with_wrong_answers_are_refused_with_the_figures(load, machine):
    machine.change = wrong
    with pytest.raises(EngineError, match=r'exit1 \(fp32\): same class on \d+ of \d+ frames'):
        load('tensorrt')
    assert load.said == []


def test_auto_serves_on_the_cpu_where_tensorrt_gives_wrong_answers(load, machine, cuda):
    machine.change = wrong
    engine = load('auto')
    assert frame_answers(engine) == [1, 1]
    info = engine.info()
    assert (info.library, info.is_degraded) == ('onnxruntime', True)
    assert 'may not serve' in info.reason
    (said,) = load.said
    assert said == f'ONNX Runtime serves, because TensorRT cannot: {info.reason}'
    assert cuda.memory == {}


def test_auto_serves_on_the_cpu_where_the_gpu_has_no_room(load, machine, cuda):
    cuda.device_bytes = 0
    info = load('auto').info()
    assert (info.library, info.is_degraded) == ('onnxruntime', True)
    assert 'cudaErrorMemoryAllocation' in load.said[0]


def test_a_setting_that_cannot_be_used_is_no_reason_to_fall_back(load, machine):
    with pytest.raises(ConfigurationError, match='int8'):
        load('auto', tensorrt={'precision': 'int8'})


def test_a_second_start_builds_and_compares_nothing(load, machine, tmp_path, monkeypatch):
    first = load('tensorrt', tmp_path)
    monkeypatch.setattr(tensorrt_loader, 'compare_engines', pytest.fail)
    machine.built.clear()
    second = load('tensorrt', tmp_path)
    assert machine.built == []
    assert first.info() == second.info()
    assert frame_answers(second) == [1, 1]


def test_what_was_found_of_agreement_is_kept_for_the_user_alone(load, machine, tmp_path):
    load('tensorrt', tmp_path / 'cache')
    (file,) = (tmp_path / 'cache').glob('agreement_*.json')
    assert file.stat().st_mode & 0o777 == 0o600
    stages = json.loads(file.read_text())['stages']
    assert [stage['name'] for stage in stages] == ['exit1', 'exit2']
    assert all(stage['worst_error'] < 1e-5 for stage in stages)


@pytest.mark.parametrize('kept', ['{"key": {}}', '[]', 'no JSON', ''])
def test_another_verdict_than_that_of_these_engines_is_not_believed(
    load, machine, tmp_path, monkeypatch, kept
):
    load('tensorrt', tmp_path)
    (file,) = tmp_path.glob('agreement_*.json')
    file.write_text(kept)
    compared = []
    monkeypatch.setattr(
        tensorrt_loader,
        'compare_engines',
        lambda *args, **options: compared.append(1) or compare(*args, **options),
    )
    load('tensorrt', tmp_path)
    assert compared == [1]


compare = tensorrt_loader.compare_engines


def test_wrong_engines_are_not_believed_because_others_have_passed(load, machine, tmp_path):
    load('tensorrt', tmp_path)
    for file in tmp_path.glob('engine_*.plan'):
        file.unlink()
    machine.change = wrong
    for _ in range(2):
        with pytest.raises(EngineError, match='may not serve'):
            load('tensorrt', tmp_path)


def test_other_photos_in_the_same_folder_are_compared_anew(load, machine, tmp_path, monkeypatch):
    photo = tmp_path / 'photos' / 'one.png'
    photo.parent.mkdir()

    def counted(*args, frames, **options):
        frames = list(frames)
        compared.append(int(frames[0][0, 0, 0]))
        return compare(*args, frames=frames, **options)

    compared = []
    monkeypatch.setattr(tensorrt_loader, 'compare_engines', counted)
    for gray in (10, 10, 200):
        if gray not in compared:
            cv2.imwrite(str(photo), np.full((8, 8, 3), gray, np.uint8))
        load('tensorrt', tmp_path / 'cache', tensorrt={'frames': photo.parent})
    assert compared == [10, 200]


def test_photos_that_cannot_be_used_are_told_before_the_builds(load, machine, tmp_path):
    with pytest.raises(ConfigurationError, match='has no photo'):
        load('tensorrt', tensorrt={'frames': tmp_path / 'misspelt'})
    assert machine.built == []


def test_a_full_disk_is_told_and_the_engine_serves(load, machine, tmp_path, monkeypatch):
    def full(file, parts):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(tensorrt_loader, 'keep_whole', full)
    engine = load('tensorrt', tmp_path)
    assert frame_answers(engine) == [1, 1]
    assert 'No space left on device' in ' '.join(load.said)
    assert 'cache_dir' in ' '.join(load.said)


def test_few_frames_that_count_are_told_with_the_mend(load, machine, monkeypatch):
    monkeypatch.setattr(tensorrt_loader, 'FEW_FRAMES', 1000)
    load('tensorrt')
    assert 'agreement_frames' in load.said[-1]


def test_progress_runs_over_all_stages_and_the_comparison(load, machine):
    shares = []
    load('tensorrt', progress=shares.append)
    assert shares == pytest.approx([1 / 6, 1 / 3, 1 / 2, 2 / 3, 1])


def test_what_the_builder_cannot_say_is_told_per_stage(load, machine, monkeypatch):
    build = stage_engines.build_engine
    monkeypatch.setattr(
        stage_engines,
        'build_engine',
        lambda *args, progress, **options: build(*args, progress=None, **options),
    )
    shares = []
    load('tensorrt', progress=shares.append)
    assert shares == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_fault_that_passes_rebuilds_from_the_cache_and_serves_on(load, machine, tmp_path, cuda):
    engine = load('tensorrt', tmp_path, on_engine_error='rebuild')
    machine.built.clear()
    cuda.refusals['cudaGraphLaunch'] = [cudaError_t.cudaErrorMemoryAllocation]
    with pytest.raises(EngineError, match='loaded anew'):
        frame_answers(engine)
    assert frame_answers(engine) == [1, 1]
    assert engine.info().library == 'tensorrt'
    assert machine.built == []


def test_a_gpu_that_is_lost_leaves_the_next_frame_to_onnxruntime(load, machine, cuda):
    engine = load('tensorrt', on_engine_error='rebuild')
    cuda.fault = STICKY
    with pytest.raises(EngineError, match='ONNX Runtime serves from the next frame on'):
        frame_answers(engine)
    assert frame_answers(engine) == [1, 1]
    info = engine.info()
    assert (info.library, info.is_degraded) == ('onnxruntime', True)
    assert 'start it again' in info.reason


def test_without_kept_engines_a_fault_is_no_time_to_build_for_minutes(load, machine, cuda):
    engine = load('tensorrt', on_engine_error='rebuild')
    machine.built.clear()
    cuda.refusals['cudaGraphLaunch'] = [cudaError_t.cudaErrorMemoryAllocation]
    with pytest.raises(EngineError, match='ONNX Runtime serves from the next frame on'):
        frame_answers(engine)
    assert frame_answers(engine) == [1, 1]
    assert machine.built == []


def test_engines_that_could_not_be_kept_are_not_built_anew_either(load, machine, tmp_path, cuda):
    (tmp_path / 'cache').write_text('a file')
    engine = load('tensorrt', tmp_path / 'cache', on_engine_error='rebuild')
    machine.built.clear()
    cuda.refusals['cudaGraphLaunch'] = [cudaError_t.cudaErrorMemoryAllocation]
    with pytest.raises(EngineError, match='ONNX Runtime serves from the next frame on'):
        frame_answers(engine)
    assert machine.built == []


def test_engines_that_must_be_kept_and_cannot_are_an_error_after_the_first(
    load, machine, tmp_path
):
    (tmp_path / 'cache').write_text('a file')
    with pytest.raises(EngineError, match=r"'exit1' is built, but .* not kept in .*make room"):
        load('tensorrt', tmp_path / 'cache', tensorrt={'must_keep': True})
    assert machine.built == ['exit1']


@pytest.mark.parametrize('name', ['engine', 'on_engine_error'])
def test_a_word_that_is_unknown_is_refused_with_the_known_ones(load, name):
    with pytest.raises(ConfigurationError, match=rf"{name} 'magic' is unknown: choose one of "):
        load(**{name: 'magic'})


def test_missing_cuda_python_is_told(load, machine, monkeypatch):
    def missing():
        raise MissingDependencyError('no cuda-python')

    monkeypatch.setattr(tensorrt_loader, 'load_runtime', missing)
    with pytest.raises(MissingDependencyError, match='no cuda-python'):
        load('tensorrt')
    assert load('auto').info().is_degraded


def test_stage_times_are_kept_under_what_serves_not_under_why(load, bundle):
    from anytime_dnn_ros.timing.profile_cache import profile_key

    info = load('onnxruntime').info()
    why = replace(info, reason='no GPU', is_degraded=True)
    assert profile_key(bundle, info, (1, 1, 3)) == profile_key(bundle, why, (1, 1, 3))
