"""What is inside a built engine, as TensorRT's own inspector tells it.

The inspector gives JSON whose form changed from version to version; trtexec writes the same with
--exportLayerInfo. Up to TensorRT 10 a tensor has `Format/Datatype` in one, in words or short, and
the engine has `Bindings`; in 11 both are apart, and `I/O Tensors` have the place of the bindings.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anytime_dnn_ros.engines.tensorrt_library import TensorRT
from anytime_dnn_ros.engines.tensorrt_log import last_errors, start, tensorrt_log
from anytime_dnn_ros.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

# The word of a version for a type, our own, and its bytes; the first that is found counts.
TYPES = (
    (r'uint8', 'uint8', 1),
    (r'int8', 'int8', 1),
    (r'fp8', 'fp8', 1),
    (r'bf16|bfloat16', 'bf16', 2),
    (r'half|fp16|float16', 'fp16', 2),
    (r'float|fp32', 'fp32', 4),
    (r'int32', 'int32', 4),
    (r'int64', 'int64', 8),
    (r'bool', 'bool', 1),
)
BYTES = {name: size for _, name, size in TYPES}
ONNX_LAYER = re.compile(r'\[ONNX Layer: ([^\]]+)\]')


@dataclass(frozen=True)
class LayerTensor:
    """A tensor that a layer reads or writes.

    Attributes:
        dtype: Short, e.g. `fp16`; empty if the inspector does not say.
        format: The inspector's words for type and layout.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    format: str

    @property
    def num_bytes(self) -> int:
        """Its size without padding; 0 if its type or shape is unknown."""
        size = BYTES.get(self.dtype, 0)
        for length in self.shape:
            size *= max(length, 0)
        return size


@dataclass(frozen=True)
class Layer:
    """One layer of an engine: often several nodes of the ONNX file in one kernel.

    Attributes:
        kind: TensorRT's `LayerType`.
        tactic: The kernel that was chosen; empty if there is none or it is not told.
        onnx_nodes: Names of the nodes it came from, where TensorRT tells.
        weight_bytes: Of its weights and bias, where TensorRT tells; else 0.
    """

    name: str
    kind: str
    tactic: str
    inputs: tuple[LayerTensor, ...]
    outputs: tuple[LayerTensor, ...]
    onnx_nodes: tuple[str, ...]
    weight_bytes: int

    @property
    def precision(self) -> str:
        """The types it reads and writes: `int8`, or `uint8 > fp16` where they differ."""
        read, written = (
            '+'.join(dict.fromkeys(t.dtype for t in tensors if t.dtype))
            for tensors in (self.inputs, self.outputs)
        )
        return read if read == written else ' > '.join(filter(None, (read, written)))

    @property
    def written_dtype(self) -> str:
        """The type it writes; empty if that is not told."""
        return next((tensor.dtype for tensor in self.outputs if tensor.dtype), '')


@dataclass(frozen=True)
class EngineLayers:
    """An engine.

    Attributes:
        name: Of the stage, or of the file.
        ends: Names of the tensors that go in and come out.
        plan_bytes: Of the serialised engine; None if only the inspector's JSON is there.
        memory_bytes: On the device for activations, beside weights; None likewise.
    """

    name: str
    layers: tuple[Layer, ...]
    ends: tuple[str, ...]
    plan_bytes: int | None = None
    memory_bytes: int | None = None

    @property
    def summary(self) -> str:
        """Its figures in a few words."""
        told = [f'{len(self.layers)} layers']
        if self.plan_bytes is not None:
            told.append(f'{self.plan_bytes / 1e6:.2f} MB serialised')
        if self.memory_bytes is not None:
            told.append(f'{self.memory_bytes / 1e6:.2f} MB of device memory for activations')
        counts = Counter(layer.written_dtype or 'an unknown type' for layer in self.layers)
        return ', '.join(told + [f'{count} write {name}' for name, count in counts.most_common()])


