"""The fakes have the names and arguments of the real modules, where these are installed."""

import inspect
import re

import pytest

from anytime_dnn_ros.engines.cuda import load_runtime
from anytime_dnn_ros.engines.tensorrt_library import find_tensorrt
from anytime_dnn_ros.errors import MissingDependencyError
from engines import fake_cuda, fake_tensorrt
from engines.fake_cuda import FakeCuda

CALLS = [
    name for name, value in vars(FakeCuda).items() if inspect.isfunction(value) and 'cuda' in name
]
METHODS = [
    (kind, name)
    for kind in ('ICudaEngine', 'IExecutionContext')
    for name in vars(getattr(fake_tensorrt, kind))
    if not name.startswith('_') and name not in ('engine', 'session', 'tensors')
]


def parameters(function):
    """Names of a fake's arguments, without `self`."""
    return list(inspect.signature(function).parameters)[1:]


def documented(function):
    """Names of the arguments in each signature that a compiled function's text gives."""
    text = re.sub(r'<[^>]*>', '0', function.__doc__)
    found = re.findall(rf'{function.__name__}\(([^)]*)\)', text)
    return [
        [re.search(r'(\w+)(?:: [^,]*)?$', part.split(' = ')[0].strip())[1] for part in parts]
        for parts in ([p for p in signature.split(', ') if p] for signature in found)
    ]


@pytest.fixture(scope='module')
def runtime():
    try:
        return load_runtime()
    except MissingDependencyError as error:
        return pytest.skip(str(error))


@pytest.fixture(scope='module')
def tensorrt():
    try:
        return find_tensorrt().module
    except MissingDependencyError as error:
        return pytest.skip(str(error))


@pytest.mark.parametrize('name', CALLS)
def test_a_cuda_call_has_the_arguments_of_the_real_one(runtime, name):
    assert parameters(getattr(FakeCuda, name)) in documented(getattr(runtime, name))


@pytest.mark.parametrize('name', ['cudaError_t', 'cudaMemcpyKind', 'cudaStreamCaptureMode'])
def test_cuda_enumerations_have_the_real_values(runtime, name):
    real = getattr(runtime, name)
    for member in getattr(fake_cuda, name):
        assert int(getattr(real, member.name)) == member.value


@pytest.mark.parametrize(
    'name', ['cudaStreamNonBlocking', 'cudaHostAllocDefault', 'cudaEventDefault']
)
def test_cuda_flags_have_the_real_values(runtime, name):
    assert getattr(runtime, name) == getattr(FakeCuda, name)


def test_every_cuda_call_that_is_made_gives_an_error_first(runtime):
    # Without a GPU each of these fails, and says so the way `engines/cuda.py` reads it.
    try:
        runtime.cudaMalloc(1)
    except RuntimeError as error:
        pytest.skip(f'old bindings need a driver: {error}')
    for call, arguments in (('cudaMalloc', (1,)), ('cudaStreamCreateWithFlags', (1,))):
        error, *results = getattr(runtime, call)(*arguments)
        assert isinstance(error, runtime.cudaError_t)
        assert error == runtime.cudaError_t.cudaSuccess or error.name.startswith('cudaError')
        assert len(results) == 1
    (error,) = runtime.cudaGetLastError()
    code, text = runtime.cudaGetErrorString(error)
    assert code == runtime.cudaError_t.cudaSuccess
    assert isinstance(text, bytes)


@pytest.mark.parametrize(('kind', 'name'), METHODS)
def test_a_tensorrt_method_has_the_arguments_of_the_real_one(tensorrt, kind, name):
    real = getattr(getattr(tensorrt, kind), name)
    fake = getattr(getattr(fake_tensorrt, kind), name)
    if isinstance(fake, property):
        assert isinstance(real, property)
        return
    # The fake leaves out what has a default.
    ours = ['self', *parameters(fake)]
    assert any(theirs[: len(ours)] == ours for theirs in documented(real))


def test_tensorrt_runtime_has_the_real_arguments(tensorrt):
    assert ['self', 'logger'] in documented(tensorrt.Runtime.__init__)
    fake = parameters(fake_tensorrt.Runtime.deserialize_cuda_engine)
    assert ['self', *fake] in documented(tensorrt.Runtime.deserialize_cuda_engine)


@pytest.mark.parametrize('name', ['DataType', 'TensorIOMode'])
def test_tensorrt_enumerations_have_the_real_names(tensorrt, name):
    real = getattr(tensorrt, name).__members__
    assert set(getattr(fake_tensorrt, name).__members__) <= set(real)


def test_the_logger_has_the_real_levels(tensorrt):
    for level in fake_tensorrt.Severity:
        assert int(getattr(tensorrt.ILogger, level.name)) == level.value
