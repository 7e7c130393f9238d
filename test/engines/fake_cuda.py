# ruff: noqa: N801, N802, N803, N815 - the names are CUDA's
"""A CUDA runtime without a GPU: the calls that `engines/cuda.py` makes, on memory of the CPU.

Names, arguments and results are those of `cuda.bindings.runtime`; `test_fakes.py` compares them
with the real module where that is installed. Work is queued, and done only when somebody waits
for it: whoever reads an answer too early, or copies in the wrong order, gets the wrong one.
"""

import ctypes
from enum import IntEnum


class cudaError_t(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
INVALID = cudaError_t.cudaErrorInvalidValue
STICKY = cudaError_t.cudaErrorIllegalAddress
HANDLES = ('stream', 'event', 'graph', 'executable')


class FakeCuda:
    """One GPU with as many bytes as it is given.

    Attributes:
        calls: The name of every call, in order.
        refusals: By the name of a call, the errors of its next calls, OK for one that succeeds.
        fault: What the next work on the device ends with, OK for nothing.
        can_capture: Whether work may be captured as a graph.
        clock_ms: The device's time; each piece of work takes a millisecond.
    """

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaHostAllocDefault = 0
    cudaEventDefault = 0

    def __init__(self, device_bytes=2**30):
        self.device_bytes = device_bytes
        self.calls = []
        self.refusals = {}
        self.fault = OK
        self.can_capture = True
        self.clock_ms = 0.0
        self.memory = {}
        self.handles = {}
        self.queue = []
        self.capture = None
        self._last = OK
        self._next_handle = 1

    # What tests and the fake TensorRT ask

    def used_bytes(self):
        return sum(len(m) for kind, m in self.memory.values() if kind == 'device')

    def view(self, kind, address, num_bytes):
        """The allocated memory of that kind at an address; None if it is not allocated so."""
        for start, (found, memory) in self.memory.items():
            if found == kind and start <= address and address + num_bytes <= start + len(memory):
                return (ctypes.c_uint8 * num_bytes).from_address(address)
        return None

    def enqueue(self, stream, work):
        """Queues what a stream is to do, or captures it; `work` gives an error."""
        if self.handles.get(int(stream)) != 'stream':
            return self._end(cudaError_t.cudaErrorInvalidResourceHandle)
        if self.capture is None:
            self.queue.append(work)
            return OK
        if not self.can_capture:
            return self._end(cudaError_t.cudaErrorStreamCaptureInvalidated)
        self.capture.append(work)
        return OK

    # The device

    def cudaSetDevice(self, device):
        return (self._begin('cudaSetDevice', INVALID if device else OK),)

    def cudaGetLastError(self):
        error, self._last = self._last, STICKY if self._last == STICKY else OK
        return (error,)

    def cudaGetErrorString(self, error):
        return OK, f'text of {int(error)}'.encode()

    # Memory

    def cudaMalloc(self, size):
        error = self._begin('cudaMalloc')
        if error == OK and self.used_bytes() + size > self.device_bytes:
            error = self._end(cudaError_t.cudaErrorMemoryAllocation)
        return error, self._allocate('device', size) if error == OK else None

    def cudaHostAlloc(self, size, flags):
        error = self._begin('cudaHostAlloc')
        return error, self._allocate('pinned', size) if error == OK else None

    def cudaFree(self, devPtr):
        return (self._free('cudaFree', 'device', devPtr),)

    def cudaFreeHost(self, ptr):
        return (self._free('cudaFreeHost', 'pinned', ptr),)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        error = self._begin('cudaMemcpyAsync')
        if error != OK:
            return (error,)
        source, target = ('pinned', 'device')[:: 1 if kind == 1 else -1]
        target, source = self.view(target, dst, count), self.view(source, src, count)
        if target is None or source is None:
            return (self._end(INVALID),)

        def copy():
            ctypes.memmove(target, source, count)
            return OK

        return (self.enqueue(stream, copy),)

    # Streams, events, graphs

    def cudaStreamCreateWithFlags(self, flags):
        return self._create('cudaStreamCreateWithFlags', 'stream')

    def cudaStreamDestroy(self, stream):
        return (self._destroy('cudaStreamDestroy', 'stream', stream),)

    def cudaStreamSynchronize(self, stream):
        error = self._begin('cudaStreamSynchronize')
        work, self.queue = self.queue, []
        for do in work:
            if error == OK:
                error = self._end(self.fault if self.fault != OK else do())
                self.clock_ms += 1.0
        # A fault comes once; that the process is lost to CUDA afterwards is `_last`'s doing.
        self.fault = OK if error != OK else self.fault
        return (error,)

    def cudaEventCreateWithFlags(self, flags):
        return self._create('cudaEventCreateWithFlags', 'event')

    def cudaEventDestroy(self, event):
        return (self._destroy('cudaEventDestroy', 'event', event),)

    def cudaEventRecord(self, event, stream):
        error = self._begin('cudaEventRecord')
        if error != OK:
            return (error,)

        def take_time():
            self.handles[event, 'ms'] = self.clock_ms
            return OK

        return (self.enqueue(stream, take_time),)

    def cudaEventElapsedTime(self, start, end):
        error = self._begin('cudaEventElapsedTime')
        return error, self.handles[end, 'ms'] - self.handles[start, 'ms']

    def cudaStreamBeginCapture(self, stream, mode):
        error = self._begin('cudaStreamBeginCapture')
        self.capture = [] if error == OK else None
        return (error,)

    def cudaStreamEndCapture(self, stream):
        error = self._begin('cudaStreamEndCapture')
        work, self.capture = self.capture, None
        if error == OK and not self.can_capture:
            error = self._end(cudaError_t.cudaErrorStreamCaptureInvalidated)
        return error, self._handle('graph', work) if error == OK else None

    def cudaGraphInstantiate(self, graph, flags):
        error, executable = self._create('cudaGraphInstantiate', 'executable')
        if error == OK:
            self.handles[executable, 'work'] = self.handles[graph, 'work']
        return error, executable

    def cudaGraphDestroy(self, graph):
        return (self._destroy('cudaGraphDestroy', 'graph', graph),)

    def cudaGraphExecDestroy(self, graphExec):
        return (self._destroy('cudaGraphExecDestroy', 'executable', graphExec),)

    def cudaGraphLaunch(self, graphExec, stream):
        error = self._begin('cudaGraphLaunch')
        for work in self.handles[graphExec, 'work'] if error == OK else ():
            error = self.enqueue(stream, work)
        return (error,)

    # Inside

    def _begin(self, name, error=OK):
        self.calls.append(name)
        if self._last == STICKY:
            return STICKY
        refusals = self.refusals.get(name)
        return self._end(refusals.pop(0) if refusals else error)

    def _end(self, error):
        if error != OK and self._last != STICKY:
            self._last = error
        return error

    def _allocate(self, kind, size):
        memory = (ctypes.c_uint8 * size)()
        # What is there at first is not zero.
        ctypes.memset(memory, 0xA5, size)
        address = ctypes.addressof(memory)
        self.memory[address] = kind, memory
        return address

    def _free(self, name, kind, address):
        error = self._begin(name)
        if self.memory.get(address, ('',))[0] != kind:
            return self._end(INVALID)
        # Even where it fails: a process that is lost to CUDA ends, and its memory with it.
        del self.memory[address]
        return error

    def _create(self, name, kind):
        error = self._begin(name)
        return error, self._handle(kind) if error == OK else None

    def _handle(self, kind, work=None):
        handle, self._next_handle = self._next_handle, self._next_handle + 1
        self.handles[handle] = kind
        if work is not None:
            self.handles[handle, 'work'] = work
        return handle

    def _destroy(self, name, kind, handle):
        error = self._begin(name)
        if self.handles.get(handle) != kind:
            return self._end(cudaError_t.cudaErrorInvalidResourceHandle)
        for key in (handle, (handle, 'work'), (handle, 'ms')):
            self.handles.pop(key, None)
        return error
