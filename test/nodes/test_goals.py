"""From parameters to goals: what a bundle cannot give is refused with the mend."""

from dataclasses import replace

import pytest

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.ladder.manifest import ExitRule, Quality, StageQuality
from anytime_dnn_ros.nodes.anytime_parameters import ANYTIME_PARAMETERS
from anytime_dnn_ros.nodes.goals import counted_on, goals_from
from anytime_dnn_ros.planner import Goals

DEFAULTS = {p.name: p.default for p in ANYTIME_PARAMETERS}
RULE = ExitRule('entropy', 2e6, 0.6, ((0.0, 0.0, 0.0, 0.0),))
DECLARED = Quality('held-out images', True, tuple(StageQuality(1.0, a) for a in (0.5, 0.6)))
NOT_DECLARED = replace(DECLARED, held_out=False)


@pytest.mark.parametrize('quality', [None, NOT_DECLARED, DECLARED])
def test_the_defaults_suit_every_bundle_and_are_those_of_the_planner(quality):
    assert goals_from(DEFAULTS, quality) == Goals()


def test_every_parameter_reaches_the_planner():
    asked = {
        'miss_rate_target': 0.05,
        'confidence_target': 0.9,
        'compute_price': 0.1,
        'accuracy_target': 0.8,
        'yield_to_newer': True,
    }
    values = {**DEFAULTS, **asked, 'exit_rule': 'entropy'}
    goals = goals_from(values, replace(DECLARED, exit_rules=(RULE,)))
    assert goals == Goals(**asked, exit_rule=RULE)


@pytest.mark.parametrize('name', ['compute_price', 'accuracy_target'])
@pytest.mark.parametrize('quality', [None, NOT_DECLARED])
def test_a_trade_of_accuracy_needs_a_bundle_that_declares_some(name, quality):
    with pytest.raises(ConfigurationError, match=rf"{name} = 0\.5 .*'lite'.* set it to 0"):
        goals_from({**DEFAULTS, name: 0.5}, quality)


def test_an_exit_rule_that_the_bundle_has_not_is_refused():
    with pytest.raises(ConfigurationError, match=r"exit_rule = 'entropy'.*anytime-dnn calibrate"):
        goals_from({**DEFAULTS, 'exit_rule': 'entropy'}, DECLARED)


def test_what_the_accuracy_was_counted_on():
    assert [counted_on(q) for q in (None, NOT_DECLARED, DECLARED)] == ['', '', 'held-out images']
