"""Orthogonalised SGD: orthogonal indeed, and against a plain Gram-Schmidt."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from hypothesis.extra import numpy as hnp  # noqa: E402
from tiny_nets import shared, trunk  # noqa: E402

from anytime_dnn_ros.forge.rules import make_rule  # noqa: E402
from anytime_dnn_ros.forge.rules.orthogonal import combinations  # noqa: E402


@st.composite
def gradients_and_owners(draw):
    """Gradients of some exits on some tensors, of any size and direction, parallel ones too."""
    exits = draw(st.integers(2, 4))
    tensors = draw(st.integers(1, 3))
    owned = draw(hnp.arrays(bool, (tensors, exits)))
    numbers = st.floats(-8, 8, width=32).map(lambda x: x if abs(x) > 1e-3 else 0.0)
    gradients = []
    for tensor in range(tensors):
        shape = (exits, draw(st.integers(1, 6)))
        gradient = draw(hnp.arrays(np.float32, shape, elements=numbers))
        scales = draw(hnp.arrays(np.int64, exits, elements=st.integers(-4, 4)))
        gradient *= owned[tensor][:, None] * (10.0**scales)[:, None]
        gradients.append(torch.from_numpy(gradient.astype(np.float32)))
    return gradients, torch.from_numpy(owned)


def kept(gradients, owned, order, *, together):
    """Every g̃, float64 [exits, numbers] per tensor."""
    made = combinations(gradients, owned, order, together=together)
    return [c @ g.double() for c, g in zip(made, gradients, strict=True)]


def assert_orthogonal(before, after):
    """Cosines are 0, for what is more than rounding noise of the gradient it was made from."""
    lengths = after.norm(dim=1)
    real = lengths > 1e-4 * before.double().norm(dim=1)
    directions = after[real] / lengths[real, None]
    torch.testing.assert_close(
        directions @ directions.T, torch.eye(len(directions)).double(), rtol=0, atol=1e-4
    )


@settings(max_examples=80, deadline=None)
@given(gradients_and_owners(), st.booleans())
def test_orthogonal_in_each_tensor(case, later):
    gradients, owned = case
    order = range(owned.shape[1])[:: -1 if later else 1]
    after = kept(gradients, owned, order, together=False)
    for g, k in zip(gradients, after, strict=True):
        assert_orthogonal(g, k)
        torch.testing.assert_close(k[order[0]], g[order[0]].double())


@settings(max_examples=80, deadline=None)
@given(gradients_and_owners(), st.booleans())
def test_orthogonal_over_all_tensors(case, later):
    gradients, owned = case
    order = range(owned.shape[1])[:: -1 if later else 1]
    after = kept(gradients, owned, order, together=True)
    assert_orthogonal(torch.cat(gradients, 1), torch.cat(after, 1))
    for g, k, has in zip(gradients, after, owned, strict=True):
        torch.testing.assert_close(k[order[0]], g[order[0]].double())
        assert not k[~has].any()


def by_qr(gradients, order):
    """The same by numpy's QR, for exits that all have all numbers: float64 [exits, numbers]."""
    rows = gradients.double().numpy()
    made = np.zeros_like(rows)
    for place, i in enumerate(order):
        basis, _ = np.linalg.qr(rows[list(order[:place])].T)
        made[i] = rows[i] - basis @ (basis.T @ rows[i])
    return made


@pytest.mark.parametrize('order', [range(3), range(3)[::-1]])
def test_the_projections_are_those_of_qr(order):
    gradients = [torch.randn(3, 5), 100 * torch.randn(3, 7)]
    owned = torch.ones(2, 3, dtype=torch.bool)
    for given_, wanted in zip(
        kept(gradients, owned, order, together=False), gradients, strict=True
    ):
        np.testing.assert_allclose(given_, by_qr(wanted, order), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(
        torch.cat(kept(gradients, owned, order, together=True), 1),
        by_qr(torch.cat(gradients, 1), order),
        rtol=1e-6,
        atol=1e-6,
    )


def gradients_by_exit(net, image, labels):
    """Gradient of each exit's loss by a backward pass of its own: [exit][name], 0 for none."""
    rows = []
    for i in range(len(net)):
        net.zero_grad()
        make_rule('sum', net).losses(net(image), labels)[i].backward()
        rows.append(
            {
                name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                for name, p in net.named_parameters()
            }
        )
    net.zero_grad()
    return rows


def stepped_along(name, net, image, labels, **options):
    rule = make_rule(name, net, **options)
    assert not rule.equilibrium
    rule.backward(net, rule.losses(net(image), labels))
    return {key: p.grad.clone() for key, p in net.named_parameters()}


@pytest.mark.parametrize('make', [trunk, shared])
def test_each_tensor_gets_the_sum_of_its_projected_gradients(make, image, labels):
    net = make()
    exits = gradients_by_exit(net, image, labels)
    for key, given_ in stepped_along('orthogonal_layer', net, image, labels).items():
        rows = torch.stack([gradients[key].flatten() for gradients in exits])
        rows = rows[rows.any(1)]
        wanted = by_qr(rows, range(len(rows))).sum(0)
        np.testing.assert_allclose(given_.flatten(), wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('make', [trunk, shared])
def test_all_tensors_get_the_sum_of_the_projected_gradients(make, image, labels):
    net = make()
    exits = gradients_by_exit(net, image, labels)
    given_ = stepped_along('orthogonal_global', net, image, labels)
    users = {key: sum(bool(one[key].any()) for one in exits) for key in given_}
    common = [key for key, count in users.items() if count > 1]
    rows = torch.stack([torch.cat([one[key].flatten() for key in common]) for one in exits])
    wanted = by_qr(rows, range(len(rows))).sum(0)
    stepped = torch.cat([given_[key].flatten() for key in common])
    np.testing.assert_allclose(stepped, wanted, rtol=1e-4, atol=1e-6)
    for key in users.keys() - common:
        torch.testing.assert_close(given_[key], sum(one[key] for one in exits))


@pytest.mark.parametrize('name', ['orthogonal_layer', 'orthogonal_global'])
def test_the_exit_with_priority_is_served_as_if_it_were_alone(name, image, labels):
    net = shared()
    exits = gradients_by_exit(net, image, labels)
    shared_keys = [key for key in exits[0] if key.startswith('stages.0.body')]
    for priority, first in (('earlier', exits[0]), ('later', exits[-1])):
        stepped = stepped_along(name, net, image, labels, priority=priority)
        net.zero_grad()
        groups = [[key] for key in shared_keys] if name == 'orthogonal_layer' else [shared_keys]
        for group in groups:
            step, alone = (
                torch.cat([g[key].flatten() for key in group]) for g in (stepped, first)
            )
            # The step has just as much of that gradient as the gradient itself.
            torch.testing.assert_close(step @ alone, alone @ alone, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize('name', ['orthogonal_layer', 'orthogonal_global'])
def test_exits_that_agree_step_once(name, image, labels):
    net = shared(2)
    net.stages[1].head.load_state_dict(net.stages[0].head.state_dict())
    alone = gradients_by_exit(net, image, labels)[0]
    stepped = stepped_along(name, net, image, labels)
    for key in [key for key in alone if key.startswith('stages.0.')]:
        torch.testing.assert_close(stepped[key], alone[key], rtol=1e-4, atol=1e-7)
