"""The figures of summary.json, counted by hand on a small run."""

import json
from dataclasses import replace

from anytime_dnn_ros.demo.recording import Recording, answers_by_photo, summarize
from demo.small_runs import OUTSIDE, answer, frame, small_run

KEYS = [
    'frames_published',
    'frames_received',
    'frames_answered',
    'predictions',
    'finals',
    'forecasts',
    'deadline_ms',
    'missed',
    'miss_rate',
    'stages_mean',
    'age_p50_ms',
    'age_p99_ms',
    'first_answer_p50_ms',
    'overhead_p50_ms',
    'labels',
    'node_rss_mb',
    'monitor_cpu_percent',
    'versions',
]


def test_the_summary_counts_the_run():
    summary = summarize(small_run(), **OUTSIDE)
    assert list(summary) == KEYS
    assert summary == {
        **OUTSIDE,
        'frames_received': 6,
        'frames_answered': 4,
        'predictions': 6,
        'finals': 4,
        'forecasts': 0,
        'deadline_ms': 50.0,
        'missed': 1,
        'miss_rate': 0.25,
        'stages_mean': 1.5,
        'age_p50_ms': 25.0,
        'age_p99_ms': 39.7,
        'first_answer_p50_ms': 6.5,
        'overhead_p50_ms': 2.5,
        'labels': {'coffee': 'espresso', 'cat <1>': 'tabby & co'},
    }


def test_a_forecast_is_counted_and_says_nothing_of_the_overhead():
    run = small_run()
    run.answers.append(answer(5, 0, 'cup', is_final=True))
    # Its first stage took longer than the frame: it ended after the answer.
    run.frames.append(replace(frame(5, 0, 0.5), infer_ms=500.0))
    summary = summarize(run, **OUTSIDE)
    assert (summary['finals'], summary['forecasts'], summary['stages_mean']) == (5, 1, 1.2)
    assert summary['overhead_p50_ms'] == 2.5


def test_an_empty_run_is_valid_json_without_invented_numbers():
    summary = summarize(Recording(deadline_ms=50.0), **OUTSIDE)
    text = json.dumps(summary, allow_nan=False)
    assert json.loads(text)['miss_rate'] is None
    assert summary['age_p50_ms'] is None
    assert summary['predictions'] == 0
    assert summary['labels'] == {}


def test_the_answer_of_a_photo_is_its_most_frequent_final_one():
    table = answers_by_photo(small_run())
    assert list(table) == ['coffee', 'cat <1>']
    coffee = table['coffee']
    assert (coffee.label, coffee.frames) == ('espresso', 3)
    assert round(coffee.share, 3) == 0.667
    assert round(coffee.confidence, 3) == 0.7


def test_the_burst_has_a_begin_and_an_end():
    run = small_run()
    assert [run.in_burst(at_s) for at_s in (0.1, 0.2, 0.34, 0.35)] == [False, True, True, False]
    assert not Recording(deadline_ms=50.0).in_burst(0.3)
