import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.quality import CalibrationError
from anytime_dnn_ros.quality.label_sets import (
    choose_coverage,
    fit_thresholds,
    shrunk,
    stage_coverages,
)
from anytime_dnn_ros.quality.temperature import probabilities_at
from quality.graded_answers import scores_and_labels


def sets_of(probabilities, thresholds):
    """The sets of one image, stage by stage."""
    made, classes = [], None
    for p, threshold in zip(probabilities, thresholds, strict=True):
        classes = shrunk(classes, p, threshold)
        made.append(classes.tolist())
    return made


def test_a_set_holds_what_reaches_the_threshold_likeliest_first():
    p = np.array([0.1, 0.5, 0.15, 0.25])
    assert shrunk(None, p, 0.15).tolist() == [1, 3, 2]
    assert shrunk(np.array([0, 2]), p, 0.12).tolist() == [2]


def test_a_set_that_would_be_empty_keeps_its_likeliest_class():
    p = np.array([0.1, 0.5, 0.15, 0.25])
    assert shrunk(None, p, 0.9).tolist() == [1]
    assert shrunk(np.array([0, 2]), p, 0.3).tolist() == [2]


@given(
    st.lists(st.lists(st.floats(-9, 9), min_size=4, max_size=4), min_size=1, max_size=6),
    st.data(),
)
def test_sets_shrink_and_are_never_empty(rows, data):
    probabilities = probabilities_at(np.array(rows, np.float32)[None], [1.0] * len(rows))[0]
    thresholds = [data.draw(st.floats(0, 1)) for _ in rows]
    made = sets_of(probabilities, thresholds)
    assert made[0][0] == probabilities[0].argmax() or np.ptp(probabilities[0]) < 1e-6
    for earlier, later in zip([range(4), *made], made, strict=False):
        assert later
        assert set(later) <= set(earlier)


@pytest.mark.parametrize('seed', [0, 1, 2])
def test_other_images_are_covered_as_stated(seed):
    scores, labels = scores_and_labels(12_000, seed)
    probabilities = probabilities_at(scores, [1.0] * 4)
    coverages = stage_coverages(0.95, 4)
    thresholds = fit_thresholds(probabilities[:6000], labels[:6000], coverages)
    covered = np.array(
        [
            [label in s for s in sets_of(p, thresholds)]
            for p, label in zip(probabilities[6000:], labels[6000:], strict=True)
        ]
    )
    np.testing.assert_allclose(covered.mean(0), coverages, atol=0.01)


def test_as_many_of_the_calibration_images_as_the_order_statistic_needs():
    scores, labels = scores_and_labels(400, 3)
    probabilities = probabilities_at(scores, [1.0] * 4)
    thresholds = fit_thresholds(probabilities, labels, (0.97, 0.96, 0.955, 0.95))
    covered = np.array(
        [
            [label in s for s in sets_of(p, thresholds)]
            for p, label in zip(probabilities, labels, strict=True)
        ]
    ).sum(0)
    # ceil(401 c), and no tie among these.
    assert covered.tolist() == [389, 385, 383, 381]


def test_stated_coverages_fall_evenly_to_the_last():
    assert stage_coverages(0.95, 3) == (0.955, 0.9525, 0.95)
    assert stage_coverages(0.95, 1) == (0.95,)
    # Half of what is left, where there is no room for the usual.
    assert stage_coverages(0.996, 2) == (0.998, 0.996)


def test_the_usual_coverage_unless_the_best_class_alone_covers_more():
    assert choose_coverage(0.9, 1000) == 0.95
    assert choose_coverage(0.95, 1000) == 0.975
    assert choose_coverage(0.98, 1000) == 0.99
    assert choose_coverage(0.98, 1000, wanted=0.985) == 0.985
    # Nothing can be stated where nothing is ever wrong, or with so few images.
    assert choose_coverage(1.0, 1000) is None
    assert choose_coverage(0.9, 20) is None


@pytest.mark.parametrize('wanted', [0.9, 0.5, 0.0, -1.0, 1.0, 2.0, float('nan')])
def test_a_coverage_that_cannot_be_kept_is_refused(wanted):
    with pytest.raises(CalibrationError, match=r'alone is right for 0\.9000.*give one above'):
        choose_coverage(0.9, 1000, wanted)


def test_too_few_images_for_what_is_asked_for():
    with pytest.raises(CalibrationError, match='50 images are too few'):
        choose_coverage(0.9, 50, 0.99)
    scores, labels = scores_and_labels(50, 0)
    with pytest.raises(CalibrationError, match='50 images are too few'):
        fit_thresholds(probabilities_at(scores, [1.0] * 4), labels, (0.99,) * 4)
