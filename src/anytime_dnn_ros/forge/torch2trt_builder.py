"""torch2trt as a second builder: engines from the torch network itself, for TensorRT before 11.

The usual way is the ONNX files of the bundle, which every TensorRT builds from. torch2trt adds
INT8 of a float network by TensorRT's own calibration, here always on our validation images: left
alone it calibrates on the one example it traces with. Its engines go where the ONNX builder's go,
are served by the same engine, and pass the same check of agreement.

It knows no uint8, so an engine reads the image as float32, [1, H, W, C], 0..255.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from anytime_dnn_ros.engines.agreement import AgreementCount, StageAgreement
from anytime_dnn_ros.engines.engine_cache import store_engine
from anytime_dnn_ros.engines.stage_engines import torch2trt_key
from anytime_dnn_ros.engines.tensorrt_builder import Precision
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT, find_device, find_tensorrt
from anytime_dnn_ros.errors import ConfigurationError, EngineError, MissingDependencyError
from anytime_dnn_ros.forge.ladder_export import wiring
from anytime_dnn_ros.forge.normalisation import Normalisation
from anytime_dnn_ros.forge.staged import Stage, StagedNet
from anytime_dnn_ros.ladder.bundle import Bundle
from anytime_dnn_ros.ladder.manifest import StageSpec

# Every tensor of every stage is kept for each of them, some megabytes with a large network.
CALIBRATION_IMAGES = 128
# Until TensorRT 10 torch2trt limits it to 32 MiB, too little for many fast kernels.
WORKSPACE_BYTES = 2**30
ONNX_WAY = (
    'leave out --builder torch2trt: TensorRT builds from the ONNX files of the bundle when a node '
    'first loads it, or with `anytime-dnn profile BUNDLE --engine tensorrt --build`'
)


@dataclass(frozen=True)
class Torch2trt:
    """A torch2trt that can work here.

    Attributes:
        module: The Python module.
        library: The TensorRT that it builds with.
        device: The GPU that it builds for.
    """

    module: Any
    library: TensorRT
    device: Device


@dataclass(frozen=True)
class BuiltStage:
    """A stage in the cache.

    Attributes:
        num_bytes: Of the serialised engine.
        agreement: With torch, on the calibration images.
    """

    name: str
    num_bytes: int
    agreement: StageAgreement


def find_torch2trt() -> Torch2trt:
    """What is needed to build, looked for before the long work.

    Raises:
        MissingDependencyError: TensorRT or torch2trt is not in this Python.
        ConfigurationError: This TensorRT is not for torch2trt, or there is no GPU.
    """
    library = find_tensorrt()
    if not library.has_precision_flags:
        name = 'TensorRT for RTX' if library.flavour == 'tensorrt_rtx' else 'TensorRT'
        raise ConfigurationError(
            f'--builder torch2trt works with TensorRT before 11 only, and this is {name} '
            f'{library.version}, which no longer has what torch2trt sets (BuilderFlag.FP16 and '
            f'INT8, calibration); {ONNX_WAY}'
        )
    device = find_device()
    if device is None or not torch.cuda.is_available():
        raise ConfigurationError(
            '--builder torch2trt runs the network on the GPU that it builds for, and torch finds '
            'none here; export on the robot itself, with the torch that JetPack has, or '
            f'{ONNX_WAY}'
        )
    try:
        module = importlib.import_module('torch2trt')
    except ImportError as error:
        raise MissingDependencyError(
            f'--builder torch2trt: torch2trt cannot be imported ({error}); it is in no package '
            'index: pip install --no-build-isolation '
            'git+https://github.com/NVIDIA-AI-IOT/torch2trt'
        ) from error
    return Torch2trt(module, library, device)


def build_stages(
    found: Torch2trt,
    net: StagedNet,
    normalisation: Normalisation,
    bundle: Bundle,
    *,
    pixels: NDArray[np.uint8],
    precision: Precision,
    folder: Path,
    say: Callable[[str], object],
    progress: Callable[[int, int], object] = lambda done, of: None,
) -> list[BuiltStage]:
    """Builds every stage, compares it with torch, and keeps it where engines are looked for.

    Args:
        found: From `find_torch2trt`.
        net: What the bundle was exported from; left as it is.
        normalisation: Of the same export.
        bundle: As exported: names, order and shapes of the tensors are its own.
        pixels: Real images to calibrate on and to compare with, uint8 [N, H, W, C], as served.
        precision: `int8` calibrates, layers without INT8 stay float32.
        folder: The cache folder of the engines.
        say: Takes a warning.
        progress: Called with how many stages are built and how many there are.

    Raises:
        EngineError: A stage cannot be built, does not answer as torch does, or cannot be kept.
    """
    net = copy.deepcopy(net).eval().float().cpu()
    frames = [wiring(net, normalisation, image[None])[0] for image in pixels]
    stages = bundle.manifest.stages
    built: list[BuiltStage] = []
    for k, spec in enumerate(stages):
        progress(k, len(stages))
        sources = [wire.source for wire in frames[0][k]]
        module = _FloatImageStage(net.stages[k], normalisation, spec, sources)
        inputs = [
            [wires[sources.index(t.source)].example.float().cuda() for t in spec.inputs]
            for wires in (frame[k] for frame in frames)
        ]
        plan, agreement = _build(found, module.eval().cuda(), spec, inputs, precision)
        key = torch2trt_key(spec, found.library, found.device, precision)
        if not store_engine(plan, key, folder, say=say):
            raise EngineError(
                f'the engine of stage {spec.name!r} is built, but not kept in {folder}; make the '
                'folder writable or make room, or name another with --cache-dir'
            )
        built.append(BuiltStage(spec.name, len(plan), agreement))
        module.cpu()
    progress(len(stages), len(stages))
    return built


class _FloatImageStage(nn.Module):  # type: ignore[misc] # torch is not typed here
    """A stage with the inputs and outputs of its file, but for the image in float32."""

    def __init__(
        self,
        stage: Stage,
        normalisation: Normalisation,
        spec: StageSpec,
        sources: Sequence[str],
    ) -> None:
        super().__init__()
        self.stage = stage
        names = [tensor.source for tensor in spec.inputs]
        # The file has dropped inputs that nothing reads; any tensor will do for those.
        self.reads = [names.index(source) if source in names else 0 for source in sources]
        self.image = next((i for i, t in enumerate(spec.inputs) if t.is_image), None)
        self.writes = [stage.writes.index(o.name) for o in spec.outputs if o.name != spec.answer]
        shape = (1, -1, 1, 1)
        self.register_buffer('mean', torch.tensor(normalisation.mean).view(shape))
        self.register_buffer('std', torch.tensor(normalisation.std).view(shape))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Logits and the wanted features."""
        # Not `Normalisation.apply`: torch2trt knows none of the calls it makes.
        given = [
            (tensor.permute(0, 3, 1, 2) - self.mean) / self.std if i == self.image else tensor
            for i, tensor in enumerate(tensors)
        ]
        features = self.stage.features(*(given[i] for i in self.reads))
        return (self.stage.head(*features), *(features[i] for i in self.writes))


