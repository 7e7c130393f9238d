"""`anytime-dnn bench` as a user calls it: figures, pages, recordings, and what it refuses."""

import argparse
import json

import pytest

from anytime_dnn_ros.bench import command, options
from anytime_dnn_ros.bench.trace import read_recording, write_recording
from anytime_dnn_ros.errors import AnytimeError, ConfigurationError
from bench.small_recordings import noisy_recording
from evaluate.colour_images import write_images
from ladders import make_ladder


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('bench') / 'colours').path


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('bench') / 'tints')


@pytest.fixture
def recorded(tmp_path):
    file = tmp_path / 'by_hand.jsonl'
    write_recording(file, noisy_recording())
    return file


def run(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(word) for word in words]))


def read(file):
    return json.loads(file.read_text(encoding='utf-8'))


def test_replays_of_one_file_are_the_same_bytes(recorded, tmp_path, capsys):
    written = []
    for name in ('a', 'b'):
        file = tmp_path / name / f'{name}.json'
        assert run('--replay', recorded, '--json', file, '--html', tmp_path / f'{name}.html') == 0
        written.append(file.read_bytes())
    assert written[0] == written[1]
    printed = capsys.readouterr().out
    assert 'static_3' in printed
    assert 'all stages meet it at rest' in printed
    page = (tmp_path / 'a.html').read_text(encoding='utf-8')
    assert page.count('<svg') >= 2
    assert 'by hand under load' in page


def test_a_replay_has_a_row_for_each_policy_and_deadline(recorded, tmp_path):
    file = tmp_path / 'r.json'
    words = ('--replay', recorded, '--deadlines', '10,30', '--policies', 'ours,oracle')
    assert run(*words, '--json', file) == 0
    rows = read(file)['rows']
    assert [(r['policy'], r['deadline_ms'], r['source']) for r in rows] == [
        (policy, deadline_ms, 'replayed')
        for deadline_ms in (10.0, 30.0)
        for policy in ('ours', 'oracle')
    ]
    assert all(r['decisions_sha256'] for r in rows)
    assert read(file)['setup']['deadlines'][0] == {'ms': 10.0, 'why': 'as given'}


def test_recordings_of_one_load_are_told_apart(recorded, tmp_path):
    other = tmp_path / 'other.jsonl'
    write_recording(other, noisy_recording(seed=2))
    words = ('--replay', recorded, other, '--deadlines', '20', '--policies', 'ours,oracle')
    assert run(*words, '--json', tmp_path / 'r.json') == 0
    rows = read(tmp_path / 'r.json')['rows']
    assert [r['load'] for r in rows] == ['by_hand.jsonl'] * 2 + ['other.jsonl'] * 2
    assert all(r['share_of_oracle'] for r in rows)


def test_a_live_bench_of_a_small_ladder(bundle, data, tmp_path, capsys):
    file = tmp_path / 'live.json'
    words = ('--bundle', bundle, '--data', data, '--frames', 20, '--rate-hz', 200)
    words += ('--loads', 'none,step', '--deadlines', 50, '--policies', 'ours,static_k,oracle')
    assert run(*words, '--json', file, '--html', tmp_path / 'live.html') == 0
    document = read(file)
    policies = ['ours', 'static_1', 'static_2', 'static_3', 'oracle']
    assert [(r['load'], r['policy']) for r in document['rows']] == [
        (load, policy) for load in ('none', 'step') for policy in policies
    ]
    assert {r['source'] for r in document['rows']} == {'live', 'replayed'}
    assert document['setup']['bundle'] == 'colours'
    printed = capsys.readouterr().out
    assert '10 passes' in printed
    assert '<svg' in (tmp_path / 'live.html').read_text(encoding='utf-8')


def test_recording_leaves_one_file_per_load_that_can_be_replayed(bundle, data, tmp_path):
    words = ('--bundle', bundle, '--data', data, '--frames', 20, '--rate-hz', 200)
    words += ('--policies', 'ours', '--deadlines', 'auto')
    assert run(*words, '--loads', 'none,step', '--record', tmp_path / 'run.jsonl') == 0
    files = [tmp_path / f'run-{load}.jsonl' for load in ('none', 'step')]
    assert [read_recording(file).load for file in files] == ['none', 'step']
    assert run('--replay', *files, '--json', tmp_path / 'r.json') == 0
    assert {r['load'] for r in read(tmp_path / 'r.json')['rows']} == {'none', 'step'}
    assert run(*words, '--loads', 'step', '--record', tmp_path / 'one.jsonl') == 0
    assert read_recording(tmp_path / 'one.jsonl').load == 'step'


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (('--frames', 1), '--frames'),
        (('--rate-hz', 0), '--rate-hz'),
        (('--rate-hz', 'nan'), '--rate-hz'),
        (('--miss-target', 0), '--miss-target'),
        (('--miss-target', 'nan'), '--miss-target'),
        (('--seed', -1), '--seed'),
        (('--realtime-priority', 100), '--realtime-priority'),
        (('--loads', 'none,heavy'), "'heavy'"),
        (('--deadlines', 'soon'), '--deadlines'),
        (('--policies', 'best'), "'best'"),
        (('--ros', '--policies', 'all'), 'one policy'),
        (('--ros', '--policies', 'ours,alert'), 'one policy'),
        (('--bundle', 'missing'), "'missing'"),
        (('--record', 'r.jsonl', '--loads', 'step,trace:step.csv'), 'one file'),
    ],
)
def test_what_cannot_be_used_is_told_before_anything_runs(words, told, monkeypatch):
    monkeypatch.setattr(command, 'make_film', lambda *_, **__: pytest.fail('it began'))
    with pytest.raises(AnytimeError, match=told):
        run(*words)


def test_a_bundle_without_data_of_its_own_needs_some(bundle):
    with pytest.raises(ConfigurationError, match="'colours' needs --data"):
        run('--bundle', bundle)


def test_a_missing_recording_is_one_clear_error(tmp_path):
    with pytest.raises(AnytimeError, match='cannot be read'):
        run('--replay', tmp_path / 'missing.jsonl')


def test_files_are_named_after_their_loads():
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    args = parser.parse_args(['--record', 'out/run.jsonl', '--loads', 'none,trace:in/my load.csv'])
    names = [options.record_file(args, load).name for load in options.load_names(args)]
    assert names == ['run-none.jsonl', 'run-my_load.jsonl']
