import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.quality.forecast import Forecaster
from anytime_dnn_ros.quality.judge import Judgement


def judgement(named=0, confidence=0.8, expected=0.9):
    p = np.full(4, (1 - confidence) / 3, np.float32)
    p[named] = confidence
    answer = Answer(2, p, confidence)
    return Judgement(answer, answer, expected, ())


def test_nothing_is_forecast_from_nothing():
    forecaster = Forecaster()
    assert not forecaster.has_answer
    assert forecaster.forecast(1.0, 3) is None


def test_a_forecast_is_the_last_answer_with_less_confidence():
    forecaster = Forecaster()
    forecaster.observe(judgement(2), 10.0)
    made = forecaster.forecast(10.1, 3)
    assert made.answer.stage == 0
    assert made.answer.probabilities.argmax() == 2
    assert made.answer.probabilities.sum() == pytest.approx(1, abs=1e-6)
    assert 0.7 < made.answer.confidence < 0.8
    assert 0.8 < made.expected_accuracy < 0.9
    assert len(made.expected_later) == 3
    assert all(map(math.isnan, made.expected_later))
    assert made.label_set == ()


@given(ages=st.lists(st.floats(0, 1e6), min_size=2, max_size=5))
def test_the_older_the_answer_the_less_it_says(ages):
    forecaster = Forecaster()
    forecaster.observe(judgement(), 10.0)
    made = [forecaster.forecast(10.0 + age, 3) for age in sorted(ages)]
    declared = [m.expected_accuracy for m in made]
    assert declared == sorted(declared, reverse=True)
    assert all(0.25 - 1e-6 <= m.answer.confidence <= 0.8 + 1e-6 for m in made)


@pytest.mark.parametrize('period', [1, 10, 100])
def test_what_it_declares_is_true_where_the_scene_changes_at_random_moments(period):
    rng = np.random.default_rng(period)
    forecaster, named = Forecaster(), 0
    declared, true = [], []
    for frame in range(3000):
        if rng.random() < 1 / (10 * period):
            named = (named + rng.integers(1, 4)) % 4
        made = forecaster.forecast(frame / 30, 3)
        if made is not None and frame > 600:
            declared.append(made.expected_accuracy)
            true.append(made.answer.probabilities.argmax() == named)
        forecaster.observe(judgement(named, expected=1.0), frame / 30)
    assert np.mean(declared) == pytest.approx(np.mean(true), abs=0.02)


def test_unknown_quality_stays_unknown():
    forecaster = Forecaster()
    forecaster.observe(judgement(expected=math.nan), 0.0)
    assert math.isnan(forecaster.forecast(0.1, 2).expected_accuracy)


def test_an_earlier_frame_replaces_nothing():
    forecaster = Forecaster()
    forecaster.observe(judgement(1), 10.0)
    forecaster.observe(judgement(2), 9.0)
    assert forecaster.forecast(9.5, 2).answer.probabilities.argmax() == 1
