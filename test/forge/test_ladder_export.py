"""A staged net becomes a bundle whose answers are torch's, or nothing at all."""

import copy

import numpy as np
import onnx
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
pytest.importorskip('onnxscript', reason='onnxscript is not installed (the forge extra)')
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from anytime_dnn_ros.errors import BundleError  # noqa: E402
from anytime_dnn_ros.forge import ladder_export  # noqa: E402
from anytime_dnn_ros.forge.ladder_export import ParityError, export_ladder  # noqa: E402
from anytime_dnn_ros.forge.networks import NETWORKS, NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet, stage_macs  # noqa: E402
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402
from anytime_dnn_ros.ladder.manifest import CombineSpec, ImageSpec  # noqa: E402

SIZE, CLASSES, WIDE = 8, 4, 6
LABELS = ('ant', 'bee', 'cat', 'dog')
PROVENANCE = {'command': 'test', 'data': 'noise', 'licence': 'Apache-2.0'}


class PooledHead(nn.Module):
    """Mean over the picture of the last tensor, then a linear layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, CLASSES)

    def forward(self, *features):
        return self.linear(features[-1].mean((2, 3)))


def conv(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Both(nn.Module):
    """Two tensors: the first is dead weight to later stages, the second is what they read."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = conv(3, 5), conv(3, WIDE)

    def forward(self, image):
        return self.left(image), self.right(image)


class Sum(nn.Module):
    """Reads three tensors, one of them for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.pixels = conv(WIDE, WIDE), conv(3, WIDE)

    def forward(self, features, unread, image):
        return self.features(features) + self.pixels(image)


def settled(net: StagedNet) -> StagedNet:
    """With BatchNorm statistics as training leaves them, not as a new layer has them."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return net


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def two_exits() -> StagedNet:
    first = Stage(Both(), PooledHead(WIDE), [IMAGE], ['dead', 'trunk'])
    second = Stage(Sum(), PooledHead(WIDE), ['trunk', 'dead', IMAGE], ['end'])
    return settled(StagedNet([first, second]))


def pixels(count: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, channels), np.uint8)


def export(net, path, *, channels=3, **changes):
    options = {
        'normalisation': Normalisation((120.0,) * channels, (60.0,) * channels),
        'combine': CombineSpec('last'),
        'image': ImageSpec('rgb' if channels == 3 else 'gray', 'center_crop', 'area'),
        'class_names': LABELS,
        'parity_pixels': pixels(channels=channels),
        'provenance': PROVENANCE,
    }
    return export_ladder(net, path, **{**options, **changes})


def graph(bundle, stage):
    return onnx.load(str(bundle.stage_file(stage))).graph


def test_only_what_a_later_stage_reads_is_carried(two_exits, tmp_path):
    bundle = export(two_exits, tmp_path / 'net')
    first, second = bundle.manifest.stages
    assert bundle.manifest.name == 'net'
    assert [o.name for o in first.outputs] == ['logits', 'trunk']
    assert first.outputs[1].shape == (1, WIDE, SIZE, SIZE)
    assert sorted(i.source for i in second.inputs) == ['image', 'stage1/trunk']
    assert [o.name for o in second.outputs] == ['logits']
    assert first.inputs[0].dtype == 'uint8'
    assert first.inputs[0].shape == (1, SIZE, SIZE, 3)


def test_batchnorm_is_folded_and_pixels_are_cast_first(two_exits, tmp_path):
    bundle = export(two_exits, tmp_path / 'net')
    for k in range(2):
        operators = [node.op_type for node in graph(bundle, k).node]
        assert 'BatchNormalization' not in operators
        readers = [n.op_type for n in graph(bundle, k).node if 'image' in n.input]
        assert readers == ['Cast']
        model = onnx.load(str(bundle.stage_file(k)))
        assert [(o.domain, o.version) for o in model.opset_import if not o.domain] == [('', 17)]


def test_cost_is_counted_per_stage(two_exits, tmp_path):
    first, second = export(two_exits, tmp_path / 'net').manifest.stages
    # The dead branch is in no file: nobody reads it.
    assert first.macs == SIZE * SIZE * 9 * 3 * WIDE + WIDE * CLASSES
    assert second.macs == SIZE * SIZE * 9 * (WIDE + 3) * WIDE + WIDE * CLASSES
    assert first.parameters == 9 * 3 * WIDE + WIDE + WIDE * CLASSES + CLASSES


