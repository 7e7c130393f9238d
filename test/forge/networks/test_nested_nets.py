import pytest

torch = pytest.importorskip('torch')

from checks import CASES, CLASSES, seeded_net  # noqa: E402

from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.networks.nested_nets import LAYERS  # noqa: E402
from anytime_dnn_ros.forge.staged import IMAGE, stage_macs  # noqa: E402

SPEC = NetworkSpec('nested_nets', (3, 32, 32), CLASSES)


@pytest.mark.parametrize(('check', 'shape'), CASES)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('nested_nets', shape, CLASSES))


def test_the_first_exit_is_cheap_and_the_whole_within_its_budget():
    macs = stage_macs(build(SPEC), SPEC.image_shape)
    assert macs[0] < 0.2 * sum(macs)
    assert 15e6 < sum(macs) < 25e6


def test_stages_share_no_parameter():
    net = build(SPEC)
    assert net.kind == 'interruptible'
    counts = [sum(p.numel() for p in stage.parameters()) for stage in net.stages]
    assert sum(counts) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize('stages', [1, 2, 4, 5])
def test_what_a_stage_writes_is_read_later_and_what_it_reads_was_written(stages):
    net = build(NetworkSpec('nested_nets', (1, 28, 28), CLASSES, stages=stages))
    assert len(net) == stages
    written = {IMAGE}
    read = set()
    for stage in net.stages:
        assert written.issuperset(stage.reads)
        assert written.isdisjoint(stage.writes)
        written.update(stage.writes)
        read.update(stage.reads)
    assert written - read == {f'pooled{stages}'}


@torch.no_grad()
def test_an_answer_hears_its_own_and_earlier_slices_and_no_later_one():
    net = seeded_net(SPEC)
    image = torch.randn(2, 3, 32, 32)
    for k in range(len(net)):
        before = net(image)
        for parameter in net.stages[k].body.parameters():
            parameter.mul_(1.1)
        after = net(image)
        changed = [not torch.equal(a, b) for a, b in zip(after, before, strict=True)]
        assert changed == [i >= k for i in range(len(net))]


@torch.no_grad()
def test_every_tensor_read_matters():
    net = seeded_net(SPEC)
    tensors = {IMAGE: torch.randn(2, 3, 32, 32)}
    for stage in net.stages:
        inputs = [tensors[name] for name in stage.reads]
        features = stage.features(*inputs)
        logits = stage.head(*features)
        for i in range(len(inputs)):
            other = [x + torch.randn_like(x) if j == i else x for j, x in enumerate(inputs)]
            assert not torch.allclose(stage.head(*stage.features(*other)), logits), stage.reads[i]
        tensors.update(zip(stage.writes, features, strict=True))


def test_later_slices_are_deeper():
    depths = [len(stage.body.blocks) for stage in build(SPEC).stages]
    assert depths == sorted(depths)
    assert depths[0] < depths[-1] == len(LAYERS)
