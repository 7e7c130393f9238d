"""Every stage that ships is parsed and built by NVIDIA's own builder, for two kinds of GPU."""

import pytest

from anytime_dnn_ros.ladder.bundle import read_bundle, shipped_bundles
from tensorrt_builds import TARGETS

BUNDLES = {name: read_bundle(path) for name, path in shipped_bundles().items()}
STAGES = [(name, i) for name, b in BUNDLES.items() for i in range(len(b.manifest.stages))]
FLOAT_STAGES = [(n, i) for n, i in STAGES if BUNDLES[n].manifest.stages[i].precision == 'float32']


@pytest.mark.parametrize('target', TARGETS)
@pytest.mark.parametrize(('name', 'index'), STAGES)
def test_a_shipped_stage_builds(tensorrt_builds, name, index, target):
    assert tensorrt_builds.build(BUNDLES[name], index, target)


@pytest.mark.parametrize(('name', 'index'), FLOAT_STAGES)
def test_a_shipped_float_stage_builds_in_float32(tensorrt_builds, name, index):
    assert tensorrt_builds.build(BUNDLES[name], index, '8.6', 'fp32')
