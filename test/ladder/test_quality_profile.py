"""Profiles as they stand in a bundle: read back whole, refused where they contradict."""

import json
from functools import cache

import pytest

from anytime_dnn_ros.errors import BundleError
from anytime_dnn_ros.ladder.manifest import quality_from_json, quality_to_json
from quality.judged_quality import STAGES, counted_quality

QUALITY = cache(counted_quality)


def document():
    return json.loads(quality_to_json(QUALITY()))


def read(changed):
    return quality_from_json(json.dumps(changed), STAGES, 'here.json')


def test_a_profile_read_back_is_the_profile_written():
    assert read(document()) == QUALITY()


def test_a_row_of_counts_is_one_line():
    text = quality_to_json(QUALITY())
    cells = [len(stage.images) for p in QUALITY().profiles for stage in p.stages]
    assert len(text.splitlines()) < 30 * len(cells)


def test_quality_of_before_profiles_is_still_read():
    changed = document()
    del changed['profiles'], changed['label_coverage']
    quality = read(changed)
    assert quality.profiles == quality.label_coverage == ()


def change(at, value):
    """Changes one thing of the first profile."""

    def apply(doc):
        *path, last = ['profiles', 0, *at]
        for key in path:
            doc = doc[key]
        doc[last] = value(doc[last]) if callable(value) else value

    return apply


def rows_of(cells):
    return lambda rows: [row[:cells] for row in rows]


@pytest.mark.parametrize(
    ('at', 'value', 'match'),
    [
        (['monotone'], 'hope', r'schema at \$.profiles\[0\].monotone'),
        (['stages', 0, 'temperature'], 0, r'stages\[0\].temperature'),
        (['stages', 1, 'held_back'], -0.1, r'stages\[1\].held_back'),
        (['stages', 1, 'label_threshold'], 1.5, r'stages\[1\].label_threshold'),
        (['stages', 1, 'images', 0], -1, r'images\[0\]'),
        (['stages', 1, 'images', 0], 1.5, r'images\[0\]'),
        (['stages'], lambda stages: stages[:2], r"profile 'none' has 2 stages, the manifest 4"),
        (['stages', 1, 'edges'], lambda edges: edges[::-1], 'stage 2 the edges do not rise'),
        (['stages', 1, 'edges'], lambda edges: edges[1:], 'stage 2 the counts are not 4 rows'),
        (['stages', 1, 'right'], lambda right: right[1:], 'stage 2 the counts are not 4 rows'),
        (['stages', 2, 'right'], rows_of(3), 'stage 3 the counts are not 3 rows'),
        (['stages', 0, 'images'], lambda n: [0] * len(n), 'nothing was counted'),
        (['stages', 0, 'right', 3, 1], 10_000, 'stage 1 more answers are right than'),
        (['stages', 0, 'label_threshold'], None, 'thresholds of label sets, or neither'),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(at, value, match):
    changed = document()
    change(at, value)(changed)
    with pytest.raises(BundleError, match=match):
        read(changed)


@pytest.mark.parametrize('stated', [[], [0.95]])
def test_coverage_is_stated_for_every_stage_or_none(stated):
    changed = document()
    changed['label_coverage'] = stated
    with pytest.raises(BundleError, match='state a coverage for every stage'):
        read(changed)


def test_two_profiles_of_one_guard_are_refused():
    changed = document()
    changed['profiles'].append(changed['profiles'][0])
    with pytest.raises(BundleError, match='two profiles of one guard'):
        read(changed)