def test_parity_is_measured_and_told(two_exits, tmp_path):
    parity = export(two_exits, tmp_path / 'net').manifest.provenance['parity']
    assert parity['images'] == 12
    assert 0 <= parity['largest_logit_difference_share'] <= parity['allowed_share']


def test_the_net_stays_as_it_was(two_exits, tmp_path):
    two_exits.train()
    two_exits.stages[0].body.right.eval()  # a frozen part
    modes = [m.training for m in two_exits.modules()]
    before = copy.deepcopy(two_exits.state_dict())
    export(two_exits, tmp_path / 'net')
    assert [m.training for m in two_exits.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in two_exits.state_dict().items())


def test_a_gray_net_is_exported(tmp_path):
    net = StagedNet([Stage(conv(1, WIDE), PooledHead(WIDE), [IMAGE], ['trunk'])])
    bundle = export(settled(net), tmp_path / 'gray', channels=1)
    assert bundle.manifest.stages[0].inputs[0].shape == (1, SIZE, SIZE, 1)


class Keep(nn.Module):
    """Hands its input on, with something new beside it, and that under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv(WIDE, WIDE)

    def forward(self, features):
        new = self.conv(features)
        return features, new, new


def test_a_feature_handed_on_is_wired_to_where_it_was_made(tmp_path):
    first = Stage(conv(3, WIDE), PooledHead(WIDE), [IMAGE], ['trunk'])
    second = Stage(Keep(), PooledHead(WIDE), ['trunk'], ['kept', 'trunk', 'again'])
    third = Stage(Concat(), PooledHead(3 * WIDE), ['kept', 'trunk', 'again'], ['end'])
    stages = export(settled(StagedNet([first, second, third])), tmp_path / 'net').manifest.stages
    assert [o.name for o in stages[1].outputs] == ['logits', 'trunk']
    assert sorted(i.source for i in stages[2].inputs) == ['stage1/trunk', 'stage2/trunk']


class Concat(nn.Module):
    def forward(self, *features):
        return torch.cat(features, 1)


def test_logits_that_are_also_a_feature(tmp_path):
    class Itself(nn.Module):
        def forward(self, logits):
            return logits

    class Add(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(CLASSES, CLASSES)

        def forward(self, logits):
            return logits + self.linear(logits)

    body = nn.Sequential(conv(3, WIDE), PooledHead(WIDE))
    net = StagedNet(
        [
            Stage(body, Itself(), [IMAGE], ['scores']),
            Stage(Add(), Itself(), ['scores'], ['scores']),
        ]
    )
    bundle = export(settled(net), tmp_path / 'net')
    assert [o.name for o in bundle.manifest.stages[0].outputs] == ['logits', 'scores']


class Slice(nn.Module):
    """The first `used` filters of a convolution that other stages share, own BatchNorm."""

    def __init__(self, shared: nn.Conv2d, used: int) -> None:
        super().__init__()
        self.shared, self.used, self.norm = shared, used, nn.BatchNorm2d(used)

    def forward(self, image):
        return self.norm(functional.conv2d(image, self.shared.weight[: self.used], padding=1))


def test_a_slice_of_shared_weights_is_stored_as_that_slice(tmp_path):
    shared = nn.Conv2d(3, 64, 3, bias=False)
    stages = [
        Stage(Slice(shared, used), PooledHead(used), [IMAGE], [f'slice{used}']) for used in (4, 64)
    ]
    bundle = export(settled(StagedNet(stages, kind='contract')), tmp_path / 'net')
    assert bundle.manifest.kind == 'contract'
    assert bundle.manifest.stages[0].parameters == 9 * 3 * 4 + 4 + 4 * CLASSES + CLASSES
    assert max(np.prod(t.dims) for t in graph(bundle, 0).initializer) == 9 * 3 * 4


class FrozenByTrace(nn.Module):
    """What a trace cannot hold: the example's own mean becomes a constant of the file."""

    def forward(self, features):
        return features * (0.1 + float(features.mean()))


