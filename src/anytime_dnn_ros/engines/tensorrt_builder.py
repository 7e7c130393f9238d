"""From the ONNX file of one stage to a serialised TensorRT engine, for 8.6 to 11 and for RTX.

Precision: from TensorRT 10 on networks are strongly typed, so the types in the ONNX file decide,
and a float16 engine comes from a file turned to float16. Before that `BuilderFlag.FP16` and
`INT8` allow it. INT8 comes from the QuantizeLinear/DequantizeLinear nodes of the file, always:
the scales are then the ones that the ladder was measured with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx
from onnx import numpy_helper

from anytime_dnn_ros.engines.build_progress import BuildProgress, progress_monitor
from anytime_dnn_ros.engines.float16 import (
    products_to_float16,
    to_float16,
    with_plain_weights,
)
from anytime_dnn_ros.engines.tensorrt_library import TensorRT, unserved
from anytime_dnn_ros.engines.tensorrt_log import last_errors, memory_mend, start, tensorrt_log
from anytime_dnn_ros.engines.tensorrt_options import PRECISIONS
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from anytime_dnn_ros.whole_file import keep_whole

if TYPE_CHECKING:
    import tensorrt as trt

LOG = logging.getLogger(__name__)
Precision = Literal['fp32', 'fp16', 'int8']
Say = Callable[[str], object]
# What TensorRT for RTX says on building for it: "FP32 GEMM is not supported".
TURING = '7.5'
QUANTIZERS = ('QuantizeLinear', 'DequantizeLinear')


@dataclass(frozen=True)
class BuildOptions:
    """How a stage is built; every field is part of the cache's key.

    Attributes:
        precision: `int8` is for a stage with Q/DQ nodes, the others for one without.
        workspace_bytes: GPU memory that a layer's algorithm may use; None = no limit.
        dla_core: Jetson's accelerator that runs what it can, the GPU the rest; None = GPU alone.
        target: Compute capability of the GPU to build for, e.g. `8.6`; RTX only, where no GPU
            needs to be present. None = the GPU of this machine.
    """

    precision: Precision
    workspace_bytes: int | None = None
    dla_core: int | None = None
    target: str | None = None


def stage_precision(wish: str, manifest_precision: str) -> Precision:
    """The precision that a stage is built with.

    Args:
        wish: One of `PRECISIONS`.
        manifest_precision: `StageSpec.precision`.

    Raises:
        ConfigurationError: No such precision, or the stage cannot have it.
    """
    quantised = manifest_precision == 'int8'
    if wish == 'auto':
        return 'int8' if quantised else 'fp16'
    if wish == 'int8' and not quantised:
        raise ConfigurationError(
            "precision is 'int8', but the ladder is not quantised: take a quantised one, or "
            "take 'auto' or 'fp16'"
        )
    if wish in ('fp32', 'fp16') and quantised:
        raise ConfigurationError(
            f"precision is {wish!r}, but the ladder is quantised: take 'auto' or 'int8', or "
            'a ladder of float stages'
        )
    for precision in ('fp32', 'fp16', 'int8'):
        if wish == precision:
            return precision
    raise ConfigurationError(
        f'precision {wish!r} is unknown: choose one of {", ".join(PRECISIONS)}'
    )


def build_engine(
    library: TensorRT,
    model: bytes,
    options: BuildOptions,
    *,
    name: str,
    timing_cache: Path | None = None,
    progress: BuildProgress | None = None,
    say: Say = LOG.warning,
) -> bytes:
    """Builds the engine of one stage. Takes from a tenth of a second to many minutes.

    Args:
        library: From `find_tensorrt`.
        model: The stage's ONNX file.
        options: How to build it.
        name: The stage's, for messages.
        timing_cache: A file of kernel timings that shortens this build and the next; None = none.
        progress: Is given the share done, 0..1, from TensorRT 10 on. What it raises stops the
            build and comes out of here.
        say: Takes a warning.

    Raises:
        ConfigurationError: The options do not fit the stage or the library.
        EngineError: TensorRT cannot parse or build the stage.
    """
    trt_ = library.module
    where = f'{library.flavour} {library.version} cannot build stage {name!r}'
    _check_options(library, options, where)
    weakly_typed = not library.strongly_typed or (
        options.dla_core is not None and library.has_precision_flags
    )
    proto = _typed_model(model, options, weakly_typed, where)
    log = tensorrt_log(trt_)
    log.errors.clear()
    builder: trt.Builder = start(trt_.Builder, log, where)
    network: trt.INetworkDefinition = builder.create_network(_network_flags(library, weakly_typed))
    parser: trt.OnnxParser = trt_.OnnxParser(network, log)
    if not parser.parse(proto.SerializeToString()):
        raise EngineError(f'{where}: {_parser_errors(parser, proto)}')
    config = _configured(library, builder, options, weakly_typed)
    monitor = None
    if progress is not None and library.reports_progress:
        monitor = progress_monitor(trt_, progress)
        config.progress_monitor = monitor
    # On RTX a timing cache is accepted and does nothing.
    timed = timing_cache if library.flavour == 'tensorrt' else None
    if timed is not None:
        _load_timings(config, timed, say)
    plan: trt.IHostMemory | None = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.raised is not None:
        raise monitor.raised
    if plan is None:
        said = last_errors(log)
        mend = memory_mend(said)
        if options.precision == 'fp32' and options.target == TURING:
            mend += "; TensorRT for RTX has no float32 products on Turing: take 'auto' or 'fp16'"
        raise EngineError(f'{where}: {said}{mend}')
    if timed is not None:
        timings: trt.ITimingCache = config.get_timing_cache()
        _keep_timings(bytes(timings.serialize()), timed, say)
    return bytes(plan)


def _typed_model(
    model: bytes, options: BuildOptions, weakly_typed: bool, where: str
) -> onnx.ModelProto:
    """The stage with the types that its engine shall compute in."""
    try:
        proto = with_plain_weights(onnx.load_model_from_string(model))
    # protobuf's own, which onnx does not export.
    except Exception as error:
        raise EngineError(f'{where}: it is not an ONNX file; copy the bundle again') from error
    _check_quantisation(proto, options, where)
    if options.precision == 'fp16' and not weakly_typed:
        return to_float16(proto)
    # The classifier's product, which the library does not take into int8 there.
    if options.precision == 'int8' and options.target == TURING:
        return products_to_float16(proto)
    return proto


def _check_quantisation(proto: onnx.ModelProto, options: BuildOptions, where: str) -> None:
    """TensorRT takes symmetric int8 only; better said here than by its parser."""
    constants = {t.name: t for t in proto.graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in proto.graph.node
        if node.op_type == 'Constant'
        for attribute in node.attribute
        if attribute.name == 'value'
    }
    quantizers = [node for node in proto.graph.node if node.op_type in QUANTIZERS]
    for node in quantizers:
        zero_point = constants.get(node.input[2]) if len(node.input) > 2 else None
        if zero_point is None:
            continue
        unsigned = zero_point.data_type == onnx.TensorProto.UINT8
        if unsigned or numpy_helper.to_array(zero_point).any():
            has = 'is uint8' if unsigned else 'has a zero point that is not 0'
            raise EngineError(
                f'{where}: node {node.name or node.output[0]!r} ({node.op_type}) {has}, and '
                'TensorRT takes only symmetric int8: quantise activations and weights to int8 '
                'with zero point 0, as anytime-dnn ensemble does'
            )
    if bool(quantizers) != (options.precision == 'int8'):
        has = 'has' if quantizers else 'has no'
        raise ConfigurationError(
            f'{where} with precision {options.precision!r}: it {has} Q/DQ nodes; take '
            f'{"int8" if quantizers else "fp32 or fp16"}'
        )


def _check_options(library: TensorRT, options: BuildOptions, where: str) -> None:
    if options.target is not None and not library.builds_for_others:
        raise ConfigurationError(
            f'{where} for compute capability {options.target}: TensorRT builds for the GPU that '
            'is there; build on that machine (only TensorRT for RTX builds for another)'
        )
    if options.dla_core is None:
        return
    fits = ('fp16',) if library.has_precision_flags else ('fp16', 'int8')
    if options.precision not in fits:
        raise ConfigurationError(
            f'{where} with precision {options.precision!r} for the DLA, which takes '
            f'{" or ".join(fits)} (int8 by Q/DQ nodes from TensorRT 11.4 on); leave dla_core out '
            'or change the precision'
        )


def _network_flags(library: TensorRT, weakly_typed: bool) -> int:
    flags = library.module.NetworkDefinitionCreationFlag
    if weakly_typed:
        # Before 10 a network without this flag has no place for its batch.
        return 1 << int(flags.EXPLICIT_BATCH)
    return 1 << int(flags.STRONGLY_TYPED)


def _configured(
    library: TensorRT, builder: trt.Builder, options: BuildOptions, weakly_typed: bool
) -> trt.IBuilderConfig:
    trt_ = library.module
    config: trt.IBuilderConfig = builder.create_builder_config()
    config.profiling_verbosity = trt_.ProfilingVerbosity.DETAILED
    if weakly_typed and options.precision != 'fp32':
        flag = trt_.BuilderFlag.FP16 if options.precision == 'fp16' else trt_.BuilderFlag.INT8
        config.set_flag(flag)
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt_.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.dla_core is not None:
        _use_dla(trt_, builder, config, options.dla_core)
    if options.target is not None:
        _set_target(library, config, options.target)
    return config


def _parser_errors(parser: trt.OnnxParser, proto: onnx.ModelProto) -> str:
    """All that the parser has to say, each with its node: old parsers know just its number."""
    texts = []
    for index in range(parser.num_errors):
        fault: trt.ParserError = parser.get_error(index)
        number, text = fault.node(), fault.desc().strip()
        if 0 <= number < len(proto.graph.node):
            node = proto.graph.node[number]
            text = f'node {node.name or number!r} ({node.op_type}): {text}'
        texts.append(text)
    mend = 'export the ladder with operators that TensorRT has'
    return f'{"; ".join(dict.fromkeys(texts)) or "its parser gave no reason"}. {mend}'


def _use_dla(trt_: Any, builder: trt.Builder, config: trt.IBuilderConfig, core: int) -> None:
    cores = builder.num_DLA_cores
    if not 0 <= core < cores:
        raise ConfigurationError(
            f'dla_core is {core}, this machine has {cores} DLA cores: '
            + (f'choose 0 to {cores - 1}' if cores else 'leave it out')
        )
    config.default_device_type = trt_.DeviceType.DLA
    config.DLA_core = core
    # Layers that the DLA has not; most ladders have a few.
    config.set_flag(trt_.BuilderFlag.GPU_FALLBACK)


def _set_target(library: TensorRT, config: Any, target: str) -> None:
    """RTX alone knows of this, so the types of TensorRT do not."""
    if why := unserved(library, target):
        raise ConfigurationError(why)
    capabilities = library.module.ComputeCapability.__members__
    config.num_compute_capabilities = 1
    config.set_compute_capability(capabilities[f'SM{target.replace(".", "")}'], 0)


def _load_timings(config: trt.IBuilderConfig, file: Path, say: Say) -> None:
    try:
        kept = file.read_bytes()
    except FileNotFoundError:
        kept = b''
    except OSError as error:
        say(f'the kernel timings in {file} cannot be read ({error.strerror}); building without')
        kept = b''
    timings: trt.ITimingCache | None = config.create_timing_cache(kept)
    # Damaged, or of another GPU or version, they are refused, and the build measures anew.
    if timings is None or not config.set_timing_cache(timings, ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b''), ignore_mismatch=False)


def _keep_timings(timings: bytes, file: Path, say: Say) -> None:
    try:
        keep_whole(file, [timings])
    except OSError as error:
        say(f'the kernel timings cannot be kept in {file} ({error.strerror}); builds stay slow')
