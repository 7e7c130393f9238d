import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from anytime_dnn_ros.ladder.combine import Combiner, log_softmax
from anytime_dnn_ros.ladder.manifest import CombineSpec

COUNT = 4
LOGITS = arrays(np.float32, 6, elements=st.floats(-30, 30, width=32))
WEIGHT_ROWS = tuple(tuple(0.25 + 0.5 * i for i in range(k)) for k in range(1, COUNT + 1))
SPECS = [
    CombineSpec('last'),
    CombineSpec('product'),
    CombineSpec('average'),
    CombineSpec('average', WEIGHT_ROWS),
    CombineSpec('stack', WEIGHT_ROWS),
]


def combine(spec, members):
    combiner = Combiner(spec)
    return [np.exp(log_softmax(combiner.add(member))) for member in members]


@pytest.mark.parametrize('spec', SPECS, ids=str)
@given(members=st.lists(LOGITS, min_size=1, max_size=COUNT))
def test_every_prefix_is_a_distribution(spec, members):
    for probabilities in combine(spec, members):
        assert probabilities.dtype == np.float32
        assert probabilities.sum() == pytest.approx(1, abs=1e-5)
        assert (probabilities >= 0).all()


@given(logits=LOGITS, count=st.integers(1, COUNT))
def test_the_average_of_equal_members_is_the_member(logits, count):
    (*_, last) = combine(CombineSpec('average'), [logits] * count)
    np.testing.assert_allclose(last, np.exp(log_softmax(logits)), atol=1e-6)


@given(members=st.lists(LOGITS, min_size=1, max_size=COUNT), order=st.randoms())
def test_product_and_average_do_not_depend_on_the_order(members, order):
    shuffled = order.sample(members, len(members))
    for rule in ('product', 'average'):
        (*_, one) = combine(CombineSpec(rule), members)
        (*_, other) = combine(CombineSpec(rule), shuffled)
        np.testing.assert_allclose(one, other, atol=1e-4)


@given(members=st.lists(LOGITS, min_size=1, max_size=COUNT))
def test_last_is_the_newest_answer_alone(members):
    for probabilities, logits in zip(combine(CombineSpec('last'), members), members, strict=True):
        np.testing.assert_array_equal(probabilities, np.exp(log_softmax(logits)))


@given(members=st.lists(LOGITS, min_size=2, max_size=2))
def test_product_multiplies_probabilities(members):
    (*_, product) = combine(CombineSpec('product'), members)
    p, q = (np.exp(log_softmax(m).astype(np.float64)) for m in members)
    np.testing.assert_allclose(product, p * q / (p * q).sum(), atol=1e-5)


@given(members=st.lists(LOGITS, min_size=2, max_size=2))
def test_average_is_the_weighted_mean(members):
    (*_, average) = combine(CombineSpec('average', ((1.0,), (1.0, 3.0))), members)
    p, q = (np.exp(log_softmax(m)) for m in members)
    np.testing.assert_allclose(average, (p + 3 * q) / 4, atol=1e-6)


def test_stack_weighs_the_members():
    members = [np.array([1, 0], np.float32), np.array([0, 1], np.float32)]
    (*_, stacked) = combine(CombineSpec('stack', ((1.0,), (0.0, 2.0))), members)
    np.testing.assert_allclose(stacked, np.exp(log_softmax(2 * members[1])), atol=1e-6)


@pytest.mark.parametrize('spec', SPECS, ids=str)
def test_reset_forgets_the_frame_before(spec):
    first, second = np.array([5, 0, 0], np.float32), np.array([0, 1, 0], np.float32)
    combiner = Combiner(spec)
    combiner.add(first)
    combiner.reset()
    np.testing.assert_array_equal(combiner.add(second), Combiner(spec).add(second))
