"""How long the longest stage may take: checked at export, kept to by the cuts of a training."""

import argparse
import json
import math

import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('lightning_fabric')

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from small_training import write_easy_images  # noqa: E402

from anytime_dnn_ros.cli import main  # noqa: E402
from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge import stage_limit  # noqa: E402
from anytime_dnn_ros.forge.networks import NetworkSpec, build  # noqa: E402
from anytime_dnn_ros.forge.stage_limit import read_limit, within_limit  # noqa: E402
from anytime_dnn_ros.forge.staged import stage_macs  # noqa: E402
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402

TRUNK = 'small_trunks:deep'
SPEC = NetworkSpec(TRUNK, (3, 32, 32), 3, width=0.2, frozen=True)
ENGINE = {'library': 'tensorrt', 'version': '10.3.0', 'device': 'Orin'}
STAGES = [(1e6, 2.0), (3e6, 3.0), (6e6, 12.0)]


def profile_file(folder, measured=STAGES, **changes):
    """What `anytime-dnn profile --json` writes, as far as it counts here."""
    file = folder / 'orin.json'
    document = {
        'depends_on': {'bundle': 'known', 'engine': ENGINE},
        'stages': [{'macs': macs, 'time_p99_ms': time, 'time_ms': 1} for macs, time in measured],
    }
    file.write_text(json.dumps({**document, **changes}))
    return file


def limit_of(file, max_stage_ms=5.0):
    return read_limit(argparse.Namespace(max_stage_ms=max_stage_ms, target=file))


def test_the_measured_ladder_takes_what_was_measured(tmp_path):
    limit = limit_of(profile_file(tmp_path))
    assert limit.stage_times_ms([1e6, 3e6, 6e6]) == pytest.approx([2, 3, 12])


def test_a_piece_of_a_stage_takes_its_share(tmp_path):
    limit = limit_of(profile_file(tmp_path))
    assert limit.stage_times_ms([1e6, 3e6, 3e6, 3e6]) == pytest.approx([2, 3, 6, 6])


@given(st.lists(st.floats(1e3, 1e9), min_size=1, max_size=9), st.floats(0.1, 10))
def test_times_add_up_and_grow_with_the_cost(tmp_path_factory, macs, factor):
    limit = limit_of(profile_file(tmp_path_factory.mktemp('target')))
    times = limit.stage_times_ms(macs)
    assert min(times) >= 0
    assert sum(times) == pytest.approx(17e-7 * sum(macs))
    larger = limit.stage_times_ms([factor * value for value in macs])
    assert larger == pytest.approx([factor * time for time in times], rel=1e-3, abs=1e-9)


def test_a_stage_that_is_too_long_is_named_with_time_and_mend(tmp_path):
    with pytest.raises(ConfigurationError) as refused:
        limit_of(profile_file(tmp_path)).check([1e6, 3e6, 6e6], 'buy a faster robot')
    said = str(refused.value)
    assert 'stage 3 of 3 takes 12 ms, more than --max-stage-ms 5 (all: 2, 3, 12 ms' in said
    assert 'known on Orin, tensorrt 10.3.0' in said
    assert said.endswith('buy a faster robot')
    limit_of(profile_file(tmp_path), 12.0).check([1e6, 3e6, 6e6], '')


@pytest.mark.parametrize('which', ['max_stage_ms', 'target'])
def test_one_option_without_the_other_is_refused(tmp_path, which):
    given = {'max_stage_ms': 5.0, 'target': profile_file(tmp_path)}
    with pytest.raises(ConfigurationError, match='go together'):
        read_limit(argparse.Namespace(**{**given, which: None}))
    assert read_limit(argparse.Namespace(max_stage_ms=None, target=None)) is None


