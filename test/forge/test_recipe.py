import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip('torch')

from small_training import recipe, small_net  # noqa: E402

from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge.recipe import learning_rate, parameter_groups  # noqa: E402


@given(steps=st.integers(1, 2000), cycles=st.integers(1, 5))
def test_the_learning_rate_stays_between_nothing_and_its_peak(steps, cycles):
    rates = [learning_rate(step, steps, 0.1, cycles) for step in range(steps)]
    assert min(rates) > 0
    assert max(rates) <= 0.1


def test_the_learning_rate_rises_and_then_falls():
    rates = [learning_rate(step, 1000, 1.0) for step in range(1000)]
    top = rates.index(max(rates))
    assert 40 < top < 50
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[0] == pytest.approx(1 / 50)
    assert rates[500] == pytest.approx(0.5)
    assert rates[-1] < 1e-5


def test_each_cycle_starts_anew():
    rates = [learning_rate(step, 1000, 1.0, cycles=4) for step in range(1000)]
    for start in (250, 500, 750):
        assert rates[start - 1] < 1e-3
        assert rates[start] == 1
        assert rates[start + 125] == pytest.approx(0.5)


@given(steps=st.integers(1, 20), data=st.data())
def test_a_cycle_that_starts_at_a_step_starts_at_the_peak(steps, data):
    cycles = data.draw(st.integers(1, steps))
    starts = [step for step in range(steps) if step * cycles % steps == 0]
    assert {learning_rate(step, steps, 1.0, cycles) for step in starts} == {1.0}


def test_the_start_of_a_cycle_is_found_where_fractions_miss_it():
    assert learning_rate(5, 10, 1.0, cycles=6) == 1


def test_vectors_do_not_decay():
    decaying, others = parameter_groups(small_net(), 0.01)
    assert (decaying['weight_decay'], others['weight_decay']) == (0.01, 0)
    assert {p.ndim for p in decaying['params']} == {2, 4}
    assert {p.ndim for p in others['params']} == {1}
    total = len(list(small_net().parameters()))
    assert len(decaying['params']) + len(others['params']) == total


def test_a_frozen_weight_is_not_stepped():
    net = small_net()
    net.stages[0].body.requires_grad_(False)
    parameters = [p for group in parameter_groups(net, 0.1) for p in group['params']]
    assert len(parameters) == sum(p.requires_grad for p in net.parameters()) == 8


@pytest.mark.parametrize(
    'change',
    [
        {'epochs': 0},
        {'batch': 0},
        {'learning_rate': 0},
        {'learning_rate': float('nan')},
        {'seed': -1},
        {'ema': 1},
        {'weight_decay': -1},
        {'patience': -1},
        {'precision': '16-mixed'},
    ],
)
def test_a_value_out_of_range_is_named(change):
    (name,) = change
    with pytest.raises(ConfigurationError, match=f'{name} is .*; give'):
        recipe(**change)
