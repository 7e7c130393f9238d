"""ONNX Runtime on the CPU: one session per stage, bound buffers, cancel inside a stage."""

from __future__ import annotations

import platform
from typing import cast

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from anytime_dnn_ros.engines.base import CancelToken, EngineInfo, StageCancelledError, StageInfo
from anytime_dnn_ros.engines.symmetric_int8 import to_unsigned
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.ladder.bundle import Bundle

PROVIDERS = ['CPUExecutionProvider']
ORT_ERROR_LEVEL, ORT_FATAL_LEVEL = 3, 4
WARM_UP_RUNS = 3
ORT_TYPE_NAMES = {'float32': 'float'}


class OrtCancelToken:
    """Stops a run through `RunOptions.terminate`."""

    def __init__(self) -> None:
        self.options = ort.RunOptions()
        # A cancelled run is no error; without this each one writes a line to stderr.
        self.options.log_severity_level = ORT_FATAL_LEVEL

    def cancel(self) -> None:
        """Asks the run to stop at its next operator."""
        self.options.terminate = True


class OnnxRuntimeEngine:
    """All stages of a bundle in ONNX Runtime.

    Args:
        bundle: A checked bundle.
        threads: Threads inside a stage. One has the tightest tail on a busy machine.
        plain: Runs each operator as the file has it, unfused, quantised ones in float: slow, and
            a yardstick for other engines.
        reason: Why it serves; see `EngineInfo`.
        is_degraded: Likewise.

    Raises:
        EngineError: A stage cannot be loaded or run.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int = 1,
        plain: bool = False,
        reason: str = '',
        is_degraded: bool = False,
    ) -> None:
        self._names = [stage.name for stage in bundle.manifest.stages]
        self._threads = threads
        self._plain = plain
        self._reason, self._is_degraded = reason, is_degraded
        self._buffers: dict[str, NDArray[np.generic]] = {}
        self._image_keys: list[str | None] = []
        self._logits: list[NDArray[np.float32]] = []
        self._sessions: list[ort.InferenceSession] = []
        self._bindings: list[ort.IOBinding] = []
        self._infos: list[StageInfo] = []
        for index in range(len(self._names)):
            self._load_stage(bundle, index)
        for _ in range(WARM_UP_RUNS):
            for index in range(len(self._names)):
                self.run_stage(index, self.new_token())

    @property
    def num_stages(self) -> int:
        """How many stages there are."""
        return len(self._names)

    def image_buffer(self, stage: int) -> NDArray[np.uint8] | None:
        """The tensor, uint8 [H, W, C], that the frame is resized into; see `Engine`."""
        key = self._image_keys[stage]
        return None if key is None else cast('NDArray[np.uint8]', self._buffers[key][0])

    def new_token(self) -> OrtCancelToken:
        """A token for one call of `run_stage`."""
        return OrtCancelToken()

    def run_stage(self, stage: int, token: CancelToken) -> NDArray[np.float32]:
        """Runs one stage; see `Engine`."""
        options = cast('OrtCancelToken', token).options
        try:
            self._sessions[stage].run_with_iobinding(self._bindings[stage], options)
        except Exception as error:
            if options.terminate:
                raise StageCancelledError(f'stage {self._names[stage]!r} was cancelled') from error
            raise EngineError(
                f'ONNX Runtime {ort.__version__} failed in stage {self._names[stage]!r}: {error}'
            ) from error
        return self._logits[stage]

    def info(self) -> EngineInfo:
        """What was loaded and how."""
        return EngineInfo(
            library='onnxruntime',
            version=ort.__version__,
            device=f'cpu ({platform.machine()})',
            threads=self._threads,
            can_cancel=True,
            stages=tuple(self._infos),
            reason=self._reason,
            is_degraded=self._is_degraded,
        )

    def close(self) -> None:
        """Frees the sessions and buffers."""
        self._bindings.clear()
        self._sessions.clear()
        self._logits.clear()
        self._buffers.clear()

    def _load_stage(self, bundle: Bundle, index: int) -> None:
        stage = bundle.manifest.stages[index]
        detail = 'as exported'
        try:
            model, count = bundle.stage_file(index).read_bytes(), 0
            if not self._plain:
                model, count = to_unsigned(model)
            detail = f'{count} tensors s8 to u8' if count else detail
            session = ort.InferenceSession(model, self._session_options(), providers=PROVIDERS)
        except Exception as error:  # the library raises its own unexported types
            raise EngineError(
                f'ONNX Runtime {ort.__version__} cannot load stage {stage.name!r} of '
                f'{bundle.path}: {error}'
            ) from error
        self._check_signature(session, bundle, index)
        binding = session.io_binding()
        image_key = None
        for tensor in stage.inputs:
            key = f'image {tensor.shape}' if tensor.is_image else tensor.source
            image_key = key if tensor.is_image else image_key
            buffer = self._buffers.setdefault(key, np.zeros(tensor.shape, tensor.dtype))
            binding.bind_input(
                tensor.name, 'cpu', 0, buffer.dtype, buffer.shape, buffer.ctypes.data
            )
        for output in stage.outputs:
            buffer = np.zeros(output.shape, output.dtype)
            self._buffers[f'{stage.name}/{output.name}'] = buffer
            binding.bind_output(
                output.name, 'cpu', 0, buffer.dtype, buffer.shape, buffer.ctypes.data
            )
        logits = self._buffers[f'{stage.name}/{stage.answer}']
        self._logits.append(cast('NDArray[np.float32]', logits[0]))
        self._image_keys.append(image_key)
        self._sessions.append(session)
        self._bindings.append(binding)
        self._infos.append(StageInfo(stage.name, stage.precision, detail))

    def _session_options(self) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = ORT_ERROR_LEVEL
        if self._plain:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        # One arena per session keeps memory for a peak that only the load has.
        options.enable_cpu_mem_arena = False
        # One spinning pool per stage would keep the cores from the stage that runs.
        options.add_session_config_entry('session.intra_op.allow_spinning', '0')
        options.add_session_config_entry('session.inter_op.allow_spinning', '0')
        return options

    @staticmethod
    def _check_signature(session: ort.InferenceSession, bundle: Bundle, index: int) -> None:
        """The buffers are bound by address: the graph must read and write just those sizes."""
        stage = bundle.manifest.stages[index]
        graph = {
            t.name: (t.type, tuple(t.shape))
            for t in [*session.get_inputs(), *session.get_outputs()]
        }
        manifest = {
            t.name: (f'tensor({ORT_TYPE_NAMES.get(t.dtype, t.dtype)})', t.shape)
            for t in [*stage.inputs, *stage.outputs]
        }
        if graph != manifest:
            raise EngineError(
                f'{bundle.stage_file(index)} has the tensors {graph}, the manifest says '
                f'{manifest}; export the bundle again'
            )
