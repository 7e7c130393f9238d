import sys

import numpy as np
import pytest

from anytime_dnn_ros.engines.cuda import MODULES, CudaError, CudaStream, load_runtime
from anytime_dnn_ros.errors import EngineError, MissingDependencyError
from engines.fake_cuda import STICKY, cudaError_t


@pytest.fixture
def stream(cuda):
    stream = CudaStream(cuda)
    yield stream
    stream.close()


def test_an_array_goes_to_the_device_and_comes_back(stream, cuda):
    there = stream.allocate_pinned((2, 3), np.float32)
    back = stream.allocate_pinned((2, 3), np.float32)
    assert not there.any()
    there[:] = np.arange(6).reshape(2, 3)
    address = stream.allocate(there.nbytes)
    stream.copy_to_device(address, there)
    stream.copy_to_host(back, address)
    # Queued, not done.
    assert not back.any()
    stream.synchronize()
    np.testing.assert_array_equal(back, there)


def test_memory_that_is_not_pinned_is_refused_by_the_device(stream):
    address = stream.allocate(16)
    with pytest.raises(CudaError, match='cudaMemcpyAsync failed: cudaErrorInvalidValue'):
        stream.copy_to_device(address, np.zeros(4, np.float32))


def test_a_graph_does_again_what_was_captured(stream):
    source, target = (stream.allocate_pinned((4,), np.uint8) for _ in range(2))
    address = stream.allocate(4)

    def queue():
        stream.copy_to_device(address, source)
        stream.copy_to_host(target, address)

    graph = stream.capture(queue)
    stream.synchronize()
    for value in (3, 4):
        source[:] = value
        target[:] = 0
        stream.launch(graph)
        stream.synchronize()
        assert target.tolist() == [value] * 4


@pytest.mark.parametrize('error', [EngineError('no'), KeyboardInterrupt()])
def test_a_capture_that_fails_leaves_the_stream_as_it_was(stream, cuda, error):
    def queue():
        raise error

    with pytest.raises(type(error)):
        stream.capture(queue)
    assert cuda.capture is None
    assert 'graph' not in cuda.handles.values()
    assert stream.last_error() is None
    stream.synchronize()


def test_a_graph_that_cannot_be_made_executable_is_not_kept(stream, cuda):
    cuda.refusals['cudaGraphInstantiate'] = [cudaError_t.cudaErrorInvalidValue]
    with pytest.raises(CudaError, match='cudaGraphInstantiate'):
        stream.capture(lambda: None)
    assert 'graph' not in cuda.handles.values()


def test_what_others_failed_with_is_told_once(stream, cuda):
    cuda.refusals['cudaMalloc'] = [cudaError_t.cudaErrorMemoryAllocation] * 2
    cuda.cudaMalloc(1)
    error = stream.last_error()
    assert error.name == 'cudaErrorMemoryAllocation'
    assert 'a CUDA call of TensorRT failed' in str(error)
    assert stream.last_error() is None
    # What was raised is not told as theirs.
    with pytest.raises(CudaError, match=r'out of memory.*smaller bundle'):
        stream.allocate(1)
    assert stream.last_error() is None


def test_an_error_that_stays_is_told_again_and_again(stream, cuda):
    cuda.refusals['cudaMalloc'] = [STICKY]
    with pytest.raises(CudaError, match='start it again'):
        stream.allocate(1)
    for _ in range(2):
        assert stream.last_error().is_sticky
    # Whatever the driver says to freeing now, there is nothing to tell.
    stream.close()


def test_close_frees_in_the_reverse_order_and_once(cuda):
    stream = CudaStream(cuda)
    stream.new_event()
    stream.allocate(1)
    cuda.calls.clear()
    stream.close()
    stream.close()
    assert cuda.calls == ['cudaFree', 'cudaEventDestroy', 'cudaStreamDestroy']


def test_a_device_that_is_not_there_is_told(cuda):
    with pytest.raises(CudaError, match='cudaSetDevice failed'):
        CudaStream(cuda, device=3)
    assert cuda.handles == {}


def test_bindings_of_another_cuda_than_the_drivers_are_told_with_the_mend(stream, cuda):
    def missing(size):
        raise RuntimeError('Function "cudaMalloc" not found')

    cuda.cudaMalloc = missing
    with pytest.raises(EngineError, match=r'cannot be called.*not found.*cuda-python=='):
        stream.allocate(1)


def test_missing_bindings_are_named_with_their_mend(monkeypatch):
    for name in MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as told:
        load_runtime()
    for said in ('cuda.bindings.runtime', 'cuda.cudart', "'cuda-python==12.6.*'", 'JetPack'):
        assert said in str(told.value)


def test_the_older_name_of_the_bindings_is_found_too(monkeypatch, cuda):
    monkeypatch.setitem(sys.modules, 'cuda.bindings.runtime', None)
    monkeypatch.setitem(sys.modules, 'cuda', cuda)
    monkeypatch.setitem(sys.modules, 'cuda.cudart', cuda)
    assert load_runtime() is cuda
