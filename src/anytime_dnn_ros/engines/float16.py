"""A float32 ONNX stage turned to float16 inside, its inputs and outputs as they were."""

from __future__ import annotations

import onnx


def to_float16(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Turns weights and activations to float16.

    Inputs and outputs keep their types, so the manifest still describes the stage and logits of
    stages can be compared.

    Args:
        proto: Left as it is.
    """
    # The package it lies in puts a folder of short names on the path: only when it is needed.
    from onnxruntime.transformers.float16 import convert_float_to_float16  # noqa: PLC0415

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return convert_float_to_float16(copy, keep_io_types=True)