def inspect_plan(library: TensorRT, plan: bytes, name: str) -> EngineLayers:
    """Deserialises an engine and looks into it. Needs the GPU that it was built for.

    Raises:
        EngineError: It cannot be loaded, or tells nothing.
    """
    trt_ = library.module
    log = tensorrt_log(trt_)
    log.errors.clear()
    where = f'{library.flavour} {library.version} cannot load the engine {name!r}'
    runtime: trt.Runtime = start(trt_.Runtime, log, where)
    engine: trt.ICudaEngine | None = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise EngineError(f'{where}: {last_errors(log)}; build it on this machine')
    inspector: trt.EngineInspector = engine.create_engine_inspector()
    text = inspector.get_engine_information(trt_.LayerInformationFormat.JSON)
    memory = engine.device_memory_size_v2 if library.strongly_typed else engine.device_memory_size
    return parse_layers(text, name, plan_bytes=len(plan), memory_bytes=memory)


def parse_layers(
    text: str, name: str, *, plan_bytes: int | None = None, memory_bytes: int | None = None
) -> EngineLayers:
    """Reads the inspector's JSON.

    Args:
        text: From `get_engine_information`, or a file of trtexec --exportLayerInfo.
        name: What the engine is called.
        plan_bytes: See `EngineLayers`.
        memory_bytes: See `EngineLayers`.

    Raises:
        EngineError: It is no such JSON, or tells only names.
    """
    where = f'the layers of {name!r} cannot be read'
    try:
        document = json.loads(text)
        layers = document['Layers']
        if any(isinstance(layer, str) for layer in layers):
            raise EngineError(
                f'{where}: the engine was built without ProfilingVerbosity.DETAILED and tells '
                'only names; build it with this package, or trtexec --profilingVerbosity=detailed'
            )
        ends = document.get('Bindings') or [t['Name'] for t in document.get('I/O Tensors', ())]
        return EngineLayers(
            name=name,
            layers=tuple(map(_layer, layers)),
            ends=tuple(map(str, ends)),
            plan_bytes=plan_bytes,
            memory_bytes=memory_bytes,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise EngineError(
            f'{where}: this is not what the engine inspector of TensorRT 8.6 to 11 writes '
            f'({type(error).__name__}: {error})'
        ) from error


def _layer(said: Mapping[str, Any]) -> Layer:
    return Layer(
        name=str(said['Name']),
        kind=str(said.get('LayerType', '')),
        tactic=str(said.get('TacticName') or ''),
        inputs=tuple(map(_tensor, said.get('Inputs') or ())),
        outputs=tuple(map(_tensor, said.get('Outputs') or ())),
        onnx_nodes=tuple(dict.fromkeys(ONNX_LAYER.findall(str(said.get('Metadata') or '')))),
        weight_bytes=sum(map(_weight_bytes, (said.get('Weights'), said.get('Bias')))),
    )


def _tensor(said: Mapping[str, Any]) -> LayerTensor:
    # `Format/Datatype` up to 10; `Format` beside `Datatype` or `DataType` in 11.
    words = {
        key: str(said[key])
        for key in ('Datatype', 'DataType', 'Format/Datatype', 'Format')
        if key in said
    }
    return LayerTensor(
        name=str(said['Name']),
        shape=tuple(int(length) for length in said.get('Dimensions') or ()),
        dtype=_short_type(words.values()),
        format=', '.join(words.values()),
    )


def _short_type(words: Iterable[str]) -> str:
    """Our name of the type in the first words that tell one."""
    for word in words:
        for pattern, name, _ in TYPES:
            if re.search(pattern, word.lower()):
                return name
    return ''


def _weight_bytes(said: Any) -> int:
    if not isinstance(said, Mapping):
        return 0
    return int(said.get('Count', 0)) * BYTES.get(_short_type([str(said.get('Type', ''))]), 0)
