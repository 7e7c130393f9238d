import threading
from functools import partial
from time import monotonic

import numpy as np
import pytest

from anytime_dnn_ros.engines.cuda import CudaError
from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.engines.recovery import RecoveringEngine
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.frames import Frame
from anytime_dnn_ros.planner import Planner
from anytime_dnn_ros.runner import Runner
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.reference import ReferenceTimes
from ladders import make_ladder, solid

LOST = CudaError('cudaGraphLaunch', 'cudaErrorIllegalAddress', 'it was')


class Gpu:
    """ONNX Runtime that fails as a GPU would, whenever there is an error in `errors`."""

    def __init__(self, bundle, errors=()):
        self._engine = OnnxRuntimeEngine(bundle)
        self.errors = list(errors)
        self.closed = False

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def run_stage(self, stage, token):
        if self.errors:
            raise self.errors.pop(0)
        return self._engine.run_stage(stage, token)

    def close(self):
        self.closed = True
        self._engine.close()


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('recovery') / 'colours')


@pytest.fixture
def gpus(bundle):
    """The engines that are loaded one after the other: the first, then those loaded anew."""
    return [Gpu(bundle), Gpu(bundle)]


@pytest.fixture
def start(bundle, gpus):
    loaded = []

    def start(on_error, fall_back=lambda: OnnxRuntimeEngine(bundle)):
        waiting = iter(gpus)

        def rebuild():
            return next(waiting)

        engine = RecoveringEngine(
            rebuild(), rebuild=rebuild, fall_back=fall_back, on_error=on_error
        )
        loaded.append(engine)
        return ServingPath(bundle, engine)

    yield start
    for engine in loaded:
        engine.close()


def decoded(name):
    return solid(name), 'rgb'


def color(path, name):
    """What the last stage calls a frame of that colour."""
    path.begin(solid(name), 'rgb')
    for stage in range(path.num_stages):
        judgement = path.run_stage(stage, path.engine.new_token())
    return path.bundle.labels[int(judgement.answer.probabilities.argmax())]


def test_without_a_fault_nothing_is_replaced(start, gpus):
    path = start('rebuild')
    assert [color(path, name) for name in ('red', 'blue')] == ['red', 'blue']
    assert not gpus[0].closed
    assert path.engine.info() == gpus[0].info()


def test_report_tries_the_next_frame_on_the_same_engine(start, gpus):
    path = start('report')
    gpus[0].errors = [EngineError('it failed')]
    with pytest.raises(EngineError, match=r'it failed\. The next frame is tried on the same'):
        color(path, 'red')
    assert color(path, 'green') == 'green'
    assert not gpus[0].closed
    assert not path.engine.info().is_degraded


def test_rebuild_loads_it_anew_and_answers_the_next_frame(start, gpus):
    path = start('rebuild')
    gpus[0].errors = [EngineError('it failed')]
    with pytest.raises(EngineError, match=r'it failed\. It was loaded anew'):
        color(path, 'red')
    assert color(path, 'green') == 'green'
    assert gpus[0].closed
    assert not gpus[1].closed
    info = path.engine.info()
    assert not info.is_degraded
    assert info.reason == 'loaded anew after onnxruntime failed: it failed'


def test_an_engine_that_fails_again_at_once_gives_way(start, gpus):
    path = start('rebuild')
    gpus[0].errors = [EngineError('it failed')]
    gpus[1].errors = [EngineError('again')]
    for _ in range(2):
        with pytest.raises(EngineError):
            color(path, 'red')
    assert color(path, 'blue') == 'blue'
    assert gpus[1].closed
    assert path.engine.info().is_degraded
    assert 'again' in path.engine.info().reason


def test_one_that_has_served_is_loaded_anew_again(start, gpus, bundle):
    gpus.append(Gpu(bundle))
    path = start('rebuild')
    for gpu in gpus[:2]:
        gpu.errors = [EngineError('it failed')]
        with pytest.raises(EngineError, match='loaded anew'):
            color(path, 'red')
        gpus[1].errors = []
        assert color(path, 'green') == 'green'
    assert not path.engine.info().is_degraded
    assert not gpus[2].closed


def test_a_process_that_cuda_has_given_up_loads_nothing_of_cuda_anew(start, gpus):
    path = start('rebuild')
    gpus[0].errors = [LOST]
    with pytest.raises(EngineError, match='ONNX Runtime serves from the next frame on'):
        color(path, 'red')
    assert color(path, 'green') == 'green'
    assert path.engine.info().is_degraded
    assert 'cudaErrorIllegalAddress' in path.engine.info().reason


def test_loading_anew_that_fails_falls_back(start, gpus):
    del gpus[1:]

    def fails():
        raise EngineError('no room')

    path = start('rebuild')
    path.engine._rebuild = fails
    gpus[0].errors = [EngineError('it failed')]
    with pytest.raises(EngineError, match='ONNX Runtime serves'):
        color(path, 'red')
    assert color(path, 'green') == 'green'
    assert path.engine.info().reason.endswith('loading it anew failed too: no room')


def test_fall_back_falls_back_at_once(start, gpus):
    path = start('fall_back')
    gpus[0].errors = [EngineError('it failed')]
    with pytest.raises(EngineError, match='ONNX Runtime serves from the next frame on'):
        color(path, 'red')
    assert color(path, 'green') == 'green'
    assert gpus[0].closed
    assert path.engine.info().is_degraded


def test_a_fall_back_that_fails_is_tried_again_with_the_next_frame(start, gpus, bundle):
    outcomes = [EngineError('no memory'), EngineError('no memory'), None]

    def fall_back():
        if error := outcomes.pop(0):
            raise error
        return OnnxRuntimeEngine(bundle)

    path = start('fall_back', fall_back)
    gpus[0].errors = [EngineError('it failed')]
    with pytest.raises(EngineError, match=r'cannot take over \(no memory\)'):
        color(path, 'red')
    with pytest.raises(EngineError, match='no memory'):
        color(path, 'red')
    assert color(path, 'green') == 'green'
    assert path.engine.info().reason == 'onnxruntime failed: it failed'


@pytest.mark.parametrize('on_error', ['report', 'rebuild', 'fall_back'])
def test_the_runner_answers_the_frame_after_the_fault(start, gpus, on_error):
    path = start(on_error)
    faults, answered, done = [], [], threading.Semaphore(0)

    class Sink:
        def on_prediction(self, prediction):
            if prediction.is_final:
                answered.append(prediction)

        def on_frame(self, summary):
            done.release()

        def on_fault(self, kind, message):
            faults.append((kind, message))
            done.release()

    gpus[0].errors = [EngineError('it failed')]
    reference = ReferenceTimes(np.full((2, path.num_stages), 0.001))
    runner = Runner(path, Planner(reference, [1e6] * path.num_stages), Sink())
    runner.start()
    for name in ('red', 'green'):
        now_s = monotonic()
        runner.submit(
            Frame(
                seq=runner.next_seq(),
                decode=partial(decoded, name),
                received_s=now_s,
                age_at_receipt_s=0.0,
                budget_s=60.0,
                due_s=now_s + 60.0,
            )
        )
        assert done.acquire(timeout=60)
    runner.stop()
    ((kind, message),) = faults
    assert kind == 'engine_error'
    assert message.startswith('it failed. ')
    (prediction,) = answered
    assert path.bundle.labels[int(prediction.answer.probabilities.argmax())] == 'green'
    assert prediction.answer.stage == path.num_stages
