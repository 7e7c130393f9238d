"""Policies of others: what they do with times that are known."""

from math import inf

import numpy as np
import pytest

from anytime_dnn_ros.bench.policies import Ladder, chosen_policies, make_policy, policy_names
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.planner import Goals, Planner, Situation, StopReason
from anytime_dnn_ros.timing.reference import ReferenceTimes

STAGE_S = 0.01
# A hundred rounds, of which the slowest took twice as long.
SAMPLES = np.vstack([np.full((95, 3), STAGE_S), np.full((5, 3), 2 * STAGE_S)])
LADDER = Ladder(ReferenceTimes(SAMPLES), (1.0, 1.0, 1.0))


def policy(name, target=0.01):
    made = make_policy(name, LADDER, Goals(miss_rate_target=target))
    for _ in range(300):
        made.observe_publish(0.0, by_timer=False)
    return made


def reason(made, stage, left_s):
    return made.plan(Situation(stage, 3, left_s, None))


def test_every_name_but_the_oracle_is_a_policy():
    for name in policy_names(3)[:-1]:
        made = make_policy(name, LADDER, Goals())
        assert reason(made, 0, 1.0) is StopReason.NONE
    assert isinstance(make_policy('ours', LADDER, Goals()), Planner)
    assert policy_names(3)[-1] == 'oracle'


@pytest.mark.parametrize('name', ['oracle', 'static_4', 'static_0', 'static_x', 'nonsense'])
def test_other_names_are_refused(name):
    with pytest.raises(ConfigurationError, match='no policy'):
        make_policy(name, LADDER, Goals())


def test_names_are_chosen_once_and_static_k_means_each():
    assert chosen_policies('all', 2) == policy_names(2)
    assert chosen_policies(' alert, static_k,alert', 2) == ['alert', 'static_1', 'static_2']
    with pytest.raises(ConfigurationError, match='static_1, static_2, oracle'):
        chosen_policies('alert,static_3', 2)


@pytest.mark.parametrize('name', ['alert', 'fixed_p99', 'greedy'])
def test_the_first_stage_is_mandatory_and_after_the_last_there_is_none(name):
    assert reason(policy(name), 0, -1.0) is StopReason.NONE
    assert reason(policy(name), 3, 1.0) is StopReason.FINISHED


def test_greedy_goes_on_whatever_the_time():
    assert reason(policy('greedy'), 1, -1.0) is StopReason.NONE


def test_static_runs_its_stages_and_has_no_timer():
    made = policy('static_2')
    assert [reason(made, k, -1.0) for k in (0, 1, 2)] == [0, 0, StopReason.FINISHED]
    assert made.lead_s() == -inf


@pytest.mark.parametrize('name', ['alert', 'fixed_p99', 'greedy'])
def test_the_timer_leads_by_what_publishing_takes_on_average(name):
    made = policy(name)
    for took_s in [0.001, 0.003] * 200:
        made.observe_publish(took_s, by_timer=True)
    assert made.lead_s() == pytest.approx(0.002, rel=0.1)


def test_fixed_p99_needs_the_99th_percentile_that_was_measured_and_learns_nothing():
    made = policy('fixed_p99')
    for _ in range(50):
        made.observe_stage(0, 1.0, finished=True)
    assert reason(made, 1, 2.01 * STAGE_S) is StopReason.NONE
    assert reason(made, 1, 1.99 * STAGE_S) is StopReason.DEADLINE


def test_alert_follows_the_slowdown():
    made = policy('alert')
    for _ in range(50):
        made.observe_stage(1, 3 * STAGE_S, finished=True)
    assert made.slowdown == pytest.approx(3.0, rel=0.01)
    assert reason(made, 1, 3 * STAGE_S) is StopReason.DEADLINE
    assert reason(made, 1, 5 * STAGE_S) is StopReason.NONE


def test_alert_asks_for_less_certainty_where_more_misses_are_accepted():
    # Half of the cases: the mean is enough.
    careless, careful = policy('alert', target=0.5), policy('alert', target=0.01)
    assert reason(careless, 1, 1.05 * STAGE_S) is StopReason.NONE
    assert reason(careful, 1, 1.05 * STAGE_S) is StopReason.DEADLINE


def test_alert_learns_from_a_cut_stage_only_what_is_certain():
    made = policy('alert')
    made.observe_stage(1, 0.1 * STAGE_S, finished=False)
    assert made.slowdown == 1.0
    made.observe_stage(1, 4 * STAGE_S, finished=False)
    assert made.slowdown > 2.0
