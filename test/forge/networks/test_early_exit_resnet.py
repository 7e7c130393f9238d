"""The early-exit residual net: a ladder, with exits that rise evenly in cost."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from checks import CASES, CLASSES  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.staged import stage_macs  # noqa: E402


@pytest.mark.parametrize(('check', 'shape'), CASES)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('early_exit_resnet', shape, CLASSES))


@pytest.mark.parametrize('stages', [3, 5, 8])
def test_has_the_stages_asked_for(stages):
    net = build(NetworkSpec('early_exit_resnet', (3, 32, 32), CLASSES, stages=stages))
    macs = stage_macs(net, (3, 32, 32))
    assert len(macs) == stages
    assert max(macs) < 1.3 * min(macs)


def test_too_few_stages_are_told_with_the_mend():
    with pytest.raises(ConfigurationError, match='--stages'):
        build(NetworkSpec('early_exit_resnet', (3, 32, 32), CLASSES, stages=2))
