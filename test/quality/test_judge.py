from dataclasses import replace
from functools import cache
from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.ladder.answer import make_answer
from anytime_dnn_ros.ladder.manifest import Quality, StageQuality
from anytime_dnn_ros.quality.judge import Judge
from quality.graded_answers import CLASSES
from quality.judged_quality import STAGES, counted_quality

GUARDS = ('none', 'caching', 'product')
QUALITY = cache(counted_quality)
SCORES = st.lists(
    st.lists(st.floats(-20, 20), min_size=CLASSES, max_size=CLASSES),
    min_size=STAGES,
    max_size=STAGES,
)


def judge_all(judge, rows):
    judge.reset()
    return [judge.judge(make_answer(k, np.array(r, np.float32))) for k, r in enumerate(rows, 1)]


@given(st.sampled_from(GUARDS), SCORES)
def test_what_is_declared_never_falls_and_what_is_promised_is_no_less(monotone, rows):
    judgements = judge_all(Judge(QUALITY(), STAGES, monotone), rows)
    declared = [j.expected_accuracy for j in judgements]
    assert declared == sorted(declared)
    for k, judgement in enumerate(judgements):
        assert judgement.answer.stage == judgement.newest.stage == k + 1
        path = [judgement.expected_accuracy, *judgement.expected_later]
        assert path == sorted(path)
        assert path[0] >= 0
        assert path[-1] <= 1
        assert len(path) == STAGES - k


@given(st.sampled_from(GUARDS), SCORES)
def test_label_sets_shrink_and_are_never_empty(monotone, rows):
    sets = [j.label_set for j in judge_all(Judge(QUALITY(), STAGES, monotone), rows)]
    for earlier, later in zip([range(CLASSES), *sets], sets, strict=False):
        assert later
        assert set(later) <= set(earlier)


@given(st.sampled_from(GUARDS), SCORES, SCORES)
def test_a_frame_leaves_nothing_behind(monotone, one, other):
    judge = Judge(QUALITY(), STAGES, monotone)
    first = judge_all(judge, one)
    judge_all(judge, other)
    for before, after in zip(first, judge_all(judge, one), strict=True):
        assert before.expected_accuracy == after.expected_accuracy
        assert before.expected_later == after.expected_later
        assert before.label_set == after.label_set
        np.testing.assert_array_equal(before.answer.probabilities, after.answer.probabilities)


def test_a_frame_cut_short_leaves_nothing_behind():
    rows = np.random.default_rng(0).normal(0, 3, (STAGES, CLASSES))
    judge = Judge(QUALITY(), STAGES)
    whole = judge_all(judge, rows)
    judge_all(judge, 5 * rows[:2])
    assert judge_all(judge, rows)[-1].expected_later == whole[-1].expected_later
    assert judge_all(judge, rows)[0].expected_accuracy == whole[0].expected_accuracy


@pytest.mark.parametrize('monotone', GUARDS)
@pytest.mark.parametrize('quality', [None, 'seen'])
def test_nothing_is_declared_where_nothing_may_be(monotone, quality):
    given = None if quality is None else replace(QUALITY(), held_out=False)
    rows = np.random.default_rng(0).normal(0, 3, (STAGES, CLASSES))
    judge = Judge(given, STAGES, monotone)
    for k, judgement in enumerate(judge_all(judge, rows)):
        assert isnan(judgement.expected_accuracy)
        assert len(judgement.expected_later) == STAGES - k - 1
        assert all(map(isnan, judgement.expected_later))
        assert judgement.label_set == ()
        assert isnan(judge.accuracy(k))


def test_quality_without_a_profile_declares_the_accuracy_of_the_stages():
    accuracies = (0.8, None, 0.7, 0.9)
    quality = Quality('old', True, tuple(StageQuality(1.0, a) for a in accuracies))
    rows = np.random.default_rng(0).normal(0, 3, (STAGES, CLASSES))
    first, second, third, last = judge_all(Judge(quality, STAGES), rows)
    assert first.expected_accuracy == 0.8
    # Of a stage without an accuracy nothing is promised, above all not certainty.
    assert first.expected_later == pytest.approx((nan, 0.8, 0.9), nan_ok=True)
    assert all(map(isnan, second.expected_later))
    assert isnan(second.expected_accuracy)
    # The third stage is worse, and what was declared stands.
    assert third.expected_accuracy == 0.8
    assert third.expected_later == pytest.approx((1.0,))
    assert last.expected_accuracy == 0.9
    assert last.label_set == ()


def test_the_sure_are_promised_less_gain_than_those_in_doubt():
    judge = Judge(QUALITY(), STAGES)
    sure, torn = np.zeros(CLASSES, np.float32), np.zeros(CLASSES, np.float32)
    sure[3], torn[3], torn[5] = 20, 1.0, 0.9
    gains = []
    for scores in (sure, torn):
        judge.reset()
        judgement = judge.judge(make_answer(1, scores))
        gains.append(judgement.expected_later[-1] - judgement.expected_accuracy)
    assert gains[0] < 0.05 < gains[1]
