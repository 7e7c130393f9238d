"""MSDNet: a ladder like the others, cheap at first, and with no scale that nobody reads."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from checks import CHECKS, CLASSES, SHAPES  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.staged import stage_macs  # noqa: E402


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('check', CHECKS)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('msdnet', shape, CLASSES))
