from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.ladder.manifest import ExitRule
from anytime_dnn_ros.planner import Goals, Planner, Situation, StopReason
from anytime_dnn_ros.quality.judge import Judgement
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.reference import ReferenceTimes

LIKELY = np.array([0.6, 0.4], np.float32)
EXPECTED = (0.7, 0.8, 0.9)
# Stages of 10 ms each, without noise; publishing and the timer take 0.5 ms each.
REFERENCE = ReferenceTimes(np.full((4, 3), 0.010))
MACS = (1e6, 1e6, 2e6)
# Leaves the first exit at a largest probability of 0.7, the second at 0.5.
RULE = ExitRule('max_softmax', 1e6, 0.9, ((-0.7, 1.0, 0.0, 0.0), (-0.5, 1.0, 0.0, 0.0)))


def judged(stage, expected=EXPECTED, confidence=0.6):
    answer = Answer(stage, LIKELY, confidence)
    return Judgement(answer, answer, expected[stage - 1], tuple(expected[stage:]))


def at(stage, left_s=0.05, *, expected=EXPECTED, confidence=0.6, **options):
    return Situation(stage, 3, left_s, judged(stage, expected, confidence), **options)


def planner(goals=None, **options):
    made = Planner(REFERENCE, MACS, goals, timer_late_s=[0.0005], **options)
    for _ in range(20):
        made.observe_publish(0.0005, by_timer=False)
    made.plan(Situation(0, 3, 1.0, None))
    return made


@pytest.mark.parametrize(
    ('situation', 'goals', 'expected'),
    [
        (at(1), Goals(), StopReason.NONE),
        (at(1, 0.0112), Goals(), StopReason.NONE),
        (at(1, 0.0108), Goals(), StopReason.DEADLINE),
        (at(1, -1.0), Goals(), StopReason.DEADLINE),
        (at(1), Goals(confidence_target=0.6), StopReason.CONFIDENT),
        (at(1), Goals(confidence_target=0.61), StopReason.NONE),
        (at(1, confidence=1.0), Goals(), StopReason.NONE),
        (at(1), Goals(exit_rule=RULE), StopReason.NONE),
        (at(2), Goals(exit_rule=RULE), StopReason.CONFIDENT),
        # Whichever is content first stops.
        (at(1), Goals(confidence_target=0.5, exit_rule=RULE), StopReason.CONFIDENT),
        (at(3), Goals(), StopReason.FINISHED),
        (at(3), Goals(exit_rule=RULE), StopReason.FINISHED),
        # The ladder's end says more than the clock or the confidence.
        (at(3, -1.0), Goals(confidence_target=0.1), StopReason.FINISHED),
        (at(1, newer_waits=True), Goals(), StopReason.NONE),
        (at(1, newer_waits=True), Goals(yield_to_newer=True), StopReason.PREEMPTED),
        (at(1, expected=(0.9, 0.9, 0.9)), Goals(), StopReason.NO_GAIN),
        # The next stage brings nothing, the one after does, if there is time for both.
        (at(1, expected=(0.7, 0.7, 0.9)), Goals(), StopReason.NONE),
        (at(1, 0.015, expected=(0.7, 0.7, 0.9)), Goals(), StopReason.NO_GAIN),
        # A quarter of the ladder brings 0.1, three quarters bring 0.2.
        (at(1), Goals(compute_price=0.39), StopReason.NONE),
        (at(1), Goals(compute_price=0.41), StopReason.NO_GAIN),
        # Unknown gain is taken for one.
        (at(1, expected=(nan, nan, nan)), Goals(), StopReason.NONE),
        (at(1, expected=(nan, nan, nan)), Goals(compute_price=0.5), StopReason.NONE),
    ],
)
def test_go_on_or_stop_and_why(situation, goals, expected):
    assert planner(goals).plan(situation) is expected


def slow_at_times(share):
    """A planner whose first two stages take 10 ms, but 30 ms in a share of cases."""
    made = planner()
    for k in range(200):
        made.plan(Situation(0, 3, 1.0, None))
        slow = k % round(1 / share) == 0
        for stage in range(2):
            made.observe_stage(stage, 0.030 if slow else 0.010, finished=True)
    made.plan(Situation(0, 3, 1.0, None))
    return made


def test_an_unsure_stage_is_begun_where_it_can_be_cut_and_the_timer_is_then_early():
    made = slow_at_times(0.1)
    for k in range(1, 101):
        made.observe_publish(0.004 if k % 5 == 0 else 0.0005, by_timer=True)
    assert made.plan(at(1, 0.2)) is StopReason.NONE
    sure_s = made.lead_s()
    assert made.plan(at(1, 0.025)) is StopReason.NONE
    assert sure_s < 0.001
    assert made.lead_s() >= 0.004


def test_an_unsure_stage_is_not_begun_where_it_cannot_be_cut():
    made = slow_at_times(0.1)
    made._can_cut = False
    assert made.plan(at(1, 0.025)) is StopReason.DEADLINE
    assert made.plan(at(1, 0.2)) is StopReason.NONE


