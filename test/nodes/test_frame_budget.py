import pytest

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.nodes.frame_budget import FrameBudget


def budgets_ms(budget, count):
    return [round(1e3 * budget.next_s(), 6) for _ in range(count)]


def test_without_a_message_the_parameter_holds():
    assert budgets_ms(FrameBudget(50.0, 1.0, 1000.0), 3) == [50, 50, 50]


def test_a_message_holds_for_its_number_of_frames():
    budget = FrameBudget(50.0, 1.0, 1000.0)
    budget.override(20.0, frames=2)
    assert budgets_ms(budget, 4) == [20, 20, 50, 50]


def test_to_look_at_the_budget_uses_up_nothing_of_a_message():
    budget = FrameBudget(50.0, 1.0, 1000.0)
    budget.override(20.0, frames=1)
    assert [budget.present_s, budget.present_s, budget.next_s()] == [0.02] * 3
    assert budget.present_s == 0.05


def test_a_message_for_0_frames_holds_until_0_ms_ends_it():
    budget = FrameBudget(50.0, 1.0, 1000.0)
    budget.override(20.0, frames=0)
    assert budgets_ms(budget, 5) == [20] * 5
    budget.override(0.0, frames=0)
    assert budgets_ms(budget, 2) == [50, 50]


@pytest.mark.parametrize('budget_ms', [-1.0, 0.5, 1e12, float('nan'), float('inf')])
def test_an_unusable_budget_is_refused_and_changes_nothing(budget_ms):
    budget = FrameBudget(50.0, 1.0, 1000.0)
    budget.override(20.0, frames=0)
    with pytest.raises(ConfigurationError, match=r'budget_ms = .* send 1 to 1000'):
        budget.override(budget_ms, frames=0)
    assert budgets_ms(budget, 1) == [20]
