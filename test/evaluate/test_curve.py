"""The curve and its area: by hand, and what must hold for any curve."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate.curve import Budget, area_under_curve, measure_curve
from anytime_dnn_ros.ladder.manifest import Quality, StageQuality
from anytime_dnn_ros.timing.reference import ReferenceTimes
from ladders import make_ladder

SHARES = st.floats(0, 1)


@st.composite
def curves(draw):
    count = draw(st.integers(1, 6))
    costs = sorted(draw(st.lists(st.floats(0, 100), min_size=count, max_size=count)))
    return costs, draw(st.lists(SHARES, min_size=count, max_size=count))


@st.composite
def budgets(draw):
    low = draw(st.floats(0, 100))
    return Budget(low, low + draw(st.floats(0.1, 100)))


def test_area_counted_by_hand():
    # A guess until 2, then 0.6 until 5, then 0.9.
    costs, accuracies = [2.0, 5.0], [0.6, 0.9]
    area = area_under_curve(costs, accuracies, Budget(0, 10), 0.1)
    assert area == pytest.approx(0.1 * 0.2 + 0.6 * 0.3 + 0.9 * 0.5)
    assert area_under_curve(costs, accuracies, Budget(3, 7), 0.1) == pytest.approx(0.75)
    assert area_under_curve(costs, accuracies, Budget(6, 7), 0.1) == pytest.approx(0.9)
    assert area_under_curve(costs, accuracies, Budget(0, 2), 0.1) == pytest.approx(0.1)


def test_the_newest_exit_counts_even_where_it_is_worse():
    assert area_under_curve([0.0, 5.0], [0.9, 0.5], Budget(0, 10), 0.1) == pytest.approx(0.7)


@given(curves(), budgets(), SHARES)
def test_area_lies_between_the_worst_and_the_best_answer(curve, budget, chance):
    area = area_under_curve(*curve, budget, chance)
    heights = [chance, *curve[1]]
    assert min(heights) - 1e-9 <= area <= max(heights) + 1e-9


@given(curves(), budgets(), SHARES)
def test_area_is_the_mean_of_the_step_function(curve, budget, chance):
    costs, accuracies = curve
    # Midpoints of a fine grid: each step edge costs at most one cell.
    cells = 4000
    at = budget.low + (np.arange(cells) + 0.5) / cells * (budget.high - budget.low)
    finished = np.searchsorted(costs, at, side='right')
    mean = np.array([chance, *accuracies])[finished].mean()
    assert area_under_curve(costs, accuracies, budget, chance) == pytest.approx(
        mean, abs=(len(costs) + 1) / cells
    )


@given(curves(), budgets(), SHARES, st.floats(0, 50))
def test_a_curve_that_costs_more_is_worth_no_more(curve, budget, chance, extra):
    costs, accuracies = curve
    rising = sorted([chance, *accuracies])
    later = [cost + extra for cost in costs]
    assert area_under_curve(later, rising[1:], budget, rising[0]) <= (
        area_under_curve(costs, rising[1:], budget, rising[0]) + 1e-9
    )


@pytest.mark.parametrize('ends', [(5, 5), (6, 5), (-1, 5), (0, float('inf')), (float('nan'), 1)])
def test_an_empty_budget_is_refused(ends):
    with pytest.raises(ConfigurationError, match='LO,HI'):
        Budget(*ends)


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('curve') / 'colours')


@pytest.fixture
def measured():
    """400 answers of three exits, more right and more sure later; and stage times, seconds."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    noise = rng.normal(size=(400, 3, 3))
    signal = np.array([1.0, 2.0, 3.0])[None, :, None]
    # `signal * x` is the log-posterior of this noise: the scores are three times too sharp.
    x = noise + signal * np.eye(3)[labels][:, None, :]
    scores = (3 * signal * x).astype(np.float32)
    times = ReferenceTimes(np.tile([0.001, 0.002, 0.003], (5, 1)))
    return scores, labels, times


def test_every_exit_has_its_sequential_cost_and_its_figures(bundle, measured):
    curve = measure_curve(bundle, 'colours', *measured)
    scores, labels, _ = measured
    macs = [stage.macs for stage in bundle.manifest.stages]
    assert [e.macs_sequential for e in curve.exits] == [macs[0], sum(macs[:2]), sum(macs)]
    assert [e.time_ms for e in curve.exits] == pytest.approx([1, 3, 6])
    assert [e.time_p99_ms for e in curve.exits] == pytest.approx([1, 3, 6])
    accuracy = (scores.argmax(2) == labels[:, None]).mean(0)
    assert [e.top1 for e in curve.exits] == pytest.approx(accuracy)
    assert accuracy[0] < accuracy[1] < accuracy[2]
    p = np.exp(scores) / np.exp(scores).sum(2, keepdims=True)
    true = np.take_along_axis(p, labels[:, None, None], 2)[..., 0]
    assert [e.nll for e in curve.exits] == pytest.approx(-np.log(true).mean(0), rel=1e-4)
    assert curve.chance == pytest.approx(1 / 3)


def test_the_temperature_of_the_bundle_changes_only_what_is_called_calibrated(bundle, measured):
    plain = measure_curve(bundle, 'a', *measured)
    quality = Quality('none', True, tuple(StageQuality(3.0, None) for _ in range(3)))
    soft = measure_curve(replace(bundle, quality=quality), 'a', *measured)
    none = measure_curve(replace(bundle, quality=None), 'a', *measured)
    for one, other, bare in zip(plain.exits, soft.exits, none.exits, strict=True):
        assert (one.top1, one.ece, one.nll) == (other.top1, other.ece, other.nll)
        assert one.ece == one.ece_calibrated  # its temperatures are 1
        # 3 is the right temperature of these scores.
        assert other.ece_calibrated < other.ece
        assert other.nll_calibrated < other.nll
        assert other.temperature == 3
        assert (bare.temperature, bare.ece_calibrated, bare.nll_calibrated) == (None, None, None)
    assert soft.monotone_violations == plain.monotone_violations
    assert none.monotone_violations_calibrated is None
    assert none.reliability_calibrated is None


def test_area_of_a_ladder_over_either_cost(bundle, measured):
    curve = measure_curve(bundle, 'colours', *measured)
    a, b, c = (e.top1 for e in curve.exits)
    assert curve.area(Budget(0, 6), 'time_ms') == pytest.approx((1 / 3 + 2 * a + 3 * b) / 6)
    total = curve.exits[-1].macs_sequential
    assert curve.area(Budget(0, total), 'macs_sequential') == pytest.approx((1 / 3 + a + b) / 3)
    assert curve.area(Budget(total, 2 * total), 'macs_sequential') == pytest.approx(c)
