"""`anytime-dnn profile`: its table, its figures, its page, what it keeps and what it refuses."""

import argparse
import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from anytime_dnn_ros import cli
from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.errors import AnytimeError, BundleError, ConfigurationError
from anytime_dnn_ros.evaluate import profile
from anytime_dnn_ros.evaluate.profile import figures, measure_profile, rows
from anytime_dnn_ros.evaluate.profile_page import profile_page, quality_figure, stage_figure
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.reference import ReferenceTimes
from evaluate.test_report import Balance
from ladders import make_ladder

RUNS = 8


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('profiled') / 'colours')


@pytest.fixture(scope='module')
def silent(tmp_path_factory):
    """A ladder that declares nothing."""
    return make_ladder(tmp_path_factory.mktemp('silent') / 'silent', with_quality=False)


def run(*words):
    parser = argparse.ArgumentParser()
    profile.add_arguments(parser)
    return profile.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def measured(bundle, monkeypatch):
    """A profile of times that are known, in seconds [4 rounds, 3 stages]."""
    samples = 1e-3 * np.array([[1, 2, 4], [1, 2, 4], [1, 2, 4], [1, 2, 14]], float)
    path = ServingPath(bundle, load_engine(bundle))
    monkeypatch.setattr(
        path, 'measure_reference_times', lambda runs, **options: ReferenceTimes(samples, 25.0)
    )
    yield measure_profile(path, None, say=pytest.fail)
    path.engine.close()


def test_each_stage_has_its_time_alone_and_that_of_its_answer(measured, bundle):
    first, _, last = measured.stages
    assert [s.name for s in measured.stages] == ['exit1', 'exit2', 'exit3']
    assert [s.macs for s in measured.stages] == [s.macs for s in bundle.manifest.stages]
    assert (first.time_ms, last.time_ms, last.answer_ms) == pytest.approx((1, 4, 7))
    assert last.time_p99_ms == pytest.approx(13.7)
    assert last.answer_p99_ms == pytest.approx(16.7)
    assert [s.time_share for s in measured.stages] == pytest.approx([1 / 7, 2 / 7, 4 / 7])
    assert [s.expected_accuracy for s in measured.stages] == pytest.approx([0.5, 0.6, 0.7])
    assert rows(measured)[3] == (
        'exit3',
        f'{last.macs / 1e6:.2f}',
        '4.000',
        '13.700',
        '7.000',
        '16.700',
        '70.00',
        '57.1',
    )


def test_the_figures_say_what_the_times_depend_on(measured):
    written = figures(measured)
    assert written['runs'] == 4
    assert written['cpu_percent'] == 25
    assert (written['kept'], written['cache_file']) == (False, None)
    assert written['depends_on']['engine']['threads'] == 1
    np.testing.assert_allclose(np.median(written['samples_ms'], axis=0), [1, 2, 4])
    unknown = replace(measured, times=replace(measured.times, cpu_percent=float('nan')))
    assert figures(unknown)['cpu_percent'] is None
    assert 'busy' in measured.origin
    assert 'busy' not in unknown.origin


def test_the_plots_draw_the_times_they_are_given(measured):
    axes = quality_figure(measured).axes[0]
    half, most = ([*line.get_xdata()] for line in axes.lines[2:4])
    assert half == pytest.approx([s.answer_ms for s in measured.stages])
    assert most == pytest.approx([s.answer_p99_ms for s in measured.stages])
    assert [*axes.lines[2].get_ydata()] == pytest.approx([50, 60, 70])
    axes = stage_figure(measured).axes[0]
    dots = [points.get_offsets()[:, 1] for points in axes.collections]
    np.testing.assert_allclose(np.transpose(dots), 1e3 * measured.times.samples_s)
    assert [t.get_text() for t in axes.get_xticklabels()] == ['1 exit1', '2 exit2', '3 exit3']


