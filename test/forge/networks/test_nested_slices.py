import pytest

torch = pytest.importorskip('torch')

import onnx  # noqa: E402
from checks import CASES, CLASSES, seeded_net  # noqa: E402
from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.networks.nested_slices import (  # noqa: E402
    GROUPS,
    FreeShortcut,
    PrefixConv,
)
from anytime_dnn_ros.forge.staged import IMAGE, stage_macs  # noqa: E402

SPEC = NetworkSpec('nested_slices', (3, 32, 32), CLASSES)


@pytest.mark.parametrize(('check', 'shape'), CASES)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('nested_slices', shape, CLASSES))


def test_every_stage_reads_the_image_and_costs_more_than_the_one_before():
    net = build(SPEC)
    assert net.kind == 'contract'
    assert all(stage.reads == (IMAGE,) for stage in net.stages)
    macs = stage_macs(net, SPEC.image_shape)
    assert macs == sorted(set(macs))
    assert macs[0] < 0.2 * sum(macs)
    assert 15e6 < sum(macs) < 25e6


def test_a_stage_costs_what_the_weights_that_it_runs_cost():
    net = build(SPEC)
    positions = {}
    for conv in net.modules():
        if isinstance(conv, PrefixConv):
            conv.register_forward_hook(
                lambda conv, _, out: positions.update({conv: out.shape[2] * out.shape[3]})
            )
    found = stage_macs(net, SPEC.image_shape)
    for stage, macs in zip(net.stages, found, strict=True):
        convs = [m for m in stage.modules() if isinstance(m, PrefixConv)]
        weights = [c.outputs * c.inputs * c.shared.weight[0, 0].numel() for c in convs]
        by_hand = sum(w * positions[c] for w, c in zip(weights, convs, strict=True))
        assert macs == by_hand + stage.head.weight.numel()


def test_stages_share_convolutions_and_nothing_else():
    net = build(SPEC)
    first, last = (
        {id(p): name for name, p in stage.named_parameters()}
        for stage in (net.stages[0], net.stages[-1])
    )
    shared = {name for key, name in last.items() if key in first}
    assert shared == {name for name in last.values() if name.endswith('shared.weight')}


def test_an_early_stage_is_deaf_to_the_groups_that_it_does_not_run():
    net = seeded_net(SPEC)
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = net(image)
        for conv in net.stages[0].modules():
            if isinstance(conv, PrefixConv):
                conv.shared.weight[conv.outputs :] += 1
                conv.shared.weight[:, conv.inputs :] += 1
        after = net(image)
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=0)
    assert all(not torch.allclose(a, b) for a, b in zip(after[1:], before[1:], strict=True))


@pytest.mark.parametrize('k', [0, 2])
def test_a_file_holds_only_the_weights_that_its_stage_runs(k, tmp_path):
    stage = seeded_net(SPEC).stages[k]
    raw, folded = tmp_path / 'raw.onnx', tmp_path / 'folded.onnx'
    body = torch.nn.Sequential(stage.body, stage.head)
    torch.onnx.export(body, torch.zeros(1, 3, 32, 32), raw, opset_version=17, dynamo=False)
    quant_pre_process(str(raw), str(folded), skip_symbolic_shape=True)
    graph = onnx.load(folded).graph
    held = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    found = [held[node.input[1]] for node in graph.node if node.op_type == 'Conv']
    convs = [m for m in stage.modules() if isinstance(m, PrefixConv)]
    assert found == [[c.outputs, c.inputs, *c.shared.kernel_size] for c in convs]
    assert not {'Slice', 'BatchNormalization'} & {node.op_type for node in graph.node}
    used = {name for node in graph.node for name in node.input}
    assert set(held) <= used


@pytest.mark.parametrize('stages', range(1, GROUPS + 1))
def test_each_stage_adds_a_group_or_more_until_all_run(stages):
    net = build(NetworkSpec('nested_slices', (1, 28, 28), CLASSES, stages=stages))
    groups = [max(m.groups for m in s.modules() if isinstance(m, PrefixConv)) for s in net.stages]
    assert len(groups) == stages
    assert groups == sorted(set(groups))
    assert groups[-1] == GROUPS


@pytest.mark.parametrize('stages', [GROUPS + 1, 5 * GROUPS])
def test_a_number_of_stages_that_groups_cannot_give_is_refused(stages):
    with pytest.raises(ConfigurationError, match=f'no {stages} stages.*give 1 to {GROUPS}'):
        build(NetworkSpec('nested_slices', (1, 28, 28), CLASSES, stages=stages))


@pytest.mark.parametrize('size', [5, 8])
def test_a_shortcut_fits_the_strided_convolution_beside_it(size):
    tensor = torch.randn(2, 3, size, size)
    found = FreeShortcut(3, 5, 2)(tensor)
    assert found.shape[2:] == torch.nn.Conv2d(3, 5, 3, 2, 1)(tensor).shape[2:]
    torch.testing.assert_close(found[:, :3, 0, 0], tensor[:, :, :2, :2].mean((2, 3)))
    assert not found[:, 3:].any()
    assert FreeShortcut(3, 3, 1)(tensor) is tensor
