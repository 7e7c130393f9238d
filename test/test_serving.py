import math
from dataclasses import replace

import numpy as np
import pytest

from anytime_dnn_ros.engines.base import StageCancelledError
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import EngineError
from anytime_dnn_ros.ladder.manifest import CombineSpec, Quality, StageQuality
from anytime_dnn_ros.serving import ServingPath
from ladders import LABELS, make_ladder, solid


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('serving') / 'colours')


@pytest.fixture(scope='module')
def path(bundle):
    return ServingPath(bundle, load_engine(bundle))


def run_all(path):
    stages = range(path.num_stages)
    return [path.run_stage(i, path.engine.new_token()).newest for i in stages]


@pytest.mark.parametrize('color', LABELS)
@pytest.mark.parametrize('order', ['rgb', 'bgr'])
def test_every_stage_names_the_colour_and_grows_surer(path, color, order):
    image = solid(color)
    path.begin(image if order == 'rgb' else image[..., ::-1].copy(), order)
    answers = run_all(path)
    assert [a.stage for a in answers] == [1, 2, 3]
    assert [LABELS[a.probabilities.argmax()] for a in answers] == [color] * 3
    confidences = [a.confidence for a in answers]
    assert confidences == sorted(confidences)
    assert confidences[0] < confidences[2]


@pytest.mark.parametrize('rule', ['last', 'product', 'average'])
def test_a_frame_leaves_nothing_behind_for_the_next(bundle, rule):
    manifest = replace(bundle.manifest, combine=CombineSpec(rule))
    path = ServingPath(replace(bundle, manifest=manifest), load_engine(bundle))
    path.begin(solid('red'), 'rgb')
    first = run_all(path)
    path.begin(solid('blue'), 'rgb')
    run_all(path)
    path.begin(solid('red'), 'rgb')
    for one, other in zip(first, run_all(path), strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_a_cancelled_stage_is_passed_on_and_the_next_frame_is_whole(path):
    path.begin(solid('green'), 'rgb')
    token = path.engine.new_token()
    token.cancel()
    with pytest.raises(StageCancelledError):
        path.run_stage(0, token)
    path.begin(solid('green'), 'rgb')
    assert LABELS[run_all(path)[-1].probabilities.argmax()] == 'green'


def test_the_temperature_of_a_stage_softens_its_answer(bundle):
    quality = Quality('none', True, tuple(StageQuality(5.0, None) for _ in range(3)))
    soft = ServingPath(replace(bundle, quality=quality), load_engine(bundle))
    plain = ServingPath(replace(bundle, quality=None), load_engine(bundle))
    for path in (soft, plain):
        path.begin(solid('red'), 'rgb')
    assert run_all(soft)[0].confidence < run_all(plain)[0].confidence


def test_a_number_that_is_not_finite_is_an_error_that_names_the_stage(bundle, monkeypatch):
    path = ServingPath(bundle, load_engine(bundle))
    monkeypatch.setattr(
        path.engine, 'run_stage', lambda stage, token: np.array([0, np.nan, 1], np.float32)
    )
    path.begin(solid('red'), 'rgb')
    with pytest.raises(EngineError, match=r"'exit1'.*not finite"):
        path.run_stage(0, path.engine.new_token())


def test_accuracy_is_declared_only_on_held_out_data(bundle):
    engine = load_engine(bundle)
    declared = ServingPath(bundle, engine)
    assert [declared.expected_accuracy(k) for k in (1, 2, 3)] == pytest.approx([0.5, 0.6, 0.7])
    seen = ServingPath(replace(bundle, quality=replace(bundle.quality, held_out=False)), engine)
    none = ServingPath(replace(bundle, quality=None), engine)
    assert math.isnan(seen.expected_accuracy(1))
    assert math.isnan(none.expected_accuracy(1))


def test_reference_times_are_measured_for_every_stage(path):
    times = path.measure_reference_times()
    assert times.samples_s.shape[1] == 3
    assert (times.median_s > 0).all()
