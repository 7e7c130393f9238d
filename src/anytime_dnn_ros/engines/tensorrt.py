"""TensorRT on an NVIDIA GPU: one engine per stage, features stay on the device.

A stage is three things queued on one stream: the image to the device (if the stage reads it), the
engine, the answer back to pinned memory. Where CUDA can capture that as a graph, it is launched
as one. No call can stop a stage that runs, so its length bounds how far a deadline is overrun.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import CancelToken, EngineInfo, StageCancelledError, StageInfo
from anytime_dnn_ros.engines.cuda import CudaStream, load_runtime
from anytime_dnn_ros.engines.stage_engines import StageEngine
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from anytime_dnn_ros.engines.tensorrt_log import last_errors, memory_mend, start, tensorrt_log
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.ladder.bundle import Bundle

if TYPE_CHECKING:
    import tensorrt as trt

WARM_UP_RUNS = 3
# By the name of `trt.DataType`: `trt.nptype` of TensorRT 8 needs a NumPy older than 1.24.
DTYPES = {
    'FLOAT': 'float32',
    'HALF': 'float16',
    'INT8': 'int8',
    'UINT8': 'uint8',
    'INT32': 'int32',
    'INT64': 'int64',
    'BOOL': 'bool',
}


class StageToken:
    """Stops a run that has not begun; one that has runs to its end."""

    def __init__(self) -> None:
        self._cancelled = threading.Event()

    @property
    def is_cancelled(self) -> bool:
        """Whether the run may not begin."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Asks the run not to begin."""
        self._cancelled.set()


@dataclass(frozen=True)
class _Image:
    """The image in one size, as one type of engine reads it.

    Attributes:
        buffer: uint8 [1, H, W, C], what the frame is resized into.
        sent: Pinned, what is copied: the buffer itself, or the same in float32, which torch2trt
            wants.
        address: Of the copy on the device.
    """

    buffer: NDArray[np.generic]
    sent: NDArray[np.generic]
    address: int


@dataclass
class _Stage:
    """A loaded stage.

    Attributes:
        image: None where it reads only features.
        logits: float32 [1, classes], pinned, and where the engine writes it on the device.
        timer: Events before and after the last run.
        graph: None where the stage is queued call by call.
    """

    name: str
    engine: trt.ICudaEngine
    context: trt.IExecutionContext
    image: _Image | None
    logits: tuple[NDArray[np.generic], int]
    timer: tuple[Any, Any]
    info: StageInfo
    graph: Any = None


