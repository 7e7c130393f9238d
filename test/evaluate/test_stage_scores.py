"""Scores and times through the serving path: the same as the node's, whatever the image."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.evaluate import stage_scores as scored
from anytime_dnn_ros.evaluate.stage_scores import bundle_labels, stage_scores, stage_times
from anytime_dnn_ros.ladder.manifest import CombineSpec, Quality, StageQuality
from anytime_dnn_ros.serving import ServingPath
from ladders import LABELS, make_ladder, solid


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('scores') / 'colours')


@pytest.fixture
def colours():
    return np.stack([solid(color) for color in LABELS])


def test_scores_name_the_colour_after_every_stage(bundle, colours):
    scores = stage_scores(bundle, colours)
    assert scores.shape == (3, 3, 3)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores.argmax(axis=2), np.repeat([[0], [1], [2]], 3, axis=1))
    np.testing.assert_allclose(np.exp(scores).sum(axis=2), 1, rtol=1e-5)


@pytest.mark.parametrize('rule', ['last', 'product', 'average'])
def test_scores_are_those_of_the_node_whatever_temperature_the_bundle_has(bundle, colours, rule):
    manifest = replace(bundle.manifest, combine=CombineSpec(rule))
    quality = Quality('none', True, tuple(StageQuality(3.0, None) for _ in range(3)))
    warm = replace(bundle, manifest=manifest, quality=quality)
    path = ServingPath(warm, load_engine(warm))
    for image, scores in zip(colours, stage_scores(warm, colours), strict=True):
        path.begin(image, 'rgb')
        for stage in range(3):
            answer = path.run_stage(stage, path.engine.new_token()).newest
            powers = np.exp(scores[stage] / 3)
            np.testing.assert_allclose(powers / powers.sum(), answer.probabilities, rtol=1e-4)


def test_a_score_stays_finite_where_the_probability_is_none(bundle, colours, monkeypatch):
    engine = load_engine(bundle)
    monkeypatch.setattr(
        engine, 'run_stage', lambda stage, token: np.array([0, 500, -500], np.float32)
    )
    monkeypatch.setattr(scored, 'load_engine', lambda *given: engine)
    assert np.isfinite(stage_scores(bundle, colours)).all()


def test_grey_images_are_taken_and_have_no_colour(bundle):
    grey = np.full((2, 28, 28, 1), 90, np.uint8)
    scores = stage_scores(bundle, grey)
    np.testing.assert_allclose(np.exp(scores), 1 / 3, atol=1e-3)


def test_progress_tells_how_many_are_done(bundle, colours):
    told = []
    stage_scores(bundle, colours, lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    'pixels',
    [
        np.zeros((2, 8, 8), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((2, 8, 8, 3), np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
    ],
)
def test_pixels_of_another_form_are_refused(bundle, pixels):
    with pytest.raises(ConfigurationError, match='uint8'):
        stage_scores(bundle, pixels)
    with pytest.raises(ConfigurationError, match='uint8'):
        stage_times(bundle, pixels)


def test_every_stage_is_timed_without_the_resize(bundle, colours, monkeypatch):
    fitted = []
    monkeypatch.setattr(
        'anytime_dnn_ros.serving.fit_frame', lambda *given: fitted.append(len(fitted))
    )
    inside = []
    run_stage = ServingPath.run_stage

    def watched(path, stage, token):
        before = len(fitted)
        answer = run_stage(path, stage, token)
        inside.append(len(fitted) - before)
        return answer

    monkeypatch.setattr(ServingPath, 'run_stage', watched)
    times, info = stage_times(bundle, colours, runs=4)
    assert times.samples_s.shape == (4, 3)
    assert (times.samples_s > 0).all()
    assert len(fitted) == 4
    assert inside == [0] * 12
    assert (info.library, info.threads) == ('onnxruntime', 1)


def test_the_same_classes_keep_their_labels(bundle):
    labels = np.array([2, 0, 1])
    np.testing.assert_array_equal(bundle_labels(bundle, labels, LABELS), labels)


def test_classes_in_another_order_are_found_by_name(bundle):
    labels = np.array([0, 0, 1, 2])
    given = bundle_labels(bundle, labels, ('blue', 'red', 'green'))
    np.testing.assert_array_equal(given, [2, 2, 0, 1])


@pytest.mark.parametrize(
    ('names', 'said'),
    [
        (('red', 'green', 'yellow'), "only in the bundle 'blue'; only in the data 'yellow'"),
        (('red', 'green'), "only in the bundle 'blue'; only in the data nothing"),
        (('red', 'green', 'blue', 'blue'), 'has 3 classes, the data 4'),
        (('red', 'green', 'blue', *'abcdefg'), "'a', 'b', 'c', 'd', 'e' and 2 more"),
    ],
)
def test_other_classes_are_one_error_with_the_difference(bundle, names, said):
    with pytest.raises(ConfigurationError) as told:
        bundle_labels(bundle, np.array([0]), names)
    assert said in str(told.value)
    assert str(bundle.path) in str(told.value)


def test_measuring_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; "
        'from anytime_dnn_ros.evaluate import calibrate, report'
    )
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, 'PYTHONPATH': path}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
