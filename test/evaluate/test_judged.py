"""What is declared must be true of images that nothing was counted on."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from anytime_dnn_ros.evaluate.judged import judged, percent
from quality.graded_answers import scores_and_labels
from quality.judged_quality import counted_quality

QUALITY = cache(counted_quality)


@pytest.fixture(scope='module')
def others():
    return scores_and_labels(4000, 99)


@pytest.mark.parametrize('monotone', ['none', 'caching', 'product'])
def test_declared_is_near_the_truth_and_never_falls(others, monotone):
    said = judged(QUALITY(), *others, monotone)
    assert said.declared_violations == 0
    for exit_, stated in zip(said.exits, QUALITY().label_coverage, strict=True):
        assert exit_.declared_accuracy == pytest.approx(exit_.accuracy, abs=0.02)
        assert exit_.coverage == pytest.approx(stated, abs=0.01)
    sizes = [exit_.label_set_size for exit_ in said.exits]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1


def test_a_guard_loses_fewer_right_answers(others):
    lost = {
        monotone: judged(QUALITY(), *others, monotone).monotone_violations['right_then_wrong']
        for monotone in ('none', 'caching', 'product')
    }
    assert max(lost['caching'], lost['product']) < lost['none']


@pytest.mark.parametrize('monotone', ['caching', 'product'])
def test_a_guarded_confidence_means_as_much_as_that_of_a_stage(others, monotone):
    own, guarded = (judged(QUALITY(), *others, name) for name in ('none', monotone))
    for one, other in zip(own.exits, guarded.exits, strict=True):
        assert other.ece < one.ece + 0.01


def test_without_a_guard_the_accuracy_is_that_of_the_stages(others):
    scores, labels = others
    said = judged(QUALITY(), scores, labels, 'none')
    right = (scores.argmax(2) == labels[:, None]).mean(0)
    assert [exit_.accuracy for exit_ in said.exits] == pytest.approx(right.tolist())


@pytest.mark.parametrize('quality', ['none', 'seen'])
def test_nothing_declared_is_none_not_a_number(others, quality):
    given = None if quality == 'none' else replace(QUALITY(), held_out=False)
    scores, labels = others
    said = judged(given, scores[:50], labels[:50])
    assert said.declared_violations is None
    for exit_ in said.exits:
        assert exit_.declared_accuracy is exit_.coverage is exit_.label_set_size is None
        assert np.isfinite(exit_.ece)


def test_a_share_is_shown_in_percent():
    assert (percent(0.12345), percent(None)) == ('12.35', '-')
