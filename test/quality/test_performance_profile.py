from dataclasses import replace

import numpy as np
import pytest

from anytime_dnn_ros.ladder.manifest import Quality, StageQuality
from anytime_dnn_ros.ladder.profile import Profile, ProfileStage
from anytime_dnn_ros.quality import CalibrationError
from anytime_dnn_ros.quality.performance_profile import (
    BINS,
    SMOOTHING,
    count_profile,
    count_profiles,
    find_profile,
    stage_tables,
)
from quality.judged_quality import STAGES, counted_quality


def test_counts_of_known_answers():
    confidence = np.array([[0.2, 0.3], [0.4, 0.4], [0.6, 0.9], [0.8, 0.8]])
    agrees = np.array([[True, True], [True, False], [True, True], [True, True]])
    right = np.array([[False, True], [True, False], [True, True], [True, True]])
    profile = count_profile('none', confidence, agrees, right, temperatures=(1, 2), bins=2)
    first, second = profile.stages
    assert first.edges == (0.5,)
    assert first.images == (0, 2, 0, 2)
    assert first.right == ((0, 1, 0, 2), (0, 1, 0, 2))
    assert second.edges == (0.6,)
    assert second.images == (1, 1, 0, 2)
    assert second.right == ((0, 1, 0, 2),)
    assert (first.temperature, second.temperature) == (1, 2)
    assert first.label_threshold is None


def test_a_cell_is_smoothed_towards_its_bin_and_that_towards_its_stage():
    stage = ProfileStage(1.0, 0.0, None, (0.5,), (0, 10, 2, 88), ((0, 4, 0, 80),))
    quality = Quality('x', True, (StageQuality(),), profiles=(Profile('none', (stage,)),))
    (table,) = stage_tables(quality, 1, 'none')
    overall = 85 / 102
    low, high = (4 + SMOOTHING * overall) / 15, (80 + SMOOTHING * overall) / 95
    expected = [
        low,
        (4 + SMOOTHING * low) / 15,
        SMOOTHING * high / 7,
        (80 + SMOOTHING * high) / 93,
    ]
    assert table.chances[0] == pytest.approx(expected)
    assert table.accuracy == 0.84
    assert [table.cell(c, agrees=a) for c, a in ((0.4, False), (0.5, True))] == [0, 3]


def test_bins_hold_equal_counts_and_every_later_stage_is_counted():
    for profile in counted_quality().profiles:
        for k, stage in enumerate(profile.stages):
            per_bin = np.array(stage.images).reshape(-1, 2).sum(1)
            assert per_bin.sum() == 2000
            assert len(per_bin) <= BINS
            # The surest are as sure as a float can be, and cannot be parted.
            np.testing.assert_allclose(per_bin[:4], 200, atol=2)
            assert len(stage.right) == STAGES - k
        # Before the first stage nobody named another class.
        assert not any(profile.stages[0].images[::2])
        assert profile.stages[0].temperature == 1


def test_confidences_that_are_all_the_same_make_few_bins():
    one = np.ones((30, 2))
    profile = count_profile('none', one, one > 0, one > 0, temperatures=(1, 1))
    assert [len(stage.images) for stage in profile.stages] == [4, 4]


def test_the_sure_are_right_more_often_and_agreement_counts():
    table = stage_tables(counted_quality(), STAGES, 'none')[1]
    now = table.chances[0]
    assert now[-1] > now[1]
    assert np.mean(now[1::2]) > np.mean(now[::2])
    # Whoever is in doubt gains most by going on.
    gains = np.array(table.chances[-1]) - np.array(now)
    assert gains[1] > gains[-1] > -0.01


def test_only_the_counts_of_the_guard_in_use_are_taken():
    quality = counted_quality()
    only = replace(quality, profiles=quality.profiles[:1])
    assert find_profile(only, 'none') is quality.profiles[0]
    assert find_profile(only, 'product') is None
    tables = stage_tables(only, STAGES, 'product')
    assert [t.accuracy for t in tables] == [s.accuracy for s in quality.stages]


def test_what_does_not_belong_together_is_refused():
    one = np.ones((3, 2))
    with pytest.raises(CalibrationError, match='do not belong together'):
        count_profile('none', one, one > 0, one[:2] > 0, temperatures=(1, 1))
    with pytest.raises(CalibrationError, match='do not belong together'):
        count_profile('none', one[:0], one[:0] > 0, one[:0] > 0, temperatures=(1, 1))
    some = np.arange(2)
    with pytest.raises(CalibrationError, match='one label per image'):
        count_profiles(np.ones((3, 2, 4), np.float32), some, some, some)
