"""Monotonicity: counted by hand, and what must hold for any answers at all."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from anytime_dnn_ros.evaluate.monotone import FALLS, monotone_violations

SHAPES = st.tuples(st.integers(1, 8), st.integers(1, 6))


@st.composite
def answers(draw):
    shape = draw(SHAPES)
    p = draw(npst.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)))
    return p, draw(npst.arrays(np.bool_, shape))


def test_counted_by_hand():
    p = np.array(
        [
            [0.5, 0.6, 0.9],  # only rises
            [0.5, 0.47, 0.9],  # falls by 0.03, then rises
            [0.9, 0.85, 0.3],  # falls by 0.6 over two steps
            [0.2, 0.8, 0.65],  # falls by 0.15 at the end
        ],
        np.float32,
    )
    right = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    assert monotone_violations(p, right) == {
        'p_true_falls_over_0.01': 0.75,
        'p_true_falls_over_0.05': 0.5,
        'p_true_falls_over_0.1': 0.5,
        'p_true_falls_over_0.2': 0.25,
        'p_true_falls_over_0.5': 0.25,
        'right_then_wrong': 0.5,
        'exits_below_an_earlier': 0.0,
    }


def test_an_exit_below_a_much_earlier_one_counts():
    right = np.array([[1, 1, 0, 1], [1, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 1]], bool)
    figures = monotone_violations(np.zeros((4, 4), np.float32), right)
    # Accuracies 2/4, 1/4, 1/4, 3/4: the second and the third are below the first.
    assert figures['exits_below_an_earlier'] == pytest.approx(2 / 3)


@given(answers())
def test_shares_are_shares_and_larger_falls_are_rarer(given_answers):
    figures = monotone_violations(*given_answers)
    assert all(0 <= share <= 1 for share in figures.values())
    falls = [figures[f'p_true_falls_over_{d:g}'] for d in FALLS]
    assert falls == sorted(falls, reverse=True)


@given(answers())
def test_answers_that_only_improve_violate_nothing(given_answers):
    p, right = given_answers
    rising = np.maximum.accumulate(p, axis=1), np.logical_or.accumulate(right, axis=1)
    assert set(monotone_violations(*rising).values()) == {0.0}


@given(answers())
def test_a_pair_of_exits_that_are_not_neighbours_counts_as_well(given_answers):
    p, right = given_answers
    exits = p.shape[1]
    pairs = [(i, j) for j in range(exits) for i in range(j)]
    p64 = p.astype(np.float64)
    figures = monotone_violations(p, right)
    for d in FALLS:
        fallen = [any(row[i] - row[j] > d for i, j in pairs) for row in p64]
        assert figures[f'p_true_falls_over_{d:g}'] == np.mean(fallen)
    spoilt = [any(row[i] and not row[j] for i, j in pairs) for row in right]
    assert figures['right_then_wrong'] == np.mean(spoilt)
