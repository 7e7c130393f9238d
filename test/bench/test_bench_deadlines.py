"""Deadlines from measured frames, and those that are given."""

import pytest

from anytime_dnn_ros.bench.deadlines import auto_deadlines, frames_by_load, given_deadlines
from anytime_dnn_ros.errors import ConfigurationError
from bench.small_recordings import PERIOD_S, frame, recording

FAST = [frame(i, stage_s=(0.001, 0.001, 0.001)) for i in range(300)]
SLOW = [frame(i, stage_s=(0.020, 0.050, 0.050)) for i in range(300)]


def test_three_deadlines_from_rest_and_load():
    all_at_rest, middle, first_under_load = auto_deadlines(FAST, SLOW)
    # Fit 0.98 ms, publishing 0.12 ms, 50 % to spare, rounded up to tenths.
    assert all_at_rest.ms == pytest.approx(6.6)
    assert first_under_load.ms == pytest.approx(31.7)
    assert middle.ms == pytest.approx((6.5 + 31.65) / 2, abs=0.1)
    assert 'all stages' in all_at_rest.why
    assert 'first stage' in first_under_load.why


def test_a_stray_frame_does_not_set_the_deadline():
    stray = frame(301, stage_s=(9.0, 9.0, 9.0))
    loaded = [*SLOW, *SLOW]
    assert auto_deadlines(FAST, [*loaded, stray]) == auto_deadlines(FAST, loaded)


def test_no_deadline_is_below_a_millisecond_and_none_stands_twice():
    tiny = [frame(i, stage_s=(1e-6,) * 3) for i in range(10)]
    deadlines = auto_deadlines(tiny, tiny)
    assert [d.ms for d in deadlines] == sorted({d.ms for d in deadlines})
    assert deadlines[0].ms >= 1.0


def test_frames_are_parted_where_the_load_comes_on():
    made = recording(FAST[:10], onset_s=4 * PERIOD_S)
    rest, loaded = frames_by_load([made])
    assert (len(rest), len(loaded)) == (4, 6)
    rest, loaded = frames_by_load([recording(FAST[:10])])
    assert rest == loaded


def test_given_deadlines_are_taken_once_each():
    assert [d.ms for d in given_deadlines('5, 2.5,5')] == [5.0, 2.5]


@pytest.mark.parametrize('text', ['', '0.5', '5,', 'five', 'nan', '-3', '1e9'])
def test_what_is_no_deadline_is_refused(text):
    with pytest.raises(ConfigurationError, match='--deadlines'):
        given_deadlines(text)
