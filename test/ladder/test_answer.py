import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anytime_dnn_ros.ladder.answer import make_answer, top_classes
from anytime_dnn_ros.ladder.combine import log_softmax

LOGITS = arrays(np.float32, st.integers(1, 20), elements=st.floats(-50, 50, width=32))


@given(logits=LOGITS, temperature=st.floats(0.1, 10))
def test_an_answer_is_a_distribution_at_any_temperature(logits, temperature):
    answer = make_answer(2, log_softmax(logits), temperature)
    assert answer.stage == 2
    assert answer.probabilities.dtype == np.float32
    assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert answer.confidence == answer.probabilities.max()
    assert answer.is_finite


def test_temperature_softens_and_keeps_the_class():
    logs = log_softmax(np.array([0, 2, 1], np.float32))
    sharp, soft = make_answer(1, logs), make_answer(1, logs, 3.0)
    assert soft.confidence < sharp.confidence
    assert soft.probabilities.argmax() == sharp.probabilities.argmax() == 1
    np.testing.assert_allclose(soft.probabilities, np.exp(log_softmax(logs / 3)), atol=1e-6)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_network_gone_wrong_is_not_finite(bad):
    with np.errstate(invalid='ignore'):
        answer = make_answer(1, np.array([0, bad, 1], np.float32))
    assert not answer.is_finite


@given(logits=LOGITS, count=st.integers(1, 30))
def test_top_classes_are_the_best_in_order(logits, count):
    answer = make_answer(1, log_softmax(logits))
    top = top_classes(answer, count)
    scores = [score for _, score in top]
    assert scores == sorted(answer.probabilities.tolist(), reverse=True)[:count]
    assert [answer.probabilities[index] for index, _ in top] == scores
    assert len({index for index, _ in top}) == min(count, logits.size)