class TensorRtEngine:
    """All stages of a bundle in TensorRT.

    Args:
        bundle: A checked bundle.
        engines: Its stages, built for this library and device.
        library: From `find_tensorrt`.
        device: From `find_device`.
        cuda_graphs: Whether to capture each stage as a CUDA graph.
        runtime: The CUDA runtime's module; None loads it.

    Attributes:
        is_kept: Whether all its engines are in the cache, so that loading them anew is quick.

    Raises:
        EngineError: A stage cannot be loaded or run.
        MissingDependencyError: cuda-bindings is not in this Python.
    """

    def __init__(
        self,
        bundle: Bundle,
        engines: Sequence[StageEngine],
        library: TensorRT,
        device: Device,
        *,
        cuda_graphs: bool = True,
        runtime: Any = None,
    ) -> None:
        self.is_kept = all(built.is_kept for built in engines)
        self._library = library
        self._device = device
        self._trt = library.module
        self._log = tensorrt_log(self._trt)
        self._log.errors.clear()
        self._addresses: dict[str, int] = {}
        self._buffers: dict[tuple[int, ...], NDArray[np.generic]] = {}
        self._images: dict[tuple[tuple[int, ...], str], _Image] = {}
        self._stages: list[_Stage] = []
        self._runtime: trt.Runtime | None = None
        self._cuda = CudaStream(runtime or load_runtime(), device.index)
        try:
            where = f'{library.flavour} {library.version} cannot start on {device.name}'
            self._runtime = start(self._trt.Runtime, self._log, where)
            for index, built in enumerate(engines):
                self._stages.append(self._load_stage(bundle, index, built))
            self._warm_up(WARM_UP_RUNS)
            if cuda_graphs:
                for stage in self._stages:
                    self._capture(stage)
                self._warm_up(1)
        except BaseException:
            self.close()
            raise

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return len(self._stages)

    def image_buffer(self, stage: int) -> NDArray[np.uint8] | None:
        """The tensor, uint8 [H, W, C], that the frame is resized into; see `Engine`."""
        image = self._stages[stage].image
        return None if image is None else cast('NDArray[np.uint8]', image.buffer[0])

    def new_token(self) -> StageToken:
        """A token for one call of `run_stage`."""
        return StageToken()

    def run_stage(self, stage: int, token: CancelToken) -> NDArray[np.float32]:
        """Runs one stage; see `Engine`. A token cancelled while it runs changes nothing."""
        loaded = self._stages[stage]
        if cast('StageToken', token).is_cancelled:
            raise StageCancelledError(f'stage {loaded.name!r} was cancelled before it began')
        try:
            # The node loads in one thread and runs in another.
            self._cuda.use_device()
            start, end = loaded.timer
            self._cuda.record(start)
            image = loaded.image
            if image is not None and image.sent is not image.buffer:
                image.sent[...] = image.buffer
            if loaded.graph is None:
                self._queue(loaded)
            else:
                self._cuda.launch(loaded.graph)
            self._cuda.record(end)
            self._cuda.synchronize()
        except EngineError as error:
            error.args = (f'{self._where(loaded.name)} failed: {error}',)
            raise
        return cast('NDArray[np.float32]', loaded.logits[0][0])

    def device_ms(self, stage: int) -> float:
        """What the last run of a stage took on the GPU, copies included, milliseconds."""
        return self._cuda.elapsed_ms(*self._stages[stage].timer)

    def info(self) -> EngineInfo:
        """What was loaded and how."""
        return EngineInfo(
            library=self._library.flavour,
            version=self._library.version,
            device=f'{self._device.name} (compute capability {self._device.compute_capability})',
            threads=1,
            can_cancel=False,
            stages=tuple(stage.info for stage in self._stages),
        )

    def close(self) -> None:
        """Frees the stages and their memory, on the device and pinned."""
        # Graphs first, then the contexts that they were captured from, then what these belong to.
        self._cuda.close()
        for stage in self._stages:
            del stage.context
        self._stages.clear()
        self._images.clear()
        self._buffers.clear()
        self._addresses.clear()
        self._runtime = None

    def _where(self, stage: str) -> str:
        return f'{self._library.flavour} {self._library.version} in stage {stage!r}'

    def _load_stage(self, bundle: Bundle, index: int, built: StageEngine) -> _Stage:
        stage = bundle.manifest.stages[index]
        assert self._runtime is not None
        if built.options.dla_core is not None:
            # Which core an engine was built on is not part of it.
            self._runtime.DLA_core = built.options.dla_core
        engine: trt.ICudaEngine | None = self._runtime.deserialize_cuda_engine(built.plan)
        if engine is None:
            # Of another build of this very version, say: the cache cannot tell these two apart.
            raise self._failure(
                f'{self._where(stage.name)} cannot load the engine (if another TensorRT built it, '
                'delete the engines in cache_dir, and they are built anew)'
            )
        dtypes = self._checked_dtypes(engine, bundle, index)
        context: trt.IExecutionContext | None = engine.create_execution_context()
        if context is None:
            raise self._failure(f'{self._where(stage.name)} cannot make room for the engine')
        image = None
        for tensor in stage.inputs:
            if tensor.is_image:
                image = self._image(tensor.shape, dtypes[tensor.name])
                context.set_tensor_address(tensor.name, image.address)
            else:
                context.set_tensor_address(tensor.name, self._addresses[tensor.source])
        for output in stage.outputs:
            num_bytes = int(np.prod(output.shape)) * np.dtype(output.dtype).itemsize
            address = self._cuda.allocate(num_bytes)
            self._addresses[f'{stage.name}/{output.name}'] = address
            context.set_tensor_address(output.name, address)
        answer = next(o for o in stage.outputs if o.name == stage.answer)
        logits = self._cuda.allocate_pinned(answer.shape, answer.dtype)
        # Nothing of this start alone: the kept stage times are those of one such text.
        detail = f'{len(built.plan) / 2**20:.1f} MiB by {built.builder}'
        return _Stage(
            name=stage.name,
            engine=engine,
            context=context,
            image=image,
            logits=(logits, self._addresses[f'{stage.name}/{stage.answer}']),
            timer=(self._cuda.new_event(), self._cuda.new_event()),
            info=StageInfo(stage.name, built.options.precision, detail),
        )

    def _image(self, shape: tuple[int, ...], dtype: str) -> _Image:
        """The image of one size and type, which stages share."""
        if shape not in self._buffers:
            self._buffers[shape] = self._cuda.allocate_pinned(shape, np.uint8)
        if (shape, dtype) not in self._images:
            buffer = self._buffers[shape]
            same = dtype == 'uint8'
            sent = buffer if same else self._cuda.allocate_pinned(shape, dtype)
            self._images[shape, dtype] = _Image(buffer, sent, self._cuda.allocate(sent.nbytes))
        return self._images[shape, dtype]

    def _queue(self, stage: _Stage) -> None:
        if stage.image is not None:
            # Also where an earlier stage has copied it: whether this is a new frame is not known
            # here, and the copy takes microseconds.
            self._cuda.copy_to_device(stage.image.address, stage.image.sent)
        if not stage.context.execute_async_v3(self._cuda.handle):
            raise self._failure('it was not queued')
        self._cuda.copy_to_host(*stage.logits)

    def _capture(self, stage: _Stage) -> None:
        """Has the stage launched as a graph; one that cannot be captured is queued as before."""
        try:
            stage.graph = self._cuda.capture(lambda: self._queue(stage))
            how = 'a CUDA graph'
        except EngineError as error:
            if getattr(error, 'is_sticky', False):
                raise
            how = f'no CUDA graph ({error})'
            # What TensorRT has said of it is not the reason of anything later.
            self._log.errors.clear()
        info = stage.info
        stage.info = StageInfo(info.name, info.precision, f'{info.detail}, {how}')

    def _warm_up(self, runs: int) -> None:
        for _ in range(runs):
            for index in range(self.num_stages):
                self.run_stage(index, self.new_token())

    def _failure(self, what: str) -> EngineError:
        """Why TensorRT gave nothing: CUDA's own word if there is one, else the log's."""
        said = last_errors(self._log)
        error = self._cuda.last_error()
        if error is None:
            return EngineError(f'{what}: {said}{memory_mend(said)}')
        error.args = (f'{what}: {error}; TensorRT says: {said}',)
        return error

    def _checked_dtypes(
        self, engine: trt.ICudaEngine, bundle: Bundle, index: int
    ) -> dict[str, str]:
        """The type of each tensor by name.

        Memory is bound by address: the engine must read and write just the manifest's sizes.
        """
        stage = bundle.manifest.stages[index]
        tensors = {}
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            dtype = engine.get_tensor_dtype(name).name
            mode = engine.get_tensor_mode(name).name
            # The stubs do not know that `trt.Dims` is a sequence.
            shape = tuple(cast('Sequence[int]', engine.get_tensor_shape(name)))
            tensors[name] = (mode, DTYPES.get(dtype, dtype), shape)
        wanted = {t.name: ('INPUT', t.dtype, t.shape) for t in stage.inputs}
        wanted |= {t.name: ('OUTPUT', t.dtype, t.shape) for t in stage.outputs}
        as_float = {t.name: ('INPUT', 'float32', t.shape) for t in stage.inputs if t.is_image}
        if tensors not in (wanted, wanted | as_float):
            raise EngineError(
                f'the engine of stage {stage.name!r} of {bundle.path} has the tensors {tensors}, '
                f'the manifest says {wanted}; export the bundle again'
            )
        return {name: dtype for name, (_, dtype, _) in tensors.items()}
