import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.ladder.answer import Answer, make_answer
from anytime_dnn_ros.quality.guard import Guard, guarded_probabilities
from anytime_dnn_ros.quality.temperature import fit_temperature, probabilities_at
from quality.graded_answers import scores_and_labels


def answers(*rows):
    made = [np.array(row, np.float32) for row in rows]
    return [Answer(k, p, float(p.max())) for k, p in enumerate(made, start=1)]


def publish(monotone, given_answers, temperatures=(1.0,) * 4):
    guard = Guard(monotone, temperatures)
    return [guard.guarded(answer) for answer in given_answers]


THREE = answers((0.6, 0.3, 0.1), (0.2, 0.5, 0.3), (0.1, 0.8, 0.1))


def test_without_a_guard_each_stage_speaks_for_itself():
    for own, published in zip(THREE, publish('none', THREE), strict=True):
        np.testing.assert_array_equal(own.probabilities, published.probabilities)
        assert own.stage == published.stage


def test_caching_keeps_the_surest_answer_and_says_which_stage_has_run():
    published = publish('caching', THREE)
    assert [a.probabilities.argmax() for a in published] == [0, 0, 1]
    assert [a.stage for a in published] == [1, 2, 3]
    assert [a.confidence for a in published] == pytest.approx([0.6, 0.6, 0.8])


def test_of_two_equally_sure_answers_the_later_is_published():
    same = answers((0.7, 0.3), (0.3, 0.7))
    assert publish('caching', same)[1].probabilities.argmax() == 1


def test_the_product_counts_the_newest_as_much_as_all_before_it():
    p = [a.probabilities.astype(float) for a in THREE]
    published = publish('product', THREE)
    np.testing.assert_allclose(published[0].probabilities, p[0], rtol=1e-5)
    for k, powers in ((1, (1 / 3, 2 / 3)), (2, (1 / 7, 2 / 7, 4 / 7))):
        expected = np.prod([q**w for q, w in zip(p, powers, strict=False)], axis=0)
        np.testing.assert_allclose(
            published[k].probabilities, expected / expected.sum(), rtol=1e-5
        )


@pytest.mark.parametrize('monotone', ['none', 'caching', 'product'])
def test_a_class_that_is_impossible_for_all_stages_breaks_nothing(monotone):
    for answer in publish(monotone, answers((1, 0, 0), (0, 1, 0), (1, 0, 0))):
        assert np.isfinite(answer.probabilities).all()
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize('monotone', ['caching', 'product'])
def test_a_temperature_softens_what_is_published_and_names_the_same_class(monotone):
    plain = publish(monotone, THREE)
    soft = publish(monotone, THREE, (1.0, 2.0, 3.0))
    assert soft[0].confidence == pytest.approx(plain[0].confidence)
    for one, other in zip(plain[1:], soft[1:], strict=True):
        assert one.confidence > other.confidence
        assert one.probabilities.argmax() == other.probabilities.argmax()


@pytest.mark.parametrize('monotone', ['none', 'caching', 'product'])
def test_a_frame_leaves_nothing_behind(monotone):
    guard = Guard(monotone, (1.0,) * 4)
    first = [guard.guarded(a).probabilities for a in THREE]
    for answer in answers((0.0, 0.0, 1.0), (0.0, 0.1, 0.9)):
        guard.reset()
        guard.guarded(answer if answer.stage == 1 else Answer(1, answer.probabilities, 0.9))
    guard.reset()
    for one, other in zip(first, [guard.guarded(a).probabilities for a in THREE], strict=True):
        np.testing.assert_array_equal(one, other)


@given(
    st.sampled_from(['none', 'caching', 'product']),
    st.lists(st.lists(st.floats(-30, 30), min_size=5, max_size=5), min_size=1, max_size=6),
)
def test_whatever_the_scores_an_answer_is_a_distribution(monotone, rows):
    made = [make_answer(k, np.array(row, np.float32)) for k, row in enumerate(rows, start=1)]
    for own, answer in zip(made, publish(monotone, made, (1.3,) * 6), strict=True):
        assert answer.stage == own.stage
        assert answer.probabilities.dtype == np.float32
        assert answer.probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert answer.confidence == pytest.approx(float(answer.probabilities.max()))


@given(st.lists(st.floats(-5, 5), min_size=4, max_size=4), st.integers(2, 5))
def test_stages_that_say_the_same_are_published_as_they_are(row, stages):
    same = [make_answer(k, np.array(row, np.float32)) for k in range(1, stages + 1)]
    for monotone in ('caching', 'product'):
        last = publish(monotone, same, (1.0,) * stages)[-1]
        np.testing.assert_allclose(last.probabilities, same[0].probabilities, rtol=1e-4)


def test_many_images_are_guarded_as_one_by_one_and_lose_fewer_right_answers():
    scores, labels = scores_and_labels(2000, 1)
    temperatures = [fit_temperature(scores[:, k], labels) for k in range(4)]
    own = probabilities_at(scores, temperatures)
    lost = {}
    for monotone in ('none', 'caching', 'product'):
        published = guarded_probabilities(own, monotone, (1.0,) * 4)
        one = [Answer(k + 1, p, float(p.max())) for k, p in enumerate(own[7])]
        for k, answer in enumerate(publish(monotone, one)):
            np.testing.assert_array_equal(published[7, k], answer.probabilities)
        right = published.argmax(2) == labels[:, None]
        lost[monotone] = (np.logical_or.accumulate(right, 1) & ~right).any(1).mean()
    assert lost['caching'] < lost['none']
    assert lost['product'] < lost['none']
