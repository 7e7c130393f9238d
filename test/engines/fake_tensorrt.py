"""A TensorRT without a GPU: the calls that run an engine, on a fake CUDA device.

Names and arguments are those of `tensorrt` and `tensorrt_rtx`; `test_fakes.py` compares them
with the real module where that is installed. An engine is its ONNX stage, and its context runs it
by ONNX Runtime on what lies at the bound addresses when its turn in the stream comes.
"""

import ctypes
from enum import Enum, IntEnum

import numpy as np
import onnxruntime as ort

from engines.fake_cuda import OK, FakeCuda, cudaError_t

MAGIC = b'fake plan\n'
ONNX_DTYPES = {
    'tensor(float)': 'float32',
    'tensor(float16)': 'float16',
    'tensor(int8)': 'int8',
    'tensor(uint8)': 'uint8',
}


def fake_plan(model):
    """The serialised engine of an ONNX model."""
    return MAGIC + model


def complain(to, message):
    to.log(Severity.ERROR, message)


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity
    INTERNAL_ERROR = Severity.INTERNAL_ERROR
    ERROR = Severity.ERROR
    WARNING = Severity.WARNING
    INFO = Severity.INFO
    VERBOSE = Severity.VERBOSE

    def log(self, severity, msg):
        raise NotImplementedError


class DataType(Enum):
    FLOAT = 'float32'
    HALF = 'float16'
    INT8 = 'int8'
    UINT8 = 'uint8'


class TensorIOMode(Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class Dims:
    """As TensorRT's: a sequence that is no tuple."""

    def __init__(self, shape):
        self._shape = tuple(shape)

    def __len__(self):
        return len(self._shape)

    def __getitem__(self, index):
        return self._shape[index]


class ICudaEngine:
    def __init__(self, module, logger, model):
        self._module, self._logger = module, logger
        options = ort.SessionOptions()
        options.log_severity_level = 3
        self.session = ort.InferenceSession(model, options, providers=['CPUExecutionProvider'])
        self.tensors = {
            **{t.name: (TensorIOMode.INPUT, t) for t in self.session.get_inputs()},
            **{t.name: (TensorIOMode.OUTPUT, t) for t in self.session.get_outputs()},
        }

    @property
    def num_io_tensors(self):
        return len(self.tensors)

    def get_tensor_name(self, index):
        return list(self.tensors)[index]

    def get_tensor_mode(self, name):
        return self.tensors[name][0]

    def get_tensor_shape(self, name):
        return Dims(self.tensors[name][1].shape)

    def get_tensor_dtype(self, name):
        return DataType(ONNX_DTYPES[self.tensors[name][1].type])

    def create_execution_context(self):
        cuda = self._module.cuda
        error, address = cuda.cudaMalloc(self._module.activation_bytes)
        if error != OK:
            complain(self._logger, 'Requested amount of GPU memory could not be given')
            return None
        return IExecutionContext(self._module, self._logger, self, address)


class IExecutionContext:
    def __init__(self, module, logger, engine, activations):
        self.engine = engine
        self._module, self._logger = module, logger
        self._activations = activations
        self._addresses = {}

    def __del__(self):
        self._module.cuda.cudaFree(self._activations)

    def set_tensor_address(self, name, memory):
        if name not in self.engine.tensors:
            complain(self._logger, 'there is no such tensor: ' + name)
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle):
        unbound = [name for name in self.engine.tensors if name not in self._addresses]
        if unbound:
            complain(self._logger, 'no address is set for ' + ', '.join(unbound))
            return False
        if self._module.cuda.enqueue(stream_handle, self._run) == OK:
            return True
        complain(self._logger, 'the work could not be queued')
        return False

    def _run(self):
        values, outputs = {}, {}
        for name, (mode, tensor) in self.engine.tensors.items():
            dtype = np.dtype(ONNX_DTYPES[tensor.type])
            num_bytes = int(np.prod(tensor.shape)) * dtype.itemsize
            memory = self._module.cuda.view('device', self._addresses[name], num_bytes)
            if memory is None:
                return cudaError_t.cudaErrorIllegalAddress
            if mode is TensorIOMode.INPUT:
                values[name] = np.frombuffer(memory, dtype).reshape(tensor.shape).copy()
            else:
                outputs[name] = memory
        for memory, value in zip(
            outputs.values(), self.engine.session.run(list(outputs), values), strict=True
        ):
            ctypes.memmove(memory, np.ascontiguousarray(value).ctypes.data, len(memory))
        return OK


class FakeTensorRT:
    """The module.

    Attributes:
        cuda: The device's.
        activation_bytes: Device memory that each context takes.
        plans: Those deserialised, in order.
        dla_cores: What each is to run on.
        broken: Whether a runtime cannot start.
    """

    __version__ = '10.3.0'
    ILogger = ILogger
    DataType = DataType
    TensorIOMode = TensorIOMode
    ICudaEngine = ICudaEngine
    IExecutionContext = IExecutionContext

    def __init__(self, cuda=None):
        self.cuda = cuda or FakeCuda()
        self.activation_bytes = 4096
        self.plans = []
        self.dla_cores = []
        self.broken = False

    def Runtime(self, logger):  # noqa: N802 - TensorRT's name
        if self.broken:
            complain(logger, 'CUDA initialization failure with error: 35')
            raise TypeError('pybind11::init(): factory function returned nullptr')
        return Runtime(self, logger)


class Runtime:
    def __init__(self, module, logger):
        self._module, self._logger = module, logger
        self.DLA_core = 0

    def deserialize_cuda_engine(self, serialized_engine):
        if not serialized_engine.startswith(MAGIC):
            complain(self._logger, 'magicTag does not match: another version built it')
            return None
        self._module.plans.append(serialized_engine)
        self._module.dla_cores.append(self.DLA_core)
        return ICudaEngine(self._module, self._logger, serialized_engine[len(MAGIC) :])
