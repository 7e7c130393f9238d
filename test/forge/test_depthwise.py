import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from small_trunks import settled  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from anytime_dnn_ros.forge.depthwise import (  # noqa: E402
    float_gradient_conv2d,
    make_depthwise_float,
)


class Functional(nn.Conv2d):
    """Traced into, as layers that pad by themselves are."""

    def forward(self, image):
        return functional.conv2d(
            image,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )


def mobile():
    torch.manual_seed(0)
    layers = (
        nn.Conv2d(3, 8, 1),
        nn.Conv2d(8, 8, 3, 2, 1, groups=8),
        nn.ReLU6(),
        nn.Conv2d(8, 16, 5, padding=4, dilation=2, groups=8, bias=False),
        Functional(16, 16, 3, groups=16),
        nn.Conv2d(16, 4, 3),
    )
    return settled(nn.Sequential(*layers))


def traced(module):
    # A layer of a kind that fx does not know is traced into.
    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, m, name):
            return type(m) is not Functional and super().is_leaf_module(m, name)

    return torch.fx.GraphModule(module, Tracer().trace(module))


def gradients(module, image):
    module.zero_grad()
    module(image).square().sum().backward()
    return [p.grad.clone() for p in module.parameters()]


def test_every_depthwise_convolution_is_replaced_and_answers_and_learns_as_before():
    plain, changed = mobile(), traced(mobile())
    make_depthwise_float(changed)
    targets = [node.target for node in changed.graph.nodes]
    assert targets.count(float_gradient_conv2d) == 3
    image = torch.randn(4, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(changed(image), plain(image))
    torch.testing.assert_close(changed(image), plain(image))
    for a, b in zip(gradients(changed, image), gradients(plain, image), strict=True):
        torch.testing.assert_close(a, b)


def test_in_bfloat16_the_gradients_are_those_of_float32_but_for_rounding():
    image = torch.randn(4, 8, 12, 12)
    weight = torch.randn(8, 1, 3, 3)
    options = ((1, 1), (1, 1), (1, 1), 8)
    found = []
    for enabled in (True, False):
        leaves = [image.clone().requires_grad_(), weight.clone().requires_grad_()]
        with torch.autocast('cpu', torch.bfloat16, enabled=enabled):
            given = float_gradient_conv2d(*leaves, None, *options)
        assert given.dtype == (torch.bfloat16 if enabled else torch.float32)
        given.float().sum().backward()
        found.append([leaf.grad for leaf in leaves])
    for a, b in zip(*found, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-2, atol=1e-2)


def test_no_gradient_is_computed_that_nobody_wants():
    image = torch.randn(2, 8, 6, 6)
    weight = torch.randn(8, 1, 3, 3, requires_grad=True)
    float_gradient_conv2d(image, weight, None, (1, 1), (1, 1), (1, 1), 8).sum().backward()
    assert weight.grad is not None
    assert image.grad is None