def test_the_page_is_whole_and_needs_nothing_beside_it(measured):
    page = profile_page(measured, {'tool': '1.0 <beta>'})
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert page.count('<svg') == 2
    assert '<h1>colours on this machine</h1>' in page
    assert 'tool 1.0 &lt;beta&gt;' in page
    for axis in (
        'time from the frame to the answer (ms)',
        'declared accuracy (top-1, %)',
        'time of the stage alone (ms)',
    ):
        assert f'>{axis}<' in page
    assert not re.search(r'<(?:script|link|img)\b|@import', page)


def test_a_bundle_that_declares_nothing_is_drawn_without_an_accuracy(silent, tmp_path):
    files = {name: tmp_path / f'out.{name}' for name in ('json', 'html')}
    options = [word for name, file in files.items() for word in (f'--{name}', file)]
    assert run(silent.path, '--runs', 2, '--cache-dir', 'none', *options) == 0
    stages = json.loads(files['json'].read_text())['stages']
    assert [s['expected_accuracy'] for s in stages] == [None] * 3
    page = files['html'].read_text()
    assert 'declares no accuracy' in page
    assert '>stages that have answered<' in page
    assert 'declared accuracy' not in page
    assert 'silent on this machine' in page


def test_what_was_measured_is_kept_and_shown_the_next_time(bundle, tmp_path, capsys):
    cache, file = tmp_path / 'cache', tmp_path / 'p.json'
    words = (bundle.path, '--runs', RUNS, '--cache-dir', cache, '--json', file)
    assert run(*words) == 0
    first = json.loads(file.read_text())
    assert first['kept'] is False
    (kept,) = cache.iterdir()
    assert first['cache_file'] == str(kept)
    # Five times as fast as this machine ever is, so that its load now cannot spoil the test.
    document = json.loads(kept.read_text())
    document['samples_s'] = [[0.2 * s for s in row] for row in document['samples_s']]
    kept.write_text(json.dumps(document))
    capsys.readouterr()
    assert run(*words) == 0
    second = json.loads(file.read_text())
    assert second['kept'] is True
    np.testing.assert_allclose(second['samples_ms'], 0.2 * np.array(first['samples_ms']))
    printed = capsys.readouterr()
    assert 'kept from earlier' in printed.out
    assert str(kept) in printed.out.replace('\n', '')
    assert printed.err == ''


@pytest.mark.parametrize('more', [['--fresh'], ['--runs', str(RUNS + 1)]])
def test_fresh_times_or_more_of_them_are_measured_and_replace_the_kept(bundle, tmp_path, more):
    cache, file = tmp_path / 'cache', tmp_path / 'p.json'
    words = (bundle.path, '--runs', RUNS, '--cache-dir', cache, '--json', file)
    run(*words)
    (kept,) = cache.iterdir()
    old = kept.read_text()
    assert run(*words, *more) == 0
    assert json.loads(file.read_text())['kept'] is False
    assert kept.read_text() != old


def test_threads_are_part_of_what_the_times_depend_on(bundle, tmp_path):
    for threads in (1, 2):
        run(bundle.path, '--runs', 2, '--cache-dir', tmp_path, '--threads', threads)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_named_on_stderr_and_replaced(bundle, tmp_path, capsys):
    words = (bundle.path, '--runs', RUNS, '--cache-dir', tmp_path)
    run(*words)
    (kept,) = tmp_path.iterdir()
    kept.write_text('{')
    assert run(*words) == 0
    assert f'{kept} cannot be used' in capsys.readouterr().err
    assert len(json.loads(kept.read_text())['samples_s']) == RUNS


def test_a_cache_that_cannot_be_made_costs_a_warning(bundle, tmp_path, capsys):
    (tmp_path / 'file').write_text('')
    assert run(bundle.path, '--runs', 2, '--cache-dir', tmp_path / 'file' / 'cache') == 0
    printed = capsys.readouterr()
    assert 'cannot be kept' in printed.err
    assert 'kept in' not in printed.out


