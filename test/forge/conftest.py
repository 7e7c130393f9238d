"""What the forge's tests share."""

import numpy as np
import pytest
from small_graphs import SIZE


@pytest.fixture
def calibration_images() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (1, SIZE, SIZE, 3), np.uint8) for _ in range(16)]
