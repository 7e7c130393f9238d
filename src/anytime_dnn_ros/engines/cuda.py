"""One CUDA stream with its memory, events and graphs, on NVIDIA's cuda-bindings.

Only `cudaStreamSynchronize` lets other Python threads run while it waits, in every version of
the bindings; `cudaEventSynchronize` does so from 12.9 on only, so nothing here waits for an event:
the thread that publishes at the deadline must run while a stage does.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from anytime_dnn_ros.errors import EngineError, MissingDependencyError

# The second is the name before cuda-python 12.6, which JetPack 6.0 (CUDA 12.2) needs.
MODULES = ('cuda.bindings.runtime', 'cuda.cudart')
MEND = (
    "Install the one of this machine's CUDA: pip install 'cuda-python==12.2.*' on JetPack 6.0, "
    "'cuda-python==12.6.*' on JetPack 6.1 and 6.2, 'cuda-python==13.*' on JetPack 7 and PCs"
)
OUT_OF_MEMORY = 'cudaErrorMemoryAllocation'
# Of these the CUDA documentation says that the process must be ended and started again.
STICKY = frozenset(
    {
        'cudaErrorAssert',
        'cudaErrorContained',
        'cudaErrorExternalDevice',
        'cudaErrorHardwareStackError',
        'cudaErrorIllegalAddress',
        'cudaErrorIllegalInstruction',
        'cudaErrorInvalidAddressSpace',
        'cudaErrorInvalidPc',
        'cudaErrorLaunchFailure',
        'cudaErrorLaunchTimeout',
        'cudaErrorMisalignedAddress',
        'cudaErrorMpsClientTerminated',
        'cudaErrorTensorMemoryLeak',
    }
)


class CudaError(EngineError):
    """A CUDA call failed.

    Attributes:
        name: CUDA's name of the error.
    """

    def __init__(self, call: str, name: str, text: str) -> None:
        super().__init__(f'{call} failed: {name} ({text}){_mend(name)}')
        self.name = name

    @property
    def is_sticky(self) -> bool:
        """Whether no CUDA call of this process can succeed from now on."""
        return self.name in STICKY


def _mend(name: str) -> str:
    if name == OUT_OF_MEMORY:
        return (
            '; the GPU is out of memory: end other programs on it (nvidia-smi, on a Jetson '
            'tegrastats), take a smaller bundle or a lower precision'
        )
    if name in STICKY:
        return '; this process cannot use CUDA any more: start it again'
    return ''


def load_runtime() -> Any:
    """The module with the CUDA runtime's calls.

    Raises:
        MissingDependencyError: cuda-bindings is not in this Python.
    """
    reasons = []
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except ImportError as error:  # noqa: PERF203 - two names, once
            reasons.append(f'{name}: {error}')
    raise MissingDependencyError(
        f'TensorRT needs cuda-python in the Python that runs the node ({"; ".join(reasons)}). '
        f'{MEND}'
    )


class CudaStream:
    """A stream and everything made for it, freed together.

    Any one thread at a time may use it.

    Args:
        runtime: From `load_runtime`.
        device: The CUDA ordinal.

    Raises:
        CudaError: The device cannot be used. Every method but `close` raises it, and those that
            queue work may raise what earlier work failed with.
    """

    def __init__(self, runtime: Any, device: int = 0) -> None:
        self._runtime = runtime
        self._device = device
        self._undo: list[tuple[str, Any]] = []
        self.use_device()
        self._stream = self._make('cudaStreamCreateWithFlags', runtime.cudaStreamNonBlocking)
        self._undo.append(('cudaStreamDestroy', self._stream))

    @property
    def handle(self) -> int:
        """The stream's address, as TensorRT takes it."""
        return int(self._stream)

    def use_device(self) -> None:
        """Makes the device that of the calling thread; each thread begins with device 0."""
        self._call('cudaSetDevice', self._device)

    def allocate(self, num_bytes: int) -> int:
        """Address of so many new bytes on the device."""
        address = int(self._make('cudaMalloc', num_bytes))
        self._undo.append(('cudaFree', address))
        return address

    def allocate_pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[np.generic]:
        """A zeroed host array of pinned memory, which the device copies from and to directly."""
        num_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        flags = self._runtime.cudaHostAllocDefault
        address = int(self._make('cudaHostAlloc', num_bytes, flags))
        self._undo.append(('cudaFreeHost', address))
        memory = (ctypes.c_uint8 * num_bytes).from_address(address)
        pinned = np.ctypeslib.as_array(memory)
        pinned[:] = 0
        array: NDArray[np.generic] = pinned.view(dtype).reshape(shape)
        return array

    def copy_to_device(self, target: int, source: NDArray[np.generic]) -> None:
        """Queues the copy of a pinned array to device memory."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(
            'cudaMemcpyAsync', target, source.ctypes.data, source.nbytes, kind, self._stream
        )

    def copy_to_host(self, target: NDArray[np.generic], source: int) -> None:
        """Queues the copy of device memory to a pinned array."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(
            'cudaMemcpyAsync', target.ctypes.data, source, target.nbytes, kind, self._stream
        )

    def new_event(self) -> Any:
        """An event that `record` gives a time."""
        event = self._make('cudaEventCreateWithFlags', self._runtime.cudaEventDefault)
        self._undo.append(('cudaEventDestroy', event))
        return event

    def record(self, event: Any) -> None:
        """Queues the taking of the device's time."""
        self._call('cudaEventRecord', event, self._stream)

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Device time between two recorded events, milliseconds, once both are past."""
        return float(self._make('cudaEventElapsedTime', start, end))

    def capture(self, queue_work: Callable[[], None]) -> Any:
        """A graph of all that `queue_work` queues on this stream; nothing of it runs now."""
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call('cudaStreamBeginCapture', self._stream, mode)
        try:
            queue_work()
        except BaseException:
            # Else the stream would capture for ever; what this reports is the failure itself.
            code, graph = self._runtime.cudaStreamEndCapture(self._stream)
            if code == self._runtime.cudaError_t.cudaSuccess:
                self._runtime.cudaGraphDestroy(graph)
            self.forget_error()
            raise
        graph = self._make('cudaStreamEndCapture', self._stream)
        try:
            executable = self._make('cudaGraphInstantiate', graph, 0)
        finally:
            self._runtime.cudaGraphDestroy(graph)
        self._undo.append(('cudaGraphExecDestroy', executable))
        return executable

    def launch(self, graph: Any) -> None:
        """Queues a captured graph."""
        self._call('cudaGraphLaunch', graph, self._stream)

    def synchronize(self) -> None:
        """Waits until all that was queued is done; other threads run meanwhile."""
        self._call('cudaStreamSynchronize', self._stream)

    def last_error(self) -> CudaError | None:
        """What a CUDA call that others made in this thread, TensorRT above all, failed with."""
        (code,) = self._runtime.cudaGetLastError()
        if code == self._runtime.cudaError_t.cudaSuccess:
            return None
        return self._error('a CUDA call of TensorRT', code)

    def forget_error(self) -> None:
        """Makes an error that has been dealt with not appear again, unless it is sticky."""
        self._runtime.cudaGetLastError()

    def close(self) -> None:
        """Frees everything; arrays of pinned memory must not be used afterwards."""
        while self._undo:
            name, handle = self._undo.pop()
            # After a sticky error freeing fails too, with that same error, which was told.
            getattr(self._runtime, name)(handle)

    def _call(self, name: str, *args: Any) -> tuple[Any, ...]:
        try:
            code, *results = getattr(self._runtime, name)(*args)
        except RuntimeError as error:
            # How the bindings say that the driver has no such call.
            raise EngineError(f'{name} cannot be called ({error}). {MEND}') from error
        if code != self._runtime.cudaError_t.cudaSuccess:
            # Told here, it must not be found again as TensorRT's.
            self.forget_error()
            raise self._error(name, code)
        return tuple(results)

    def _make(self, name: str, *args: Any) -> Any:
        (result,) = self._call(name, *args)
        return result

    def _error(self, call: str, code: Any) -> CudaError:
        _, text = self._runtime.cudaGetErrorString(code)
        # The bindings' enumeration is newer than some drivers: then there is only a number.
        return CudaError(call, getattr(code, 'name', str(code)), text.decode())