@pytest.mark.parametrize('max_stage_ms', [0.0, -1.0, math.nan, math.inf])
def test_an_absurd_limit_is_refused(tmp_path, max_stage_ms):
    with pytest.raises(ConfigurationError, match='give more than 0'):
        limit_of(profile_file(tmp_path), max_stage_ms)


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        ({'stages': []}, 'cannot be'),
        ({'stages': [{'macs': 1, 'time_p99_ms': math.nan}]}, 'cannot be'),
        ({'stages': [{'macs': 0, 'time_p99_ms': 1}]}, 'cannot be'),
        ({'stages': [{'macs': 1}]}, "KeyError: 'time_p99_ms'"),
        ({'stages': 3}, 'TypeError'),
        ({'depends_on': None}, 'TypeError'),
    ],
)
def test_what_holds_no_stage_times_is_told(tmp_path, damage, said):
    with pytest.raises(ConfigurationError, match=said):
        limit_of(profile_file(tmp_path, **damage))


@pytest.mark.parametrize('file', ['missing.json', 'text.json'])
def test_a_file_that_is_no_profile_is_told(tmp_path, file):
    (tmp_path / 'text.json').write_text('MMAC 3')
    with pytest.raises(ConfigurationError, match='holds no stage times'):
        limit_of(tmp_path / file)


def test_a_trunk_is_cut_at_as_few_more_places_as_keep_to_it(tmp_path):
    macs = stage_macs(build(SPEC), SPEC.image_shape)
    file = profile_file(tmp_path, [(cost, cost * 1e-6) for cost in macs])
    loose = limit_of(file, 1.01e-6 * max(macs))
    assert within_limit(SPEC, loose, lambda spec: spec) == SPEC
    tight = limit_of(file, 0.99e-6 * max(macs))
    found = within_limit(SPEC, tight, lambda spec: spec)
    assert found.stages > len(macs)
    assert max(stage_macs(build(found), SPEC.image_shape)) * 1e-6 <= tight.max_stage_ms


def test_what_cannot_be_cut_that_fine_is_told_with_its_longest_stage(tmp_path):
    limit = limit_of(profile_file(tmp_path), 1e-4)
    with pytest.raises(ConfigurationError) as refused:
        within_limit(SPEC, limit, lambda spec: spec)
    assert 'more than --max-stage-ms 0.0001' in str(refused.value)
    assert 'finer it cannot be cut' in str(refused.value)


def test_stages_that_were_asked_for_are_checked_only(tmp_path):
    limit = limit_of(profile_file(tmp_path), 1e-4)
    spec = NetworkSpec('early_exit_resnet', (3, 16, 16), 3, width=0.2, stages=3)
    with pytest.raises(ConfigurationError, match='leave out --stages 3'):
        within_limit(spec, limit, lambda spec: spec)


def test_train_chooses_and_export_checks(tmp_path, capsys, monkeypatch):
    data, out = write_easy_images(tmp_path / 'data', 60), tmp_path / 'ladder'
    words = ('--data', str(data), '--width', '0.2', '--image-size', '32', '--freeze-trunk')
    words += ('--views', '1', '--batch', '16', '--epochs', '1', '--threads', '1')
    words += ('--device', 'cpu', '--precision', '32-true', '--out', str(out))
    usual = stage_macs(build(SPEC), SPEC.image_shape)
    target = profile_file(tmp_path, [(sum(usual), sum(usual) * 1e-6)])
    limit = ('--target', str(target), '--max-stage-ms', str(0.9e-6 * max(usual)))
    assert main(['train', TRUNK, *words, *limit]) == 0
    made = read_bundle(out).manifest
    assert len(made.stages) > len(usual)
    saved = str(tmp_path / 'ladder.train' / 'checkpoint.pt')
    export = ('export', saved, '--data', str(data), '--out', str(tmp_path / 'again'))
    # The choice is in the checkpoint, whatever becomes of the target's file.
    assert main([*export, *limit]) == 0
    assert read_bundle(tmp_path / 'again').manifest.stages == made.stages
    capsys.readouterr()
    assert main([*export[:-1], str(tmp_path / 'refused'), *limit[:-1], '1e-5']) == 1
    said = capsys.readouterr().err
    assert 'stage' in said
    assert 'without --stages and --cuts; it chooses' in said
    assert not (tmp_path / 'refused').exists()
    monkeypatch.setattr(stage_limit, 'MOST_STAGES', 1)
    assert main(['train', TRUNK, *words, *limit]) == 1
    assert 'finer it cannot be cut' in capsys.readouterr().err
