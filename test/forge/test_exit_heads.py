import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from anytime_dnn_ros.forge.exit_heads import ExitHead, pooled, side_step  # noqa: E402

MAP, SMALL_MAP, TOKENS, VECTOR = (2, 4, 9, 9), (2, 6, 5, 5), (2, 7, 3), (2, 8)


def test_pooling_leaves_one_number_per_channel():
    for shape, width in ((MAP, 4), (TOKENS, 3), (VECTOR, 8)):
        tensor = torch.randn(shape)
        assert pooled(tensor).shape == (2, width)
    assert torch.allclose(pooled(torch.ones(MAP)), torch.ones(2, 4))


def test_a_head_reads_all_its_tensors():
    shapes = [MAP, TOKENS, VECTOR]
    tensors = [torch.randn(shape, requires_grad=True) for shape in shapes]
    logits = ExitHead(shapes, 5).eval()(*tensors)
    assert logits.shape == (2, 5)
    logits[:, 0].sum().backward()
    assert all(tensor.grad.any() for tensor in tensors)


@pytest.mark.parametrize(
    ('shapes', 'state'),
    [
        ([MAP], (1, 6, 9, 9)),
        ([MAP, SMALL_MAP], (1, 6, 5, 5)),
        # 7 is no fit for 3 by any stride: what is left is interpolated.
        ([(2, 4, 7, 7), (2, 4, 3, 3)], (1, 6, 3, 3)),
        ([MAP, VECTOR], (1, 6)),
        ([TOKENS], (1, 6)),
    ],
)
def test_a_step_gives_a_state_of_the_shape_it_tells_and_reads_everything(shapes, state):
    step, shape = side_step(shapes, 6)
    assert shape == state
    tensors = [torch.randn(s, requires_grad=True) for s in shapes]
    given = step.eval()(*tensors)
    assert given.shape[1:] == state[1:]
    given.sum().backward()
    assert all(tensor.grad.any() for tensor in tensors)
