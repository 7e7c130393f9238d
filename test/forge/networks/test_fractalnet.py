"""FractalNet."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from checks import CHECKS, CLASSES, SHAPES  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('check', CHECKS)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('fractalnet', shape, CLASSES))
