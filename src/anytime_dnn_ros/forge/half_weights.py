"""Half the file: large float32 constants are stored as float16 and cast back when loaded.

An engine folds the cast at load, so nothing changes in time or memory at run time; each weight
moves by at most one part in 2048, unless it is too small for float16 to hold.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from anytime_dnn_ros.errors import BundleError

# A cast costs about as many bytes in the file as this many constants save.
LEAST_CONSTANTS = 256


def halved(model_bytes: bytes) -> bytes:
    """The same model with its large constants stored as float16.

    Args:
        model_bytes: A serialised ONNX model.

    Raises:
        BundleError: A constant is beyond what float16 holds.
    """
    model = onnx.load_from_string(model_bytes)
    graph = model.graph
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < LEAST_CONSTANTS:
            continue
        if np.abs(values).max() > np.finfo(np.float16).max:
            raise BundleError(
                f'{tensor.name!r} holds numbers that float16 cannot; leave out --half-weights'
            )
        stored = f'{tensor.name}_half'
        casts.append(helper.make_node('Cast', [stored], [tensor.name], to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
    for position, node in enumerate(casts):
        graph.node.insert(position, node)
    serialised: bytes = model.SerializeToString(deterministic=True)
    return serialised
