"""What can run a ladder here: TensorRT, ONNX Runtime and torch, in stages or as one graph."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from anytime_dnn_ros.engines.float16 import to_float16
from anytime_dnn_ros.ladder.bundle import Bundle

if TYPE_CHECKING:
    from anytime_dnn_ros.engines.tensorrt import TensorRtEngine

STAGES, ONE_GRAPH = 'stages', 'one graph'
PROVIDERS = {'cuda': 'CUDAExecutionProvider', 'cpu': 'CPUExecutionProvider'}
ORT_ERROR_LEVEL = 3
# Passes in a row before the next contender's turn; the first of them is not counted, since it
# finds the caches full of another's data.
BLOCK = 10


class LeftOutError(Exception):
    """A part cannot be done here, and why."""


class Runner(Protocol):
    """A loaded ladder."""

    num_stages: int

    def run_stage(self, stage: int) -> NDArray[np.float32]:
        """Runs one stage; its logits are on the host when this returns."""

    def close(self) -> None:
        """Frees it."""


@dataclass(frozen=True)
class Contender:
    """One way to run a ladder.

    Attributes:
        library: Of which, and on what.
        form: `STAGES` or `ONE_GRAPH`.
        load: Raises `LeftOutError` where it cannot be here.
    """

    library: str
    form: str
    precision: str
    load: Callable[[], Runner]


class EngineRunner:
    """TensorRT, as this package runs it."""

    def __init__(self, engine: TensorRtEngine) -> None:
        self.engine = engine
        self.num_stages = engine.num_stages

    def run_stage(self, stage: int) -> NDArray[np.float32]:
        """See `Runner`."""
        return self.engine.run_stage(stage, self.engine.new_token())

    def device_ms(self, rounds: int) -> list[float]:
        """Median time of each stage on the GPU alone, milliseconds; asking takes time too."""
        times = []
        for _ in range(rounds):
            for stage in range(self.num_stages):
                self.run_stage(stage)
                times.append(self.engine.device_ms(stage))
        medians: list[float] = np.median(np.reshape(times, (rounds, -1)), 0).tolist()
        return medians

    def close(self) -> None:
        """See `Runner`."""
        self.engine.close()


class OrtRunner:
    """ONNX Runtime with bound buffers: features stay on the device.

    Args:
        bundle: A ladder.
        device: `cuda` or `cpu`.
        half: Turn the files to float16.

    Raises:
        LeftOutError: This ONNX Runtime cannot use the device.
    """

    def __init__(self, bundle: Bundle, device: str, *, half: bool = False) -> None:
        provider = PROVIDERS[device]
        if provider not in onnxruntime.get_available_providers():
            raise LeftOutError(
                f'ONNX Runtime {onnxruntime.__version__} here has no {provider}: install '
                'onnxruntime-gpu in place of onnxruntime'
            )
        values: dict[str, Any] = {}
        self._sessions, self._bindings = [], []
        self._logits: list[Any] = []
        self._images: list[list[tuple[str, Any]]] = []
        for index, stage in enumerate(bundle.manifest.stages):
            model = bundle.stage_file(index).read_bytes()
            if half:
                model = to_float16(onnx.load_model_from_string(model)).SerializeToString()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = ORT_ERROR_LEVEL
            options.intra_op_num_threads = 1
            session = onnxruntime.InferenceSession(model, options, providers=[provider])
            # It goes on on the CPU where a library of CUDA is missing, with a warning at most.
            if session.get_providers()[0] != provider:
                raise LeftOutError(
                    f'ONNX Runtime {onnxruntime.__version__} has {provider}, but could not start '
                    'it: its CUDA and cuDNN are not those that are installed'
                )
            binding = session.io_binding()
            images = []
            for tensor in stage.inputs:
                if tensor.is_image:
                    image = np.zeros(tensor.shape, tensor.dtype)
                    value = onnxruntime.OrtValue.ortvalue_from_numpy(image)
                    images.append((tensor.name, value))
                else:
                    value = values[tensor.source]
                binding.bind_ortvalue_input(tensor.name, value)
            for output in stage.outputs:
                place = 'cpu' if output.name == stage.answer else device
                value = onnxruntime.OrtValue.ortvalue_from_shape_and_type(
                    output.shape, np.dtype(output.dtype), place, 0
                )
                binding.bind_ortvalue_output(output.name, value)
                values[f'{stage.name}/{output.name}'] = value
            self._logits.append(values[f'{stage.name}/{stage.answer}'])
            self._images.append(images)
            self._sessions.append(session)
            self._bindings.append(binding)
        # Bound by address: they must live.
        self._values = values
        self.num_stages = len(self._sessions)

    def run_stage(self, stage: int) -> NDArray[np.float32]:
        """See `Runner`."""
        # It copies an image to the device when that is bound, and a frame's is part of its time.
        for name, image in self._images[stage]:
            self._bindings[stage].bind_ortvalue_input(name, image)
        self._bindings[stage].synchronize_inputs()
        self._sessions[stage].run_with_iobinding(self._bindings[stage])
        self._bindings[stage].synchronize_outputs()
        logits: NDArray[np.float32] = self._logits[stage].numpy()
        return logits

    def close(self) -> None:
        """See `Runner`."""
        self._bindings.clear()
        self._sessions.clear()
        self._values.clear()


class TorchRunner:
    """The torch network itself, eager.

    Args:
        net: A `StagedNet` in evaluation mode; moved to the device.
        normalisation: What it sees the image through.
        shape: Of the image, [1, H, W, C].
        device: `cuda` or `cpu`.
        half: In float16.
    """

    def __init__(
        self, net: Any, normalisation: Any, shape: Sequence[int], device: str, *, half: bool
    ) -> None:
        import torch  # noqa: PLC0415 - the other contenders do without

        if device == 'cuda' and not torch.cuda.is_available():
            raise LeftOutError(f'torch {torch.__version__} here is without CUDA, or finds no GPU')
        self._torch = torch
        self._dtype = torch.float16 if half else torch.float32
        self._net = net.to(device, self._dtype)
        self._normalisation, self._device = normalisation, device
        self._image = torch.zeros(tuple(shape), dtype=torch.uint8)
        if device == 'cuda':
            self._image = self._image.pin_memory()
        self._tensors: dict[str, Any] = {}
        self.num_stages = len(net)

    def run_stage(self, stage: int) -> NDArray[np.float32]:
        """See `Runner`."""
        with self._torch.inference_mode():
            if stage == 0:
                image = self._normalisation.apply(self._image.to(self._device, non_blocking=True))
                self._tensors = {'image': image.to(self._dtype)}
            part = self._net.stages[stage]
            features = part.features(*(self._tensors[name] for name in part.reads))
            self._tensors.update(zip(part.writes, features, strict=True))
            logits: NDArray[np.float32] = part.head(*features).float().cpu().numpy()[0]
        return logits

    def close(self) -> None:
        """See `Runner`."""
        self._tensors.clear()


def timed_rounds(runners: Sequence[Runner], rounds: int) -> list[NDArray[np.float64]]:
    """Times all runners in turns, so that whatever the machine does meanwhile meets all of them.

    Args:
        runners: Loaded.
        rounds: How many passes of each count.

    Returns:
        Milliseconds, [rounds, stages] for each.
    """
    times: list[list[list[float]]] = [[] for _ in runners]
    while len(times[0]) < rounds:
        for runner, passes in zip(runners, times, strict=True):
            for turn in range(BLOCK + 1):
                stages = []
                for stage in range(runner.num_stages):
                    begin = time.perf_counter()
                    runner.run_stage(stage)
                    stages.append(1e3 * (time.perf_counter() - begin))
                if turn:
                    passes.append(stages)
    return [np.array(passes[:rounds]) for passes in times]
