"""What the forge makes is parsed and built by NVIDIA's own builder, which needs no GPU."""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from tensorrt_builds import TARGETS

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
pytest.importorskip('onnxscript', reason='onnxscript is not installed (the forge extra)')

# As when a script there runs.
sys.path.insert(0, str(Path(__file__).parents[2] / 'benchmarks'))
from gpu_ladders import quantised_ladder  # noqa: E402

from anytime_dnn_ros.forge.ladder_export import export_ladder  # noqa: E402
from anytime_dnn_ros.forge.networks import NETWORKS, NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402
from anytime_dnn_ros.ladder.manifest import CombineSpec, ImageSpec  # noqa: E402

SHAPE, LABELS = (3, 32, 32), ('ant', 'bee', 'cat', 'dog')
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
PROVENANCE = {'command': 'test', 'data': 'noise', 'licence': 'Apache-2.0'}


@pytest.fixture
def exported(tmp_path):
    def export(network):
        torch.manual_seed(0)
        return export_ladder(
            build(NetworkSpec(network, SHAPE, len(LABELS))),
            tmp_path / network,
            normalisation=Normalisation(mean=(120.0,) * 3, std=(60.0,) * 3),
            combine=CombineSpec('last'),
            image=ImageSpec('rgb', 'stretch', 'area'),
            class_names=LABELS,
            parity_pixels=PIXELS,
            provenance=PROVENANCE,
        )

    return export


@pytest.mark.parametrize('network', NETWORKS)
def test_every_stage_of_a_network_builds_in_float_and_int8(
    tensorrt_builds, exported, tmp_path, network
):
    bundle = exported(network)
    for ladder in (bundle, quantised_ladder(bundle, PIXELS, tmp_path)):
        for index, target in product(range(len(ladder.manifest.stages)), TARGETS):
            assert tensorrt_builds.build(ladder, index, target)
