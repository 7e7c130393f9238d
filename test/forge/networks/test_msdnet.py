"""MSDNet: a ladder like the others, cheap at first, and with no scale that nobody reads."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from checks import CASES, CLASSES, seeded_net, trains_every_parameter  # noqa: E402

from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.staged import stage_macs  # noqa: E402

SHAPE = (3, 32, 32)
NARROW = NetworkSpec('msdnet', SHAPE, CLASSES, width=0.25)


@pytest.mark.parametrize(('check', 'shape'), CASES)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('msdnet', shape, CLASSES))


# One layer in all, layers that the scales do not divide, and more exits than by default.
@pytest.mark.parametrize('stages', [1, 2, 4, 7])
def test_any_number_of_stages_has_no_idle_parameter(stages):
    spec = NetworkSpec('msdnet', SHAPE, CLASSES, width=0.25, stages=stages)
    assert len(build(spec)) == stages
    trains_every_parameter(spec)


def test_scales_go_as_the_net_gets_deeper():
    net = build(NARROW)
    assert [len(stage.writes) for stage in net.stages] == [3, 3, 2, 2, 1]


def test_halving_starts_from_the_whole_image_and_only_the_coarsest_scale_is_left():
    net = seeded_net(NARROW)
    first, *_, last = net.stages
    tensors = first.features(torch.zeros(1, *SHAPE))
    assert [tensor.shape[2:] for tensor in tensors] == [(32, 32), (16, 16), (8, 8)]
    assert [name.rsplit('_', 1)[1] for name in last.writes] == ['scale3']


def test_a_stage_needs_every_tensor_it_reads():
    net = seeded_net(NARROW)
    tensors = {'image': torch.randn(1, *SHAPE)}
    for stage in net.stages:
        inputs = [tensors[name].detach().requires_grad_() for name in stage.reads]
        features = stage.features(*inputs)
        # Its own exit, or a later one through what it writes.
        sum(feature.square().sum() for feature in features).backward()
        assert all(tensor.grad is not None and tensor.grad.any() for tensor in inputs)
        tensors.update(zip(stage.writes, features, strict=True))


def test_features_are_kept_for_all_later_layers():
    """Dense: what a stage is given is the beginning of what it gives, until a transition."""
    net = seeded_net(NARROW)
    first, second = net.stages[:2]
    given = first.features(torch.randn(1, *SHAPE))
    for old, new in zip(given, second.features(*given), strict=True):
        assert new.shape[1] > old.shape[1]
        torch.testing.assert_close(new[:, : old.shape[1]], old)


def test_an_early_exit_is_cheap():
    macs = stage_macs(build(NetworkSpec('msdnet', SHAPE, CLASSES)), SHAPE)
    assert macs[0] < sum(macs) / 5
    assert 15e6 < sum(macs) < 25e6
