"""What made a figure."""

from __future__ import annotations

import os
import platform

import cv2
import matplotlib as mpl
import numpy as np
import onnxruntime

import anytime_dnn_ros


def versions() -> dict[str, str]:
    """This package, whatever it stands on here, and the machine, by name."""
    return {
        'anytime_dnn_ros': anytime_dnn_ros.__version__,
        'python': platform.python_version(),
        'onnxruntime': onnxruntime.__version__,
        'numpy': np.__version__,
        'opencv': cv2.__version__,
        'matplotlib': mpl.__version__,
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    }