def _build(
    found: Torch2trt,
    module: nn.Module,
    spec: StageSpec,
    inputs: list[list[Tensor]],
    precision: Precision,
) -> tuple[bytes, StageAgreement]:
    trt = found.library.module
    where = f'torch2trt, with TensorRT {found.library.version}, cannot build stage {spec.name!r}'
    calibration = {}
    if precision == 'int8':
        # By name: torch2trt's own choice compares versions as texts, and errs from 10 on.
        algorithm = trt.CalibrationAlgoType.ENTROPY_CALIBRATION_2
        calibration = {
            'int8_mode': True,
            'int8_calib_dataset': inputs,
            'int8_calib_algorithm': algorithm,
        }
    outputs = [spec.answer, *(o.name for o in spec.outputs if o.name != spec.answer)]
    with torch.no_grad():
        try:
            built = found.module.torch2trt(
                module,
                inputs[0],
                input_names=[tensor.name for tensor in spec.inputs],
                output_names=outputs,
                fp16_mode=precision == 'fp16',
                max_workspace_size=WORKSPACE_BYTES,
                keep_network=False,
                **calibration,
            )
        # It has no errors of its own: a call that it does not know is an AttributeError later on.
        except Exception as error:
            raise EngineError(
                f'{where} ({type(error).__name__}: {error}): it does not know some call of the '
                f'network; {ONNX_WAY}'
            ) from error
        if built.engine is None:
            raise EngineError(f'{where}: TensorRT gave no engine, see its lines above; {ONNX_WAY}')
        agreement = _agreement(built, module, spec, inputs, precision)
    if not agreement.is_good:
        raise EngineError(
            f'torch2trt, with TensorRT {found.library.version}, built a stage that does not '
            f'answer as torch does on {len(inputs)} validation images, and it is not kept: '
            f'{agreement}. '
            f'Give a higher --precision, or {ONNX_WAY}'
        )
    return bytes(built.engine.serialize()), agreement


def _agreement(
    built: nn.Module,
    module: nn.Module,
    spec: StageSpec,
    inputs: Sequence[Sequence[Tensor]],
    precision: Precision,
) -> StageAgreement:
    """Of the stage alone, on torch's features; the whole chain is compared when it is loaded."""
    count = AgreementCount()
    for tensors in inputs:
        truth, answer = (net(*tensors)[0][0].cpu().numpy() for net in (module, built))
        count.add(answer, truth)
    return count.of(spec.name, precision)
