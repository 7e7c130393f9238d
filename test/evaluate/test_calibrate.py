"""`anytime-dnn calibrate`: honest figures, written whole, into a bundle or a copy of it."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime_dnn_ros.datasets import Images
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import AnytimeError, BundleError, ConfigurationError
from anytime_dnn_ros.evaluate import calibrate as command
from anytime_dnn_ros.evaluate import calibration as counting
from anytime_dnn_ros.evaluate.calibrate import CHOSEN_BY_THEM, calibrate_bundle
from anytime_dnn_ros.evaluate.calibration import calibrate, halves
from anytime_dnn_ros.ladder.bundle import read_bundle, shipped_bundles, write_bundle
from anytime_dnn_ros.serving import ServingPath
from evaluate.colour_images import write_images
from ladders import LABELS, make_ladder


def files_of(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob('*'))
        if p.is_file()
    }


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('calibrate') / 'tints', train=100, test=2)


@pytest.fixture(scope='module')
def tints():
    """300 tinted images, and how far they can be known: as images of the ladder's classes."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, 300)
    values = 120 + 40 * np.eye(3)[labels] + rng.normal(0, 40, (300, 3))
    pixels = np.clip(values, 0, 255).astype(np.uint8)[:, None, None, :]
    return Images(np.tile(pixels, (1, 8, 8, 1)), labels, LABELS, 'tints/validation')


@pytest.fixture
def bundle(tmp_path):
    return make_ladder(tmp_path / 'colours', with_quality=False)


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=60))
def test_halves_share_nothing_leave_nothing_and_divide_every_class(drawn):
    labels = np.array(drawn)
    one, other = halves(labels)
    assert sorted([*one, *other]) == list(range(len(labels)))
    assert len(one) - len(other) in (0, 1)
    for label in set(drawn):
        assert abs((labels[one] == label).sum() - (labels[other] == label).sum()) <= 1


@pytest.mark.parametrize('count', [0, 1])
def test_too_few_images_cannot_be_halved(count):
    with pytest.raises(ConfigurationError, match=f'there are {count} in all'):
        halves(np.zeros(count, np.int64))


def test_figures_are_counted_on_images_that_nothing_was_fitted_to(bundle, tints):
    calibration = calibrate(bundle, tints)
    _, count = halves(tints.labels)
    strongest = tints.pixels[count, 0, 0].argmax(axis=1)
    accuracy = (strongest == tints.labels[count]).mean()
    assert (calibration.num_fitted, calibration.num_counted) == (150, 150)
    for stage, quality in zip(calibration.stages, calibration.quality.stages, strict=True):
        assert stage.accuracy == quality.accuracy == pytest.approx(accuracy)
        assert stage.temperature == quality.temperature
    for rule in calibration.quality.exit_rules:
        assert rule.accuracy == pytest.approx(accuracy)


def test_temperatures_bring_confidence_to_accuracy(bundle, tints):
    calibration = calibrate(bundle, tints)
    # Exit k multiplies the same logits by k: the more, the warmer it must be divided.
    temperatures = [stage.temperature for stage in calibration.stages]
    np.testing.assert_allclose(temperatures, temperatures[0] * np.array([1, 2, 3]), rtol=1e-3)
    last = calibration.stages[-1]
    assert last.nll_calibrated < last.nll
    assert last.ece_calibrated < last.ece


def test_the_note_and_what_was_done_stand_in_the_data(bundle, tints):
    quality = calibrate(bundle, tints, 'a note').quality
    assert quality.data == (
        'tints/validation: 150 images for temperatures, exit rules and label sets, 150 others for '
        'accuracies and profiles; a note'
    )
    assert quality.held_out
    assert not calibrate(bundle, tints, held_out=False).quality.held_out


def test_the_trainer_writes_quality_and_nothing_else(bundle, tints):
    before = files_of(bundle.path)
    quality = calibrate_bundle(bundle.path, tints).quality
    after = files_of(bundle.path)
    assert after.keys() - before.keys() == {'quality.json'}
    assert {name: after[name] for name in before} == before
    read = read_bundle(bundle.path)
    assert read.quality == quality
    path = ServingPath(read, load_engine(read))
    assert path.expected_accuracy(1) == quality.stages[0].accuracy