def test_a_broken_export_is_refused_and_leaves_nothing(two_exits, tmp_path):
    body = nn.Sequential(conv(3, WIDE), FrozenByTrace())
    broken = settled(StagedNet([Stage(body, PooledHead(WIDE), [IMAGE], ['trunk'])]))
    images = np.stack([np.full((SIZE, SIZE, 3), level, np.uint8) for level in (0, 90, 255)])
    path = tmp_path / 'net'
    refusal = r"stage 1 of 'net'.*best class for \d of 3 images.*off by up to"
    with pytest.raises(ParityError, match=refusal):
        export(broken, path, parity_pixels=images)
    assert list(tmp_path.iterdir()) == []

    export(two_exits, path)
    with pytest.raises(ParityError):
        export(broken, path, parity_pixels=images)
    assert len(read_bundle(path).manifest.stages) == 2
    assert list(tmp_path.iterdir()) == [path]


def test_two_classes_that_are_as_good_as_equal_may_change_places(two_exits, tmp_path, monkeypatch):
    for stage in two_exits.stages:
        with torch.no_grad():
            stage.head.linear.weight[1] = stage.head.linear.weight[0]
            stage.head.linear.bias[:] = torch.tensor([9.0, 9.0, 0.0, 0.0])
    exported = ladder_export._bundle_logits
    twins = np.array([0, 1e-5, 0, 0], np.float32)
    monkeypatch.setattr(ladder_export, '_bundle_logits', lambda *args: exported(*args) + twins)
    assert export(two_exits, tmp_path / 'net').manifest.provenance['parity']['images'] == 12


def test_a_diverged_network_is_named_as_such(two_exits, tmp_path):
    with torch.no_grad():
        two_exits.stages[1].head.linear.weight.fill_(float('nan'))
    with pytest.raises(BundleError, match='diverged'):
        export(two_exits, tmp_path / 'net')
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_the_bundle_cannot_hold_is_refused(tmp_path):
    net = StagedNet([Stage(conv(3, WIDE), PooledHead(WIDE), [IMAGE], ['layer/1'])])
    with pytest.raises(BundleError, match=r"'layer/1'.*rename"):
        export(net, tmp_path / 'net')


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    class Singular(nn.Module):
        def forward(self, features):
            return torch.linalg.svdvals(features.mean(1)) @ torch.ones(SIZE, CLASSES)

    net = StagedNet([Stage(conv(3, WIDE), Singular(), [IMAGE], ['trunk'])])
    with pytest.raises(BundleError, match=r'linalg_svd.*Replace that operator'):
        export(net, tmp_path / 'net')
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('folder', ['.my nét', '__'])
def test_a_folder_that_cannot_name_a_ladder_is_refused(two_exits, tmp_path, folder):
    with pytest.raises(BundleError, match='name'):
        export(two_exits, tmp_path / folder)
    assert list(tmp_path.iterdir()) == []


def test_the_float32_bundle_answers_once_for_two_checks(two_exits, tmp_path, monkeypatch):
    precisions = []
    exported = ladder_export._bundle_logits

    def counted(bundle, images):
        precisions.append({stage.sha256 for stage in bundle.manifest.stages})
        return exported(bundle, images)

    monkeypatch.setattr(ladder_export, '_bundle_logits', counted)
    monkeypatch.setattr(ladder_export, 'LEAST_AGREEMENT', 0)
    export(two_exits, tmp_path / 'net', half_weights=True)
    assert len(precisions) == 2


@pytest.mark.parametrize('name', NETWORKS)
def test_every_network_becomes_a_bundle_of_the_same_cost(name, tmp_path):
    pretrained = NETWORKS[name].pretrained
    channels, size = (3, 64) if pretrained else (1, 28)
    net = build(NetworkSpec(name, (channels, size, size), CLASSES, width=0.25))
    if not pretrained:
        settled(net)
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, channels), np.uint8)
    bundle = export(net, tmp_path / name, channels=channels, parity_pixels=images)
    assert [stage.macs for stage in bundle.manifest.stages] == stage_macs(
        net, (channels, size, size)
    )
    # An exit on a trained trunk normalises pooled features: no convolution takes that in.
    if not pretrained:
        for k in range(len(net)):
            assert 'BatchNormalization' not in {node.op_type for node in graph(bundle, k).node}


def test_no_images_no_proof(two_exits, tmp_path):
    with pytest.raises(BundleError, match='validation images'):
        export(two_exits, tmp_path / 'net', parity_pixels=pixels(0))


def test_labels_that_do_not_match_are_refused(two_exits, tmp_path):
    with pytest.raises(BundleError, match='one label per class'):
        export(two_exits, tmp_path / 'net', class_names=LABELS[:3])
    assert list(tmp_path.iterdir()) == []