def test_a_stage_that_was_begun_last_time_is_begun_again_at_less():
    noise = np.full((20, 3), 0.010)
    # Fits in 3 of 20 cases: enough to repeat, too little to begin.
    noise[3:] = 0.02
    reference = ReferenceTimes(noise)
    left_s = 0.0165
    bold, shy = Planner(reference, MACS), Planner(reference, MACS)
    for made, before_s in ((bold, 1.0), (shy, 0.001)):
        made.plan(Situation(0, 3, 1.0, None))
        made.plan(at(1, before_s))
        made.plan(Situation(0, 3, 1.0, None))
    shares = [made._share_fitting(1, 1, left_s) for made in (bold, shy)]
    assert shares == [pytest.approx(0.15), 0]


def test_a_load_that_the_monitor_tells_of_stops_the_ladder_earlier():
    made = planner()
    made.observe_load(LoadSignal(1, 0.0, num_cores=2))
    assert made.plan(at(1, 0.012)) is StopReason.NONE
    made.observe_load(LoadSignal(3, 100.0, num_cores=2))
    assert made.plan(at(1, 0.012)) is StopReason.DEADLINE
    assert made.slowdown == pytest.approx(1.5)


def test_the_accuracy_target_finds_its_price():
    made = planner(Goals(accuracy_target=0.8))
    seen = []
    for _ in range(4000):
        made.plan(Situation(0, 3, 1.0, None))
        stage = 1
        while made.plan(at(stage, 1.0)) is StopReason.NONE:
            stage += 1
        seen.append(EXPECTED[stage - 1])
        made.observe_frame(missed=False, expected_accuracy=seen[-1])
    assert np.mean(seen[1000:]) == pytest.approx(0.8, abs=0.01)
    # A user's own price is not looked at then.
    made.goals = replace(made.goals, accuracy_target=0.0, compute_price=0.3)
    assert made.price == 0.3


@given(
    left_s=st.floats(-1, 1),
    took_s=st.lists(st.floats(0, 10), max_size=30),
    late_s=st.lists(st.floats(0, 10), max_size=30),
)
def test_the_same_observations_give_the_same_decisions(left_s, took_s, late_s):
    twins = planner(), planner()
    decisions = []
    for made in twins:
        for k, time_s in enumerate(took_s):
            if k % 3 == 0:
                made.plan(Situation(0, 3, 1.0, None))
            made.observe_stage(k % 3, time_s, finished=bool(k % 2))
        for time_s in late_s:
            made.observe_publish(time_s, by_timer=True)
        decisions.append((made.plan(at(1, left_s)), made.lead_s(), made.slowdown, made.margin))
    assert decisions[0] == decisions[1]


def test_the_surer_a_stage_the_later_the_timer():
    made = slow_at_times(0.1)
    for k in range(1, 101):
        made.observe_publish(0.0001 * (k % 10 + 1), by_timer=True)
    leads_s = []
    for left_s in (0.2, 0.0265, 0.022):
        made.plan(at(1, left_s))
        leads_s.append(made.lead_s())
    assert leads_s == sorted(leads_s)
    assert leads_s[0] < leads_s[-1]


def test_misses_of_the_first_stage_leave_less_to_the_others():
    made = slow_at_times(0.02)
    for k in range(1, 201):
        made.observe_publish(0.0001 * (k % 20 + 1), by_timer=True)
    made.plan(at(1, 0.022))
    before_s = made.lead_s()
    made.observe_frame(missed=True, expected_accuracy=nan)
    made.plan(at(1, 0.022))
    assert made.lead_s() > before_s
    for _ in range(200):
        made.observe_frame(missed=False, expected_accuracy=nan)
    made.plan(at(1, 0.022))
    assert made.lead_s() == before_s


def test_a_stricter_target_does_not_make_the_timer_fire_at_once():
    made = planner(Goals(miss_rate_target=0.5))
    for _ in range(100):
        made.observe_frame(missed=True, expected_accuracy=nan)
    made.goals = Goals(miss_rate_target=0.01)
    assert made.plan(at(1, 0.05)) is StopReason.NONE
    assert made.lead_s() < 0.05


def test_at_first_the_timer_is_as_late_as_it_was_at_rest_and_publishing_comes_on_top():
    made = Planner(REFERENCE, MACS, timer_late_s=[0.0002] * 20)
    for _ in range(20):
        made.observe_publish(0.0003, by_timer=False)
    made.plan(Situation(0, 3, 0.05, None))
    assert made.lead_s() == pytest.approx(0.0005)


def test_another_engine_is_planned_for_by_its_own_times():
    made = planner(can_cut=False)
    for stage in range(3):
        made.observe_stage(stage, 0.3, finished=True)
    assert made.slowdown > 10
    assert made.plan(at(1)) is StopReason.DEADLINE
    # Each stage takes 10 ms in half of the cases, 90 ms in the others.
    unsure = ReferenceTimes(np.array([[0.01, 0.01, 0.01], [0.09, 0.09, 0.09]] * 8))
    made.use_engine(unsure, can_cut=True, threads=1)
    assert made.slowdown == 1
    # What it can cut, it begins though it does not fit in all cases.
    assert made.plan(at(1)) is StopReason.NONE
    made.use_engine(unsure, can_cut=False, threads=1)
    assert made.plan(at(1)) is StopReason.DEADLINE
