from itertools import pairwise

import pytest

torch = pytest.importorskip('torch')

from checks import CASES, CLASSES, seeded_net  # noqa: E402

from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.networks.nested_slices import PrefixConv  # noqa: E402
from anytime_dnn_ros.forge.staged import IMAGE, stage_macs  # noqa: E402

SPEC = NetworkSpec('nested_masks', (3, 32, 32), CLASSES)


def prefix_convs(stage):
    return [m for m in stage.modules() if isinstance(m, PrefixConv)]


@pytest.mark.parametrize(('check', 'shape'), CASES)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('nested_masks', shape, CLASSES))


def test_every_stage_reads_the_image_and_costs_about_twice_the_one_before():
    net = build(SPEC)
    assert net.kind == 'contract'
    assert all(stage.reads == (IMAGE,) for stage in net.stages)
    macs = stage_macs(net, SPEC.image_shape)
    assert all(1.5 < b / a < 2.6 for a, b in pairwise(macs))
    assert macs[0] < 0.2 * sum(macs)
    assert 15e6 < sum(macs) < 25e6


def test_masks_lie_within_masks_and_the_last_keeps_every_weight():
    net = build(SPEC)
    for convs in zip(*map(prefix_convs, net.stages), strict=True):
        assert len({id(conv.shared) for conv in convs}) == 1
        assert [c.outputs for c in convs] == sorted(c.outputs for c in convs)
        assert [c.inputs for c in convs] == sorted(c.inputs for c in convs)
        assert convs[-1].shared.weight.shape[:2] == (convs[-1].outputs, convs[-1].inputs)


@torch.no_grad()
def test_a_smaller_net_is_the_whole_net_under_its_mask():
    net = seeded_net(SPEC)
    image = torch.randn(2, 3, 32, 32)
    expected = net(image)
    for k, stage in enumerate(net.stages[:-1]):
        # The last stage, its weights W * M and BatchNorm that gives 0 where the mask has nothing.
        whole = seeded_net(SPEC).stages[-1]
        for conv, small in zip(prefix_convs(whole), prefix_convs(stage), strict=True):
            mask = torch.zeros_like(conv.shared.weight)
            mask[: small.outputs, : small.inputs] = 1
            conv.shared.weight *= mask
            conv.norm.weight.zero_()
            for name, tensor in small.norm.named_parameters():
                getattr(conv.norm, name)[: small.outputs] = tensor
            conv.norm.running_mean[: small.outputs] = small.norm.running_mean
            conv.norm.running_var[: small.outputs] = small.norm.running_var
        pooled = whole.body(image)
        kept = stage.head.in_features
        assert not pooled[:, kept:].any()
        torch.testing.assert_close(stage.head(pooled[:, :kept]), expected[k])


@pytest.mark.parametrize('stages', [1, 2, 6])
def test_has_as_many_stages_as_told(stages):
    assert len(build(NetworkSpec('nested_masks', (1, 28, 28), CLASSES, stages=stages))) == stages
