"""Choosing stages and fitting weights on made-up answers, and the bundle that was shipped."""

import zipfile

import cv2
import numpy as np
import pytest

pytest.importorskip('scipy', reason='the forge extra is not installed')
pytest.importorskip('rich', reason='the forge extra is not installed')

from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from anytime_dnn_ros.forge.lite_ladder import (
    IMAGE,
    Candidate,
    choose_stages,
    rule_figures,
    stack_spec,
)
from anytime_dnn_ros.forge.onnx_macs import Count
from anytime_dnn_ros.forge.photos import read_photos
from anytime_dnn_ros.forge.stacking import combined, fit_weights, negative_log_likelihood, stacked
from anytime_dnn_ros.ladder.combine import log_softmax
from anytime_dnn_ros.ladder.manifest import CombineSpec

IMAGES = CLASSES = 400


def noisy_logits(noise: float, seed: int) -> np.ndarray:
    """Logits [400, 400] that favour class k on photo k, drowned in noise."""
    rng = np.random.default_rng(seed)
    return (6 * np.eye(CLASSES) + noise * rng.normal(size=(IMAGES, CLASSES))).astype(np.float32)


def candidate(name: str, noise: float, int8_ms: float, *, agreement: float = 0.97) -> Candidate:
    return Candidate(
        name=name,
        size=8,
        model=bytes(100),
        logits=noisy_logits(noise, len(name)),
        agreement=agreement,
        float_accuracy=0.5,
        int8_accuracy=0.5,
        float_ms=2 * int8_ms,
        int8_ms=int8_ms,
        count=Count(1000, 1000, 100),
    )


def test_one_weight_is_the_temperature_that_made_the_labels():
    rng = np.random.default_rng(0)
    true_logits = rng.normal(size=(20_000, 5)).astype(np.float32) * 2
    probabilities = np.exp([log_softmax(row) for row in true_logits])
    truth = (probabilities.cumsum(1) > rng.random((20_000, 1))).argmax(1)
    (weight,) = fit_weights([true_logits * 4], truth)
    assert weight == pytest.approx(0.25, rel=0.05)


def test_a_member_that_knows_nothing_gets_next_to_no_weight():
    truth = np.arange(IMAGES)
    useless = np.random.default_rng(3).normal(size=(IMAGES, CLASSES)).astype(np.float32)
    useful, ignored = fit_weights([noisy_logits(2, 1), useless], truth)
    assert useful > 0.3
    assert ignored < 0.2 * useful


def test_fitted_weights_beat_every_member_alone():
    members, truth = [noisy_logits(2, 1), noisy_logits(2, 2)], np.arange(IMAGES)
    both = negative_log_likelihood(stacked(members, fit_weights(members, truth)), truth)
    for member in members:
        alone = stacked([member], fit_weights([member], truth))
        assert both < negative_log_likelihood(alone, truth)


def test_the_fit_sees_the_answers_that_the_run_time_gives():
    members, weights = [noisy_logits(2, 1), noisy_logits(2, 2)], (0.3, 0.8)
    served = combined(members, CombineSpec('stack', ((1.0,), weights)))
    np.testing.assert_allclose(stacked(members, weights), served, atol=1e-4)


def test_stages_come_by_gain_per_millisecond():
    ladder = [candidate('best', 1.0, 10), candidate('cheap', 2.0, 1), candidate('idle', 2.0, 9)]
    names = [stage.name for stage in choose_stages(ladder, max_bytes=200, min_agreement=0.95)]
    assert names == ['cheap', 'best']


@pytest.mark.parametrize('jitter', [0.97, 1.03])
def test_a_tie_in_gain_per_millisecond_goes_to_the_better_answer(jitter):
    truth = np.arange(0, IMAGES, 2)
    gains = [
        np.log(CLASSES)
        - negative_log_likelihood(stacked([half], fit_weights([half], truth)), truth)
        for half in (noisy_logits(2.0, len('worse'))[::2], noisy_logits(1.5, len('better'))[::2])
    ]
    ladder = [candidate('worse', 2.0, gains[0]), candidate('better', 1.5, gains[1] * jitter)]
    names = [stage.name for stage in choose_stages(ladder, max_bytes=100, min_agreement=0.95)]
    assert names == ['better']


def test_an_unfaithful_candidate_is_left_out():
    ladder = [candidate('fast', 2.0, 1, agreement=0.9), candidate('slow', 2.0, 5)]
    names = [stage.name for stage in choose_stages(ladder, max_bytes=1000, min_agreement=0.95)]
    assert names == ['slow']


def test_nothing_that_fits_is_an_error_that_names_the_options():
    with pytest.raises(AnytimeError, match=r'--min-agreement or raise --max-mb'):
        choose_stages([candidate('big', 2.0, 1)], max_bytes=10, min_agreement=0.95)


def test_every_rule_is_reported_for_every_prefix():
    stages = [candidate('cheap', 2.0, 1), candidate('best', 1.0, 10)]
    figures = rule_figures(stages, stack_spec(stages))
    assert set(figures) == {'last', 'average', 'product', 'stack'}
    assert all(len(rows) == 2 for rows in figures.values())
    # A first stage alone is the same answer under every rule, up to a temperature.
    assert len({rows[0][0] for rows in figures.values()}) == 1


@pytest.mark.parametrize('content', [None, b'no zip'])
def test_a_missing_or_broken_archive_is_a_clear_error(tmp_path, content):
    path = tmp_path / 'photos.zip'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r'--data .*one photo per class'):
        read_photos(path, 2)


def write_zip(path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def test_photos_come_in_class_order_with_readable_labels(tmp_path):
    path, jpeg = tmp_path / 'photos.zip', cv2.imencode('.png', np.zeros((6, 8, 3)))[1].tobytes()
    write_zip(path, {'n02_great_white_shark.jpg': jpeg, 'n01_tench.jpg': jpeg})
    photos = read_photos(path, 2)
    assert photos.labels == ('tench', 'great white shark')
    assert [image.shape for image in photos.fitted(4, IMAGE)] == [(1, 4, 4, 3)] * 2


@pytest.mark.parametrize(
    ('files', 'message'),
    [
        ({'n01_tench.jpg': b''}, 'holds 1 files'),
        ({'n01_tench.jpg': b'', 'n02_shark.jpg': b'no image'}, 'is no photo'),
    ],
)
def test_an_archive_of_other_content_is_refused(tmp_path, files, message):
    write_zip(tmp_path / 'photos.zip', files)
    with pytest.raises(ConfigurationError, match=message):
        read_photos(tmp_path / 'photos.zip', 2)
