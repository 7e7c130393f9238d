import pytest

from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from engines.fake_cuda import FakeCuda
from engines.fake_tensorrt import FakeTensorRT


@pytest.fixture
def cuda():
    return FakeCuda()


@pytest.fixture
def module(cuda):
    return FakeTensorRT(cuda)


@pytest.fixture
def library(module):
    return TensorRT(module, 'tensorrt', module.__version__)


@pytest.fixture
def gpu():
    return Device('Fake Orin', '8.7', 0, 2**30)