def test_progress_is_told_before_each_round(bundle):
    told = []
    path = ServingPath(bundle, load_engine(bundle))
    measure_profile(path, None, say=pytest.fail, runs=3, progress=lambda *now: told.append(now))
    path.engine.close()
    assert told == [('colours', done, 3) for done in range(3)]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(bundle, tmp_path, monkeypatch):
    monkeypatch.setattr(profile, 'loaded', pytest.fail)
    (tmp_path / 'file').write_text('')
    for option in ('--json', '--html'):
        with pytest.raises(ConfigurationError, match='choose another'):
            run(bundle.path, option, tmp_path / 'file' / 'page')


def test_no_such_bundle_is_an_error_that_names_those_there_are():
    with pytest.raises(BundleError, match='fashion'):
        run('no_such_ladder')


@pytest.mark.parametrize(
    'words', [['--runs', '1'], ['--runs', 'many'], ['--threads', '0'], ['--engine', 'none']]
)
def test_an_option_out_of_range_is_refused_with_the_range(bundle, words, capsys):
    with pytest.raises(SystemExit):
        run(bundle.path, *words)
    said = capsys.readouterr().err
    assert words[0] in said
    assert 'to 10000' in said or 'to 64' in said or 'onnxruntime' in said


def test_plots_are_not_needed_for_the_table(bundle, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, 'anytime_dnn_ros.evaluate.profile_page')
    monkeypatch.setitem(sys.modules, 'matplotlib', None)
    monkeypatch.setitem(sys.modules, 'matplotlib.figure', None)
    words = ['profile', str(bundle.path), '--runs', '2', '--cache-dir', 'none']
    assert cli.main(words) == 0
    assert 'exit3' in capsys.readouterr().out
    assert cli.main([*words, '--html', 'page.html']) == 1
    assert "pip install '.[demo]'" in capsys.readouterr().err


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of its own making."""
    from engines.fake_machine import FakeMachine

    return FakeMachine(monkeypatch)


def test_build_builds_every_stage_once_and_says_what_it_built(gpu, tmp_path, capsys):
    words = ('fashion', '--engine', 'tensorrt', '--build', '--cache-dir', str(tmp_path))
    for _ in range(2):
        assert run(*words) == 0
        shown = capsys.readouterr().out
        assert 'fashion: tensorrt 10.3.0, Fake Orin (compute capability 8.7)' in shown
        assert shown.count('  fp16  ') == 5
    assert gpu.built == [f'stage{k}' for k in range(1, 6)]
    assert not list(tmp_path.glob('stage_times*'))


def test_a_build_that_cannot_be_kept_is_an_error(gpu, tmp_path):
    (tmp_path / 'cache').write_text('a file')
    words = ('fashion', '--build', '--cache-dir', str(tmp_path / 'cache'))
    with pytest.raises(AnytimeError, match='not kept in'):
        run(*words)


def test_the_precision_that_was_asked_for_is_built(gpu, tmp_path, capsys):
    words = ('fashion', '--engine', 'tensorrt', '--build', '--cache-dir', str(tmp_path))
    assert run(*words, '--precision', 'fp32') == 0
    assert capsys.readouterr().out.count('fp32') == 5


def test_a_profile_by_tensorrt_is_kept_apart(gpu, tmp_path, capsys):
    words = ('fashion', '--runs', '2', '--cache-dir', str(tmp_path))
    assert run(*words, '--engine', 'tensorrt') == 0
    assert 'tensorrt' in capsys.readouterr().out
    assert run(*words, '--engine', 'onnxruntime') == 0
    assert len(list(tmp_path.glob('stage_times*'))) == 2


@pytest.mark.parametrize(
    ('words', 'mend'),
    [
        (('--engine', 'onnxruntime'), 'give --engine tensorrt'),
        (('--cache-dir', 'none'), 'leave one of the two out'),
        (('--json', 'f.json'), 'without --build'),
        ((), 'needs an NVIDIA GPU'),
    ],
)
def test_a_build_that_cannot_be_is_refused_before_it_begins(words, mend, monkeypatch):
    from anytime_dnn_ros.engines import tensorrt_loader

    monkeypatch.setattr(tensorrt_loader, 'find_device', lambda: None)
    with pytest.raises(AnytimeError, match=mend):
        run('fashion', '--build', *words)
