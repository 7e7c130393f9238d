import sys
import threading
from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest

from anytime_dnn_ros.engines.base import StageCancelledError
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import ConfigurationError, EngineError, MissingDependencyError
from ladders import CHANNELS, SIZE, make_ladder

# A stage that long runs for about 200 ms: a cancel always finds it running.
ENDLESS = 6000


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('engines') / 'colours')


@pytest.fixture(scope='module')
def slow_bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('engines') / 'slow', convolutions=(1, ENDLESS))


@pytest.fixture
def engine(bundle):
    engine = load_engine(bundle)
    yield engine
    engine.close()


def noise(seed=0):
    return np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


def run_all(engine):
    return [engine.run_stage(i, engine.new_token()).copy() for i in range(engine.num_stages)]


def run_plainly(bundle, image):
    """The same stages in sessions of ONNX Runtime's own making, passed by value."""
    results, feed = [], {'image': image[None]}
    for index in range(len(bundle.manifest.stages)):
        session = ort.InferenceSession(
            bundle.stage_file(index), providers=['CPUExecutionProvider']
        )
        outputs = dict(
            zip([o.name for o in session.get_outputs()], session.run(None, feed), strict=True)
        )
        results.append(outputs['logits'][0])
        feed = {'features_in': outputs.get('features')}
    return results


def test_stages_give_what_plain_sessions_give(engine, bundle):
    for seed in range(3):
        engine.image_buffer(0)[:] = noise(seed)
        np.testing.assert_array_equal(run_all(engine), run_plainly(bundle, noise(seed)))


def test_threads_change_no_answer(bundle):
    engine = load_engine(bundle, threads=2)
    engine.image_buffer(0)[:] = noise()
    np.testing.assert_allclose(run_all(engine), run_plainly(bundle, noise()), rtol=1e-5)
    assert engine.info().threads == 2


def test_only_the_first_stage_of_an_early_exit_net_reads_the_image(engine):
    assert engine.image_buffer(0).shape == (SIZE, SIZE, 3)
    assert engine.image_buffer(0).dtype == np.uint8
    assert engine.image_buffer(1) is None
    assert engine.image_buffer(2) is None


def test_info_tells_how_the_stages_were_loaded(engine):
    info = engine.info()
    assert (info.library, info.version, info.threads) == ('onnxruntime', ort.__version__, 1)
    assert info.can_cancel
    assert [s.name for s in info.stages] == ['exit1', 'exit2', 'exit3']


def test_a_cancel_before_the_run_stops_it_and_harms_nothing(engine, bundle):
    engine.image_buffer(0)[:] = noise()
    token = engine.new_token()
    token.cancel()
    with pytest.raises(StageCancelledError, match='exit1'):
        engine.run_stage(0, token)
    np.testing.assert_array_equal(run_all(engine), run_plainly(bundle, noise()))


def test_a_cancel_inside_a_stage_stops_it_and_later_answers_are_bit_exact(slow_bundle):
    engine = load_engine(slow_bundle)
    engine.image_buffer(0)[:] = noise()
    before = run_all(engine)
    for _ in range(3):
        token = engine.new_token()
        timer = threading.Timer(0.02, token.cancel)
        timer.start()
        with pytest.raises(StageCancelledError, match='exit2'):
            engine.run_stage(1, token)
        timer.join()
        np.testing.assert_array_equal(run_all(engine), before)


def test_a_manifest_with_other_shapes_than_the_file_is_refused(bundle):
    first, second, third = bundle.manifest.stages
    (logits, features) = first.outputs
    wrong = replace(features, shape=(1, CHANNELS, SIZE, SIZE + 1))
    manifest = replace(
        bundle.manifest, stages=(replace(first, outputs=(logits, wrong)), second, third)
    )
    with pytest.raises(EngineError, match=r'exit1\.onnx.*manifest says.*export'):
        load_engine(replace(bundle, manifest=manifest))


def test_a_stage_that_is_no_network_is_named(bundle, tmp_path):
    other = make_ladder(tmp_path / 'broken')
    other.stage_file(1).write_bytes(b'not an ONNX file')
    with pytest.raises(EngineError, match="cannot load stage 'exit2'"):
        load_engine(other)


def test_an_unknown_engine_is_refused_with_the_known_ones(bundle):
    with pytest.raises(ConfigurationError, match=r"'magic'.*auto, onnxruntime"):
        load_engine(bundle, 'magic')


@pytest.mark.parametrize('missing', ['onnxruntime', 'onnx'])
def test_a_missing_library_is_named_with_its_mend(bundle, missing, monkeypatch):
    for module in ('onnxruntime', 'symmetric_int8'):
        monkeypatch.delitem(sys.modules, f'anytime_dnn_ros.engines.{module}')
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(MissingDependencyError) as error:
        load_engine(bundle)
    for said in (missing, sys.executable, 'requirements/robot.txt', 'ANYTIME_DNN_VENV'):
        assert said in str(error.value)
