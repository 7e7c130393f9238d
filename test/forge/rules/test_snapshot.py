"""The ladder that a cyclic training leaves."""

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
from tiny_nets import body, head, trunk  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.rules import make_rule  # noqa: E402
from anytime_dnn_ros.forge.rules.snapshot import LastAnswer, snapshot_ladder  # noqa: E402
from anytime_dnn_ros.forge.staged import IMAGE, Stage, StagedNet  # noqa: E402
from anytime_dnn_ros.ladder.combine import Combiner  # noqa: E402
from anytime_dnn_ros.ladder.manifest import CombineSpec  # noqa: E402


def test_the_newest_net_comes_first_with_its_exits_then_the_older_ones(image):
    nets = [trunk(2) for _ in range(3)]
    ladder = snapshot_ladder(nets)
    assert ladder.kind == 'contract'
    assert len({name for stage in ladder.stages for name in stage.writes}) == len(ladder)
    expected = [*nets[2](image), nets[1](image)[-1], nets[0](image)[-1]]
    for given, wanted in zip(ladder(image), expected, strict=True):
        assert torch.equal(given, wanted)


def test_each_whole_net_has_one_voice():
    rows = ((1.0,), (0.0, 1.0), (0.0, 1.0, 1.0), (0.0, 1.0, 1.0, 1.0))
    assert make_rule('snapshot', trunk(2), cycles=3).combine(4) == CombineSpec('average', rows)


def test_a_single_exit_is_a_plain_ensemble():
    rows = ((1.0,), (1.0, 1.0), (1.0, 1.0, 1.0))
    assert make_rule('snapshot', trunk(1), cycles=3).combine(3) == CombineSpec('average', rows)


def test_answers_are_what_the_bundle_makes_of_the_ladder(image):
    nets = [trunk(2) for _ in range(3)]
    rule = make_rule('snapshot', nets[-1], cycles=3)
    ladder = snapshot_ladder(nets)
    with torch.no_grad():
        logits = ladder(image)
    answers = rule.answers(logits)
    combiner = Combiner(rule.combine(len(ladder)))
    for stage, given in enumerate(logits):
        scores = combiner.add(given[0].numpy())
        expected = np.exp(scores) / np.exp(scores).sum()
        np.testing.assert_allclose(torch.softmax(answers[stage][0], 0), expected, rtol=1e-5)


def test_a_whole_net_runs_what_its_last_exit_needs_and_nothing_else(image):
    net = StagedNet(
        [
            Stage(body(), head(), (IMAGE,), ('a',)),
            Stage(body(), head(), ('a',), ('b',)),
            Stage(body(), head(), ('a',), ('c',)),
        ]
    )
    whole = LastAnswer(net)
    assert torch.equal(whole(image), net(image)[-1])
    needed = [net.stages[0].body, net.stages[2].body, net.stages[2].head]
    assert set(whole.parameters()) == {p for part in needed for p in part.parameters()}


@pytest.mark.parametrize('nets', [[], [trunk(2)], [trunk(2), trunk(3)]])
def test_snapshots_must_be_alike(nets):
    with pytest.raises(ConfigurationError, match='every snapshot of one training'):
        snapshot_ladder(nets)
