"""What the forge's tests share."""

import sys

import numpy as np
import pytest
from small_graphs import SIZE


@pytest.fixture(scope='session', autouse=True)
def _one_thread():
    """One thread for torch: such small tensors gain nothing from two, which only wait."""
    # Imported when the tests were collected, unless it is not installed.
    if 'torch' in sys.modules:
        sys.modules['torch'].set_num_threads(1)


@pytest.fixture
def calibration_images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8) for _ in range(16)]