def test_a_second_calibration_gives_the_same(bundle, tints):
    first = calibrate_bundle(bundle.path, tints).quality
    assert calibrate_bundle(bundle.path, tints).quality == first


def test_the_command_calibrates_a_bundle_in_its_place(bundle, data, tmp_path, capsys):
    before = files_of(bundle.path)
    assert run(bundle.path, '--data', data, '--json', tmp_path / 'c.json') == 0
    figures = json.loads((tmp_path / 'c.json').read_text())
    assert figures['data'].startswith('tints/validation: 15 images')
    assert (figures['images_fitted'], figures['images_counted']) == (15, 15)
    quality = read_bundle(bundle.path).quality
    assert [s['temperature'] for s in figures['stages']] == [s.temperature for s in quality.stages]
    assert [s['accuracy'] for s in figures['stages']] == [s.accuracy for s in quality.stages]
    assert len(figures['exit_rules']) == len(quality.exit_rules)
    after = files_of(bundle.path)
    assert {name: after[name] for name in before} == before
    assert 'exit1' in capsys.readouterr().out


def test_a_terminal_that_is_closed_costs_no_figures(bundle, data, tmp_path, monkeypatch):
    def closed(*_):
        raise SystemExit(1)

    monkeypatch.setattr(command, '_table', closed)
    with pytest.raises(SystemExit):
        run(bundle.path, '--data', data, '--json', tmp_path / 'c.json')
    assert json.loads((tmp_path / 'c.json').read_text())['stages']


def test_a_folder_with_brackets_is_named_as_it_is(tmp_path, capsys):
    data = write_images(tmp_path / 'tints[old]', train=100, test=2)
    bundle = make_ladder(tmp_path / 'a[b]' / 'colours', with_quality=False)
    assert run(bundle.path, '--data', data) == 0
    assert f'{bundle.path}/quality.json: tints[old]/validation' in capsys.readouterr().out


def test_a_copy_is_calibrated_and_the_bundle_left_alone(bundle, data, tmp_path):
    before = files_of(bundle.path)
    out = tmp_path / 'copy'
    assert run(bundle.path, '--data', data, '--out', out, '--seen') == 0
    assert files_of(bundle.path) == before
    copy = files_of(out)
    assert copy.keys() - before.keys() == {'quality.json'}
    assert {name: copy[name] for name in before} == before
    assert not read_bundle(out).quality.held_out


def test_a_limit_counts_validation_images(bundle, data, tmp_path):
    assert run(bundle.path, '--data', data, '--limit', 12, '--json', tmp_path / 'c.json') == 0
    figures = json.loads((tmp_path / 'c.json').read_text())
    assert figures['images_fitted'] + figures['images_counted'] == 12


@pytest.mark.parametrize(
    ('known', 'noted'),
    [
        ({'early_stop_epochs': 5}, True),
        ({}, False),
        # What stopped early may be another command of the line.
        ({'command': 'anytime-dnn train msdnet --early-stop 5'}, False),
    ],
)
def test_a_net_chosen_by_these_images_says_so(known, noted, bundle, data):
    provenance = {**bundle.manifest.provenance, **known}
    files = {
        stage.name: bundle.stage_file(i).read_bytes()
        for i, stage in enumerate(bundle.manifest.stages)
    }
    write_bundle(
        bundle.path, replace(bundle.manifest, provenance=provenance), files, bundle.labels, None
    )
    assert run(bundle.path, '--data', data) == 0
    assert (CHOSEN_BY_THEM in read_bundle(bundle.path).quality.data) == noted


def test_a_shipped_bundle_wants_another_folder(data, tmp_path):
    before = files_of(shipped_bundles()['lite'])
    with pytest.raises(ConfigurationError, match='--out DIR'):
        run('lite', '--data', data)
    with pytest.raises(ConfigurationError, match='--out DIR'):
        run('lite', '--data', data, '--out', shipped_bundles()['lite'])
    assert files_of(shipped_bundles()['lite']) == before


