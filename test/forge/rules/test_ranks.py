"""Two processes step as one process with all images does; here two threads play the processes."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')

from tiny_nets import trunk  # noqa: E402

from anytime_dnn_ros.forge.rules import make_rule, ranks  # noqa: E402

RULES = ('adaloss', 'orthogonal_layer', 'orthogonal_global')


class TwoProcesses:
    """What `mean_over_ranks` asks of `torch.distributed`, for two threads."""

    def __init__(self):
        self._met = threading.Barrier(2, timeout=30)
        self._given = {}

    def is_available(self):
        return True

    is_initialized = is_available

    def get_world_size(self):
        return 2

    def all_reduce(self, tensor):
        self._given[threading.get_ident()] = tensor.clone()
        self._met.wait()
        total = sum(self._given.values())
        self._met.wait()
        tensor.copy_(total)


def outcome(name, net, image, labels):
    """What a rule does with a batch: AdaLoss's weights, or the gradients."""
    rule = make_rule(name, net, **({'update_every': 1} if name == 'adaloss' else {}))
    rule.backward(net, rule.losses(net(image), labels))
    if name == 'adaloss':
        return [rule.state_dict()['weights']]
    return [p.grad for p in net.parameters()]


def test_one_process_is_left_alone():
    given = torch.ones(3)
    assert ranks.mean_over_ranks(given) is given


@pytest.mark.parametrize('name', RULES)
def test_two_processes_find_what_one_would(name, monkeypatch):
    image, labels = torch.randn(8, 4), torch.randint(0, 3, (8,))
    nets = [trunk() for _ in range(3)]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    expected = outcome(name, nets[0], image, labels)
    monkeypatch.setattr(ranks, 'distributed', TwoProcesses())
    with ThreadPoolExecutor(2) as pool:
        running = [
            pool.submit(outcome, name, nets[1 + rank], image[rank::2], labels[rank::2])
            for rank in range(2)
        ]
        for one in running:
            torch.testing.assert_close(one.result(30), expected, rtol=1e-4, atol=1e-6)
