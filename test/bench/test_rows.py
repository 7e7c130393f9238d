"""The figures of a pass, on frames whose outcome is known."""

from math import nan

import pytest

from anytime_dnn_ros.bench.outcome import FrameOutcome, Pass, Published
from anytime_dnn_ros.bench.rows import SETTLING_S, row, with_oracle

KEYS = {
    'load', 'deadline_ms', 'policy', 'frames', 'miss_rate', 'miss_rate_first_2s', 'accuracy',
    'accuracy_per_frame', 'accuracy_streaming', 'declared_accuracy', 'stages_mean', 'age_p50_ms',
    'age_p99_ms', 'p99_over_p50', 'cancel_to_result_ms', 'monotone_violations', 'energy_j',
    'forecast_rate', 'dropped_rate', 'stages_share',
}  # fmt: skip
DEADLINE_S = 0.1


def outcome(at_s, *, age_s=0.05, stage=2, named=0, label=0, declared=0.8, **changes):
    published = (
        () if changes.get('dropped') else (Published(at_s + age_s, stage, named, declared),)
    )
    values = {
        'arrival_s': at_s,
        'due_s': at_s + DEADLINE_S,
        'label': label,
        'published': published,
        'answered': bool(published),
    }
    return FrameOutcome(**{**values, **changes})


def of(frames, *, onset_s=None, policy='ours', **changes):
    return Pass('step', 100.0, policy, tuple(frames), onset_s, **changes)


def steady(count, first_s=SETTLING_S):
    return [first_s + 0.2 * i for i in range(count)]


def test_a_row_has_every_key_and_none_where_nothing_was_counted():
    assert set(row(of([]))) >= KEYS
    assert row(of([]))['miss_rate'] is None
    assert row(of([outcome(5.0)]))['energy_j'] is None
    assert row(of([outcome(5.0)], energy_j=2.5))['energy_j'] == 2.5


def test_late_forecast_and_unanswered_frames_are_missed_and_replaced_ones_are_not():
    kinds = [
        {},
        {'age_s': 0.2},
        {'stage': 0},
        {'dropped': 'stale'},
        {'dropped': 'replaced'},
    ]
    frames = [outcome(s, **kind) for s, kind in zip(steady(5), kinds, strict=True)]
    r = row(of(frames))
    assert r['miss_rate'] == 3 / 4
    assert r['accuracy'] == r['accuracy_per_frame'] == 1 / 4
    assert r['forecast_rate'] == 1 / 4
    assert r['dropped_rate'] == 2 / 5
    assert (r['frames'], r['frames_counted']) == (5, 4)
    # What is late has run its stages even so.
    assert r['stages_share'] == {'0': 2 / 4, '2': 2 / 4}


def test_an_answer_at_the_deadline_itself_is_in_time():
    at_s = 4.0
    exact = Published(at_s + DEADLINE_S, 1, 0, 0.8)
    frame = outcome(at_s, published=(exact,), due_s=exact.at_s)
    assert row(of([frame]))['miss_rate'] == 0


def test_the_first_seconds_of_the_run_and_of_the_load_are_counted_apart():
    late = {'age_s': 0.2}
    frames = [
        outcome(0.5, **late),
        outcome(3.0),
        outcome(6.0, **late),
        outcome(7.9),
        outcome(8.1),
        outcome(9.0, **late),
    ]
    r = row(of(frames, onset_s=6.0))
    assert r['miss_rate'] == 1 / 3
    assert r['miss_rate_first_2s'] == 1 / 2
    assert row(of(frames))['miss_rate_first_2s'] is None


def test_accuracy_counts_a_missed_frame_as_wrong_and_the_declared_one_leaves_it_out():
    frames = [
        outcome(3.0, declared=0.9),
        outcome(3.2, declared=0.7, named=1),
        outcome(3.4, age_s=0.2, declared=0.1),
    ]
    r = row(of(frames))
    assert r['accuracy'] == pytest.approx(1 / 3)
    assert r['accuracy_of_declared'] == 1 / 2
    assert r['declared_accuracy'] == pytest.approx(0.8)
    assert row(of([outcome(3.0, declared=nan)]))['declared_accuracy'] is None


def test_streaming_accuracy_asks_for_the_truth_of_the_moment():
    # The scene changes from 0 to 1: the frame of the change finds the answer of the scene before.
    labels = [0, 0, 1, 1]
    frames = [
        outcome(s, label=k, named=k, age_s=0.1) for s, k in zip(steady(4), labels, strict=True)
    ]
    # Nothing is known yet as the first comes, the old scene as the third does.
    assert row(of(frames))['accuracy_streaming'] == 2 / 4
    # Answers that take longer than a frame's time are that much more behind.
    slow = [
        outcome(s, label=k, named=k, age_s=0.3) for s, k in zip(steady(4), labels, strict=True)
    ]
    assert row(of(slow))['accuracy_streaming'] == 0


def test_ages_and_cuts_are_percentiles_in_milliseconds():
    frames = [
        outcome(s, age_s=0.01 * (1 + i), cut_to_result_s=0.001 if i else nan)
        for i, s in enumerate(steady(5))
    ]
    r = row(of(frames))
    assert r['age_p50_ms'] == pytest.approx(30)
    assert r['age_p99_ms'] == pytest.approx(49.6)
    assert r['p99_over_p50'] == pytest.approx(49.6 / 30)
    assert r['cancel_to_result_ms'] == {
        'p50': pytest.approx(1), 'p99': pytest.approx(1), 'count': 4,
    }  # fmt: skip


def test_a_declared_quality_that_falls_within_a_frame_is_counted():
    def published(*declared):
        return tuple(Published(3.01 + 0.01 * k, k + 1, 0, d) for k, d in enumerate(declared))

    frames = [
        outcome(3.0, published=published(0.5, 0.6, 0.6)),
        outcome(3.2, published=published(0.5, 0.7, 0.6)),
        outcome(3.4, published=published(nan, nan)),
    ]
    assert row(of(frames))['monotone_violations'] == 1


def test_each_row_is_compared_with_the_oracle_of_its_load_and_deadline():
    right, wrong = outcome(3.0), outcome(3.2, named=1)
    passes = [of([right, wrong]), of([right, right], policy='oracle')]
    ours, oracle = with_oracle(passes, 'live')
    assert ours['share_of_oracle'] == 0.5
    assert (ours['source'], oracle['source']) == ('live', 'replayed')
    assert with_oracle(passes[:1], 'live')[0]['share_of_oracle'] is None
