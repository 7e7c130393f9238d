import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.monitor.synthetic import (
    Profile,
    parse_profiles,
    synthetic_probes,
    value_at,
)


@pytest.mark.parametrize(
    ('profile', 'times_s', 'values'),
    [
        (Profile('step', low=1.0, high=9.0, start_s=5.0), (0, 4.9, 5, 1000), (1, 1, 9, 9)),
        (
            Profile('burst', low=1, high=9, start_s=10, period_s=20, length_s=5),
            (0, 9.9, 10, 14.9, 15, 29.9, 30, 35),
            (1, 1, 9, 9, 1, 1, 9, 1),
        ),
        (
            Profile('periodic', low=1, high=9, start_s=0, period_s=20),
            (0, 5, 10, 15, 20),
            (1, 5, 9, 5, 1),
        ),
    ],
)
def test_shapes(profile, times_s, values):
    assert [value_at(profile, t) for t in times_s] == pytest.approx(list(values))


@given(st.sampled_from(['step', 'burst', 'periodic']), st.floats(0.0, 1e6))
def test_a_value_lies_between_low_and_high(shape, time_s):
    assert 20.0 <= value_at(Profile(shape, low=20.0, high=80.0), time_s) <= 80.0


def test_several_profiles_play_together_from_the_first_sample_on():
    load, heat = synthetic_probes(
        'burst start_s=1 high=90; step quantity=temperature_c low=50 high=95 start_s=2'
    )
    assert load.read(100.0)['cpu_percent'] == 10.0
    assert heat.read(100.0) == {'temperature_c': 50.0}
    reading = load.read(101.0)
    assert reading['cpu_percent'] == 90.0
    assert set(reading['cpu_percent_per_core']) == {90.0}
    assert heat.read(102.0) == {'temperature_c': 95.0}


def test_settings_are_read_and_the_rest_keeps_its_default():
    assert parse_profiles(' periodic  period_s=3 ') == [Profile('periodic', period_s=3.0)]


@pytest.mark.parametrize(
    'text',
    [
        '',
        'ramp',
        'burst high',
        'burst high=',
        'burst high=nan',
        'burst high=inf',
        'burst height=3',
        'burst quantity=source',
        'burst shape=step',
        'periodic period_s=0',
        'burst;',
    ],
)
def test_a_bad_profile_is_one_clear_error(text):
    with pytest.raises(ConfigurationError, match=r'synthetic_profile.*write it like'):
        parse_profiles(text)
