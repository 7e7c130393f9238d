"""What a staged net does between its stages."""

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from torch import nn  # noqa: E402

from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet  # noqa: E402

SIZE = 4


class Dense(nn.Module):
    """Reads the image or all that is there; hands on the newest of it as well."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(SIZE, SIZE)

    def forward(self, *tensors):
        return torch.tanh(self.linear(sum(tensors))), tensors[-1]


class Head(nn.Linear):
    def forward(self, *features):
        return super().forward(features[0])


def dense_net(exits):
    """Every stage reads every earlier one, in part by way of those between."""
    torch.manual_seed(0)
    names = [f'own_{i}' for i in range(exits)]
    return StagedNet(
        [
            Stage(
                Dense(),
                Head(SIZE, 3),
                [*names[:i], f'older_{i - 1}'] if i else [IMAGE],
                [names[i], f'older_{i}'],
            )
            for i in range(exits)
        ]
    )


def gradients(net, losses):
    """Of each stage's body, by the losses together."""
    net.zero_grad()
    sum(losses).backward(retain_graph=True)
    return [
        torch.zeros(()) if (g := stage.body.linear.weight.grad) is None else g.clone()
        for stage in net.stages
    ]


@pytest.mark.parametrize('exits', [1, 2, 5])
def test_equilibrium_is_the_mean_of_the_exits_above_whatever_stages_they_skip(exits):
    net = dense_net(exits)
    image = torch.randn(6, SIZE)
    losses = [logits.square().mean() for logits in net(image)]
    alone = [gradients(net, [loss]) for loss in losses]
    together = gradients(net, [logits.square().mean() for logits in net(image, equilibrium=True)])
    for k in range(exits):
        mean = torch.stack([alone[i][k] for i in range(k, exits)]).mean(0)
        torch.testing.assert_close(together[k], mean)