@pytest.mark.parametrize('stop', [KeyboardInterrupt(), OSError(28, 'No space left on device')])
def test_whatever_stops_the_writing_leaves_the_old_quality(bundle, tints, monkeypatch, stop):
    calibrate_bundle(bundle.path, tints)
    before = files_of(bundle.path)

    def refuse(handle):
        raise stop

    monkeypatch.setattr('os.fsync', refuse)
    expected = ConfigurationError if isinstance(stop, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        calibrate_bundle(bundle.path, tints)
    assert files_of(bundle.path) == before


def test_other_classes_are_refused_and_the_bundle_left_alone(bundle, tmp_path):
    before = files_of(bundle.path)
    wrong = write_images(tmp_path / 'wrong', test=2, classes=('red', 'green', 'violet'))
    with pytest.raises(ConfigurationError, match="only in the data 'violet'"):
        run(bundle.path, '--data', wrong)
    assert files_of(bundle.path) == before


def test_a_folder_that_is_no_bundle_is_not_overwritten(bundle, data, tmp_path):
    out = tmp_path / 'precious'
    out.mkdir()
    (out / 'thesis.txt').write_text('all of it')
    with pytest.raises(BundleError, match='is no bundle'):
        run(bundle.path, '--data', data, '--out', out)
    assert (out / 'thesis.txt').read_text() == 'all of it'


@pytest.mark.parametrize('out', ['/dev/null/copies/copy', 'precious'])
def test_what_cannot_be_written_is_refused_before_the_work(
    bundle, data, tmp_path, monkeypatch, out
):
    def reached(*_):
        raise AssertionError('the work has begun')

    (tmp_path / 'precious').mkdir()
    monkeypatch.setattr(counting, 'stage_scores', reached)
    with pytest.raises(BundleError, match=r'is no bundle|cannot write beside'):
        run(bundle.path, '--data', data, '--out', tmp_path / out)


def test_the_trainer_writes_a_copy_and_leaves_the_draft_alone(bundle, tints, tmp_path):
    before = files_of(bundle.path)
    made = calibrate_bundle(bundle.path, tints, out=tmp_path / 'copy')
    assert made == read_bundle(tmp_path / 'copy')
    assert made.quality is not None
    assert files_of(bundle.path) == before


def test_one_image_held_out_is_too_few(bundle, tmp_path):
    few = write_images(tmp_path / 'few', train=2, test=1)
    with pytest.raises(ConfigurationError, match='there are 1 in all'):
        run(bundle.path, '--data', few)


def test_label_sets_cover_what_the_data_can_show(bundle, tints):
    # The likeliest class alone is right too often for the usual coverage, or 150 are too few.
    quality = calibrate(bundle, tints, coverage=0.97).quality
    assert quality.label_coverage[-1] == 0.97
    assert list(quality.label_coverage) == sorted(quality.label_coverage, reverse=True)
    assert [p.monotone for p in quality.profiles] == ['none', 'caching', 'product']
    for profile in quality.profiles:
        assert all(0 < stage.label_threshold <= 1 for stage in profile.stages)


@pytest.mark.parametrize('coverage', ['0.2', '0', '1', '-3', 'nan'])
def test_a_coverage_below_the_accuracy_is_an_error_and_the_bundle_left_alone(
    bundle, data, coverage
):
    before = files_of(bundle.path)
    with pytest.raises(AnytimeError, match=r'cannot be kept|between 0 and 1'):
        run(bundle.path, '--data', data, f'--coverage={coverage}')
    assert files_of(bundle.path) == before


def test_images_too_few_for_label_sets_are_told(bundle, data, tmp_path, capsys):
    assert run(bundle.path, '--data', data, '--json', tmp_path / 'c.json') == 0
    figures = json.loads((tmp_path / 'c.json').read_text())
    assert figures['label_coverage'] == []
    assert [guard['monotone'] for guard in figures['guards']] == ['none', 'caching', 'product']
    for guard in figures['guards']:
        assert guard['declared_violations'] == 0
        assert all(e['coverage'] is None for e in guard['exits'])
    assert '15 images are too few to fit label sets' in capsys.readouterr().out


def test_what_may_not_be_declared_is_judged_all_the_same(bundle, tints):
    seen = calibrate(bundle, tints, held_out=False)
    assert seen.guards == calibrate(bundle, tints).guards
    assert seen.guards[0].exits[0].declared_accuracy is not None


def test_a_ladder_that_is_never_wrong_needs_no_label_sets(bundle, tints):
    strongest = tints.pixels[:, 0, 0].argmax(axis=1)
    calibration = calibrate(bundle, replace(tints, labels=strongest))
    assert calibration.quality.label_coverage == ()
    assert calibration.guards[0].exits[-1].declared_accuracy > 0.95
