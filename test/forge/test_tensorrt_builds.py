"""What the forge makes is parsed and built by NVIDIA's own builder, which needs no GPU."""

from dataclasses import replace
from itertools import product

import numpy as np
import onnx
import pytest

from tensorrt_builds import TARGETS

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
pytest.importorskip('onnxscript', reason='onnxscript is not installed (the forge extra)')

from anytime_dnn_ros.forge.ladder_export import export_ladder  # noqa: E402
from anytime_dnn_ros.forge.networks import NETWORKS, NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402
from anytime_dnn_ros.forge.quantize import quantize  # noqa: E402
from anytime_dnn_ros.ladder.bundle import write_bundle  # noqa: E402
from anytime_dnn_ros.ladder.manifest import CombineSpec, ImageSpec  # noqa: E402

SHAPE, LABELS = (3, 32, 32), ('ant', 'bee', 'cat', 'dog')
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
PROVENANCE = {'command': 'test', 'data': 'noise', 'licence': 'Apache-2.0'}


@pytest.fixture
def exported(tmp_path):
    def export(network, **spec):
        torch.manual_seed(0)
        return export_ladder(
            build(NetworkSpec(network, SHAPE, len(LABELS), **spec)),
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
def test_every_stage_of_a_network_builds(tensorrt_builds, exported, network):
    bundle = exported(network)
    for index, target in product(range(len(bundle.manifest.stages)), TARGETS):
        assert tensorrt_builds.build(bundle, index, target)


@pytest.mark.parametrize('target', TARGETS)
def test_a_quantised_stage_builds(tensorrt_builds, exported, tmp_path, target):
    parent = exported('early_exit_resnet', width=0.25)
    stage = parent.manifest.stages[0]
    model = quantize(onnx.load(parent.stage_file(0)), [image[None] for image in PIXELS])
    manifest = replace(
        parent.manifest, name='quantised', stages=(replace(stage, precision='int8'),)
    )
    files = {stage.name: model.SerializeToString()}
    bundle = write_bundle(tmp_path / 'quantised', manifest, files, LABELS, None)
    assert tensorrt_builds.build(bundle, 0, target)
