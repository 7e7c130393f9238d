"""Every stage that ships is parsed and built by NVIDIA's own builder, for two kinds of GPU."""

import pytest

from anytime_dnn_ros.engines.stage_engines import stage_engine, target_device
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


def test_what_nvidia_built_is_kept_and_not_built_again(tensorrt_builds, tmp_path):
    shares = []

    def get():
        return stage_engine(
            BUNDLES['fashion'],
            0,
            tensorrt_builds.library,
            target_device('8.6'),
            folder=tmp_path,
            say=pytest.fail,
            progress=shares.append,
        )

    first, rounds = get(), len(shares)
    second = get()
    assert (first.is_kept, second.is_kept) == (True, True)
    assert first.plan == second.plan
    assert len(shares) == rounds > 0
