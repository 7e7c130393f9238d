"""What every network must do, whatever it is made of: each check takes a `NetworkSpec`.

A network's test runs them all:
    @pytest.mark.parametrize(('check', 'shape'), CASES)
    def test_is_a_ladder(check, shape): check(NetworkSpec('msdnet', shape, CLASSES))
"""

import io
from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import onnxruntime as ort
import torch
from torch import Tensor, nn

from anytime_dnn_ros.forge.networks import NetworkSpec, build
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet, stage_macs

COLOUR, GRAY = (3, 32, 32), (1, 28, 28)
CLASSES = 10
OPSET = 17
LEARNING_STEPS = 20
# Float convolutions of torch and of ONNX Runtime add in different orders.
TOLERANCE = 1e-4


class _Exported(nn.Module):
    """A stage as one graph: what it writes, then its logits."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        features = self.stage.features(*inputs)
        return (*features, self.stage.head(*features))


def seeded_net(spec: NetworkSpec) -> StagedNet:
    """The network with reproducible weights and BatchNorm statistics that are not the identity."""
    torch.manual_seed(0)
    net = build(spec)
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(8, *spec.image_shape))
    return net.eval()


def gives_finite_logits(spec: NetworkSpec) -> None:
    net = seeded_net(spec)
    image = torch.randn(3, *spec.image_shape)
    for training in (True, False):
        answers = net.train(training)(image)
        assert len(answers) == len(net) >= 2
        assert len(net) == spec.stages or not spec.stages
        for logits in answers:
            assert logits.shape == (3, spec.num_classes)
            assert torch.isfinite(logits).all()


def costs_more_when_wider(spec: NetworkSpec) -> None:
    nets = [build(replace(spec, width=width)) for width in (0.5, 1, 2)]
    narrow, middle, wide = (stage_macs(net, spec.image_shape) for net in nets)
    assert min(narrow) > 0
    assert sum(narrow) < sum(middle) < sum(wide)
    assert all(a <= b for a, b in zip(middle, wide, strict=True))


@torch.no_grad()
def runs_stage_by_stage(spec: NetworkSpec) -> None:
    net = seeded_net(spec)
    image = torch.randn(2, *spec.image_shape)
    tensors = {IMAGE: image}
    answers = net(image)
    for stage, expected in zip(net.stages, answers, strict=True):
        features = stage.features(*(tensors[name] for name in stage.reads))
        torch.testing.assert_close(stage.head(*features), expected)
        tensors.update(zip(stage.writes, features, strict=True))
    assert all(not torch.allclose(a, b) for a, b in pairwise(answers))


def trains_every_parameter(spec: NetworkSpec) -> None:
    net = seeded_net(spec).train()
    # Random paths (drop-path) are each taken within a few batches.
    for _ in range(30):
        answers = net(torch.randn(4, *spec.image_shape))
        labels = torch.randint(spec.num_classes, (4,))
        sum(nn.functional.cross_entropy(logits, labels) for logits in answers).backward()
        silent = [
            name
            for name, parameter in net.named_parameters()
            if parameter.grad is None or not parameter.grad.any()
        ]
        if not silent:
            break
    assert not silent
    assert all(torch.isfinite(parameter.grad).all() for parameter in net.parameters())


def learns(spec: NetworkSpec) -> None:
    net = seeded_net(replace(spec, width=0.25)).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    # Blurred, so that every class shows at any resolution.
    prototypes = nn.functional.interpolate(
        torch.randn(spec.num_classes, spec.image_shape[0], 4, 4), spec.image_shape[1:]
    )
    history = []
    for _ in range(LEARNING_STEPS):
        labels = torch.randint(spec.num_classes, (32,))
        answers = net(prototypes[labels] + torch.randn(32, *spec.image_shape))
        losses = torch.stack([nn.functional.cross_entropy(logits, labels) for logits in answers])
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
        history.append(losses.detach())
    first, last = torch.stack(history[:5]).mean(0), torch.stack(history[-5:]).mean(0)
    assert (last < 0.9 * first).all(), f'losses of the exits: {first} before, {last} after'


@torch.no_grad()
def exports_every_stage(spec: NetworkSpec) -> None:
    net = seeded_net(spec)
    tensors = {IMAGE: torch.randn(1, *spec.image_shape)}
    for stage in net.stages:
        inputs = tuple(tensors[name] for name in stage.reads)
        features = stage.features(*inputs)
        tensors.update(zip(stage.writes, features, strict=True))
        names = [f'in {name}' for name in stage.reads]
        file = io.BytesIO()
        torch.onnx.export(
            _Exported(stage).eval(),
            inputs,
            file,
            input_names=names,
            output_names=[*stage.writes, 'logits'],
            opset_version=OPSET,
            dynamo=False,
        )
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(
            file.getvalue(), options, providers=['CPUExecutionProvider']
        )
        assert [node.name for node in session.get_inputs()] == names
        found = session.run(
            None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        )
        for got, tensor in zip(found, (*features, stage.head(*features)), strict=True):
            np.testing.assert_allclose(got, tensor.numpy(), rtol=TOLERANCE, atol=TOLERANCE)


# The dear ones at one shape each; every network is exported at the other one as a whole bundle.
CASES = [
    *product([gives_finite_logits, runs_stage_by_stage, trains_every_parameter], [COLOUR, GRAY]),
    (costs_more_when_wider, COLOUR),
    (exports_every_stage, COLOUR),
    (learns, GRAY),
]
