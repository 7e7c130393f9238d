"""FractalNet: columns that run one after another, joined by means, with paths dropped."""

from collections import Counter

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from checks import CASES, CLASSES, seeded_net  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.networks import NetworkSpec, build, fractalnet  # noqa: E402

SHAPE = (3, 32, 32)
NARROW = NetworkSpec('fractalnet', SHAPE, CLASSES, width=0.25)


@pytest.mark.parametrize(('check', 'shape'), CASES)
def test_is_a_ladder(check, shape):
    check(NetworkSpec('fractalnet', shape, CLASSES))


@torch.no_grad()
def test_a_join_is_the_mean_of_all_columns_that_end_there():
    net = seeded_net(NARROW)
    image = torch.randn(2, *SHAPE)
    (shallow,) = net.stages[0].features(image)[:1]
    a, b = net.stages[1].features(image, *net.stages[0].features(image))[:2]
    convs = net.stages[1].body.blocks[0]
    torch.testing.assert_close(a, convs[0](image))
    torch.testing.assert_close(b, (shallow + convs[1](a)) / 2)

    # In the deepest column: two columns at its second convolution, three at its fourth.
    convs = net.stages[2].body.blocks[0]
    second = (a + convs[1](convs[0](image))) / 2
    fourth = (2 * b + convs[3](convs[2](second))) / 3
    body = net.stages[2].body
    body.keeps_all = True
    kept = body(image, *net.stages[1].features(image, *net.stages[0].features(image)))
    torch.testing.assert_close(kept[1], second)
    torch.testing.assert_close(kept[3], fourth)


@torch.no_grad()
def test_nothing_is_computed_twice():
    net = seeded_net(NARROW)
    runs = Counter()
    convs = [module for module in net.modules() if isinstance(module, torch.nn.Conv2d)]
    for conv in convs:
        conv.register_forward_hook(lambda module, *_: runs.update([module]))
    net(torch.randn(1, *SHAPE))
    assert len(convs) == 4 * (1 + 2 + 4)
    assert set(runs.values()) == {1}
    assert len(runs) == len(convs)
    assert net.kind == 'interruptible'


def last_answers_gradients(net):
    """How much the deepest column's answer depends on the first column's parameters."""
    net(torch.randn(4, *SHAPE))[-1].square().sum().backward()
    return [parameter.grad for parameter in net.stages[0].body.parameters()]


def test_in_a_global_batch_every_column_works_alone(monkeypatch):
    monkeypatch.setattr(fractalnet, 'GLOBAL_SHARE', 1.0)
    gradients = last_answers_gradients(seeded_net(NARROW).train())
    assert all(not gradient.any() for gradient in gradients)


def test_in_a_local_batch_columns_hear_each_other(monkeypatch):
    monkeypatch.setattr(fractalnet, 'GLOBAL_SHARE', 0.0)
    gradients = last_answers_gradients(seeded_net(NARROW).train())
    assert any(gradient.any() for gradient in gradients)


def test_half_of_the_batches_are_global():
    net = seeded_net(NARROW).train()
    alone = 0
    for _ in range(100):
        net(torch.zeros(2, 3, 8, 8))
        alone += {stage.body.alone for stage in net.stages} == {True}
    assert 35 <= alone <= 65


def test_batchnorm_keeps_what_it_sees_in_local_batches(monkeypatch):
    net = seeded_net(NARROW).train()

    def kept_after(share):
        monkeypatch.setattr(fractalnet, 'GLOBAL_SHARE', share)
        before = torch.cat([b.clone() for name, b in net.named_buffers() if 'running' in name])
        net(torch.randn(4, *SHAPE))
        after = torch.cat([b for name, b in net.named_buffers() if 'running' in name])
        return torch.equal(before, after)

    assert kept_after(1.0)
    assert not kept_after(0.0)


def test_a_join_drops_each_input_as_often_as_the_paper_and_never_both():
    column = seeded_net(NARROW).train().stages[1].body
    column.alone = False
    draws = 4000
    weights = Counter(column._weights(2) for _ in range(draws))
    assert set(weights) == {(0, 1), (1, 0), (2 / 3, 1 / 3)}
    # Both would fall in 0.15 ** 2 of the draws; then one of them is kept.
    expected = draws * (0.15 - 0.15**2 / 2)
    assert weights[0, 1] == pytest.approx(expected, rel=0.15)
    assert weights[1, 0] == pytest.approx(expected, rel=0.15)


def test_paths_are_drawn_from_the_global_generator():
    net = seeded_net(NARROW).train()
    image = torch.randn(2, *SHAPE)

    def last_answer(seed):
        torch.manual_seed(seed)
        return net(image)[-1].detach()

    torch.testing.assert_close(last_answer(1), last_answer(1))
    assert any(not torch.allclose(last_answer(1), last_answer(seed)) for seed in range(2, 8))


def test_no_path_is_dropped_in_evaluation():
    net = seeded_net(NARROW)
    image = torch.randn(2, *SHAPE)
    with torch.no_grad():
        answers = torch.stack([torch.stack(net(image)) for _ in range(5)])
    assert torch.equal(answers, answers[:1].expand_as(answers))


@pytest.mark.parametrize('columns', [1, 2, 4])
def test_any_number_of_columns(columns):
    net = seeded_net(NetworkSpec('fractalnet', SHAPE, CLASSES, width=0.25, stages=columns))
    assert [len(list(stage.body.blocks[0])) for stage in net.stages] == [
        2**i for i in range(columns)
    ]


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ConfigurationError, match='8x8 or more'):
        build(NetworkSpec('fractalnet', (1, 28, 7), CLASSES))
