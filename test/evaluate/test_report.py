"""`anytime-dnn report`: its figures, its page, its plots, and what it refuses."""

import argparse
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from anytime_dnn_ros.datasets import DatasetError
from anytime_dnn_ros.errors import BundleError, ConfigurationError
from anytime_dnn_ros.evaluate import report
from anytime_dnn_ros.evaluate.calibrate import calibrate_bundle
from anytime_dnn_ros.evaluate.measurement import distinct_names
from anytime_dnn_ros.ladder.bundle import read_bundle
from evaluate.colour_images import write_images
from ladders import make_ladder

VOID = {'meta', 'path', 'use', 'rect'}
KEYS = {'macs_sequential', 'time_ms', 'top1', 'ece', 'ece_calibrated'}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp('report') / 'tints')


@pytest.fixture(scope='module')
def bundle(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('one') / 'colours')


@pytest.fixture(scope='module')
def other(tmp_path_factory):
    return make_ladder(tmp_path_factory.mktemp('two') / 'colours', convolutions=(2, 2))


def run(*words):
    parser = argparse.ArgumentParser()
    report.add_arguments(parser)
    return report.run(parser.parse_args([str(word) for word in words]))


@pytest.fixture(scope='module')
def written(bundle, other, data, tmp_path_factory):
    out = tmp_path_factory.mktemp('out')
    files = {'json': out / 'new' / 'r.json', 'html': out / 'r.html', 'plot': out / 'r.png'}
    options = [word for name, file in files.items() for word in (f'--{name}', file)]
    assert run(bundle.path, other.path, '--data', data, *options) == 0
    return files


def test_json_has_every_ladder_with_every_exit(written, bundle, other):
    figures = json.loads(written['json'].read_text())
    assert [len(ladder['exits']) for ladder in figures['ladders']] == [3, 2]
    assert figures['data'] == {'name': 'tints/test', 'images': 30, 'classes': 3}
    for ladder, source in zip(figures['ladders'], (bundle, other), strict=True):
        assert ladder['kind'] == 'interruptible'
        assert set(ladder['exits'][0]) >= KEYS
        macs = np.cumsum([stage.macs for stage in source.manifest.stages])
        assert [e['macs_sequential'] for e in ladder['exits']] == list(macs)
        times = [e['time_ms'] for e in ladder['exits']]
        assert times == sorted(times)
        assert times[0] > 0
        shares = [ladder['auc'], ladder['auc_ms'], *ladder['monotone_violations'].values()]
        shares += [e[key] for e in ladder['exits'] for key in ('top1', 'ece', 'ece_calibrated')]
        assert all(0 <= share <= 1 for share in shares)


def test_accuracy_is_that_of_the_pixels_themselves(written, data):
    # Both ladders name the strongest colour.
    right = []
    for file in sorted((data / 'test').rglob('*.png')):
        strongest = cv2.imread(str(file))[..., ::-1].mean((0, 1)).argmax()
        right.append(('red', 'green', 'blue')[strongest] == file.parent.name)
    assert 0.3 < np.mean(right) < 0.95
    for ladder in json.loads(written['json'].read_text())['ladders']:
        assert [e['top1'] for e in ladder['exits']] == pytest.approx(
            [np.mean(right)] * len(ladder['exits'])
        )


def test_the_budget_is_the_same_for_all_ladders_and_named(written):
    figures = json.loads(written['json'].read_text())
    last = max(ladder['exits'][-1]['macs_sequential'] for ladder in figures['ladders'])
    assert figures['budget']['macs'] == [0, last]
    assert 'costliest' in figures['budget']['macs_chosen']
    assert 'costliest' in figures['budget']['time_ms_chosen']
    # A guess, then always the same accuracy.
    for ladder in figures['ladders']:
        first = ladder['exits'][0]
        share = first['macs_sequential'] / last
        area = share / 3 + (1 - share) * first['top1']
        assert ladder['auc'] == pytest.approx(area)


def test_ladders_of_one_name_are_told_apart(written, bundle, other):
    names = [x['name'] for x in json.loads(written['json'].read_text())['ladders']]
    assert names == [f'{b.path.parent.name}/colours' for b in (bundle, other)]


@pytest.mark.parametrize(
    ('ladders', 'told'),
    [
        (['a=/x/a', 'b=/x/b'], ['a', 'b']),
        (['a=/x/a', 'a=/x/b', 'c=/x/c'], ['a', 'b', 'c']),
        (['a=/x/1/a', 'a=/x/2/a', 'b=/x/1/b'], ['1/a', '2/a', 'b']),
        (['a=/x/1/a', 'a=/y/1/a'], ['x/1/a', 'y/1/a']),
        (['a=/x/a', 'a=/x/a', 'a=/y/a'], ['x/a #1', 'x/a #2', 'y/a']),
        (['a=/a', 'a=/x/a'], ['a', 'x/a']),
    ],
)
def test_names_are_distinct_and_short(ladders, told):
    pairs = [ladder.split('=') for ladder in ladders]
    assert distinct_names([(name, Path(path)) for name, path in pairs]) == told


class Balance(HTMLParser):
    """Complains about a tag that is closed in the wrong place, or never."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_beside_it(written):
    page = written['html'].read_text()
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    # Curves, violations, and the reliability of each ladder.
    assert page.count('<svg') == 4
    assert not re.search(r'<(?:script|link|img)\b|@import', page)
    for link in re.findall(r'(?<!xlink:)(?:src|href)="([^"]*)"', page):
        assert link.startswith('#')


def test_the_page_names_data_count_and_units(written):
    page = written['html'].read_text()
    assert '<h1>tints/test: 30 images, 3 classes</h1>' in page
    for axis in ('sequential cost (MMAC)', 'accuracy (top-1, %)', 'images (%)'):
        assert f'>{axis}<' in page
    assert '1 thread (ms)' in page
    assert 'resize of the frame not included' in page


def test_the_plot_is_a_picture(written):
    picture = cv2.imread(str(written['plot']))
    assert picture.shape[0] > 400
    assert picture.std() > 5


def test_an_svg_plot_names_the_ladder(bundle, data, tmp_path):
    file = tmp_path / 'curve.svg'
    assert run(bundle.path, '--data', data, '--plot', file, '--limit', 9) == 0
    assert 'colours (interruptible)' in file.read_text()
    assert 'tints/test: 9 images, 3 classes' in file.read_text()


def test_a_name_with_signs_of_html_is_escaped(bundle, data, tmp_path):
    odd = data.with_name('a<b>&c')
    odd.symlink_to(data, target_is_directory=True)
    file = tmp_path / 'page.html'
    assert run(bundle.path, '--data', odd, '--html', file) == 0
    assert 'a&lt;b&gt;&amp;c/test' in file.read_text()
    assert '<b>' not in file.read_text()


def test_exit_rules_are_simulated_on_the_images(data, tmp_path):
    source = make_ladder(tmp_path / 'ruled')
    images = report.read_validation(argparse.Namespace(data=data, size=None, limit=0))
    assert calibrate_bundle(source.path, images).quality.exit_rules
    files = tmp_path / 'r.json', tmp_path / 'r.html'
    assert run(source.path, '--data', data, '--json', files[0], '--html', files[1]) == 0
    ladder = json.loads(files[0].read_text())['ladders'][0]
    total = ladder['exits'][-1]['macs_sequential']
    assert {rule['rule'] for rule in ladder['exit_rules']} <= {'entropy', 'max_softmax', 'learned'}
    for rule in ladder['exit_rules']:
        assert 0 < rule['mean_macs'] <= total
        # All exits of these ladders answer alike.
        assert rule['top1'] == pytest.approx(ladder['exits'][0]['top1'])
    assert 'Exit rules: ruled' in files[1].read_text()


def test_a_bundle_without_quality_data_is_measured_and_claims_no_calibration(data, tmp_path):
    plain = make_ladder(tmp_path / 'plain', with_quality=False)
    files = tmp_path / 'r.json', tmp_path / 'r.html'
    assert run(plain.path, '--data', data, '--json', files[0], '--html', files[1]) == 0
    ladder = json.loads(files[0].read_text())['ladders'][0]
    assert all(e['ece_calibrated'] is None and e['ece'] >= 0 for e in ladder['exits'])
    assert ladder['monotone_violations_calibrated'] is None
    assert "the bundle's temperatures<" not in files[1].read_text()


def test_validation_images_are_those_that_training_holds_out(bundle, data, tmp_path):
    file = tmp_path / 'r.json'
    assert run(bundle.path, '--data', data, '--split', 'validation', '--json', file) == 0
    assert json.loads(file.read_text())['data'] == {
        'name': 'tints/validation',
        'images': 6,
        'classes': 3,
    }


def test_a_budget_may_be_given(bundle, data, tmp_path):
    file = tmp_path / 'r.json'
    words = ['--budget-mmac', '100,200', '--budget-ms', '0,1e6', '--json', file]
    assert run(bundle.path, '--data', data, *words) == 0
    figures = json.loads(file.read_text())
    assert figures['budget'] == {
        'macs': [1e8, 2e8],
        'macs_chosen': 'as given',
        'time_ms': [0, 1e6],
        'time_ms_chosen': 'as given',
    }
    ladder = figures['ladders'][0]
    # Long after the last exit.
    assert ladder['auc'] == pytest.approx(ladder['exits'][-1]['top1'])


@pytest.mark.parametrize(
    ('option', 'given', 'chosen'),
    [('--budget-mmac', 'macs', 'time_ms'), ('--budget-ms', 'time_ms', 'macs')],
)
def test_one_budget_given_is_not_said_of_the_other(option, given, chosen, bundle, data, tmp_path):
    file = tmp_path / 'r.json'
    assert run(bundle.path, '--data', data, option, '1,2', '--json', file) == 0
    budget = json.loads(file.read_text())['budget']
    assert budget[f'{given}_chosen'] == 'as given'
    assert 'costliest' in budget[f'{chosen}_chosen']


@pytest.mark.parametrize('text', ['5', '5,4', 'a,b', '1,2,3', '-1,2', '0,inf', 'nan,1'])
def test_a_budget_that_is_none_is_refused(text, bundle, data, capsys):
    with pytest.raises(SystemExit) as end:
        run(bundle.path, '--data', data, f'--budget-mmac={text}')
    assert end.value.code == 2
    assert 'LO,HI' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('words', 'error', 'said'),
    [
        (['no-such-bundle', '--data', 'DATA'], BundleError, 'no-such-bundle'),
        (['BUNDLE', '--data', 'nowhere'], DatasetError, 'nowhere'),
        (['BUNDLE', '--data', 'DATA', '--plot', 'TMP/x.gif'], ConfigurationError, '.png or .svg'),
        (['BUNDLE', '--data', 'DATA', '--json', 'TMP'], ConfigurationError, 'is a folder'),
        (
            ['BUNDLE', '--data', 'DATA', '--json', 'DATA/test/red/000.png/x'],
            ConfigurationError,
            'cannot write',
        ),
        (['BUNDLE', '--data', 'DATA', '--limit', '-3'], DatasetError, 'negative'),
    ],
)
def test_what_cannot_be_used_is_one_error(words, error, said, bundle, data, tmp_path):
    real = {'BUNDLE': str(bundle.path), 'DATA': str(data), 'TMP': str(tmp_path)}
    for name, value in real.items():
        words = [word.replace(name, value) for word in words]
    with pytest.raises(error, match=re.escape(said)):
        run(*words)
    assert list(tmp_path.iterdir()) == []


def test_other_classes_are_refused_and_nothing_is_written(bundle, tmp_path):
    wrong = write_images(tmp_path / 'wrong', train=2, test=2, classes=('red', 'green', 'violet'))
    with pytest.raises(ConfigurationError, match=r"only in the bundle 'blue'.*'violet'"):
        run(bundle.path, '--data', wrong, '--json', tmp_path / 'r.json')
    assert not (tmp_path / 'r.json').exists()


def test_a_contract_ladder_is_called_so(bundle, data, tmp_path, monkeypatch):
    contract = replace(bundle, manifest=replace(bundle.manifest, kind='contract'))
    monkeypatch.setattr(report, 'read_bundle', lambda path: contract)
    file = tmp_path / 'r.json'
    assert run(bundle.path, '--data', data, '--json', file) == 0
    assert json.loads(file.read_text())['ladders'][0]['kind'] == 'contract'


def test_a_terminal_that_is_closed_costs_no_figures(bundle, data, tmp_path, monkeypatch):
    def closed(*_):
        raise SystemExit(1)

    monkeypatch.setattr(report, '_print', closed)
    with pytest.raises(SystemExit):
        run(bundle.path, '--data', data, '--json', tmp_path / 'r.json')
    assert json.loads((tmp_path / 'r.json').read_text())['ladders']


def test_a_folder_with_brackets_is_named_as_it_is(bundle, tmp_path, capsys):
    data = write_images(tmp_path / 'tints[old]')
    assert run(bundle.path, '--data', data) == 0
    assert 'tints[old]/test: 30 images' in capsys.readouterr().out


def test_the_terminal_shows_every_exit(bundle, data, capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '200')
    assert run(bundle.path, '--data', data) == 0
    printed = capsys.readouterr().out
    for stage in read_bundle(bundle.path).manifest.stages:
        assert stage.name in printed
    assert 'tints/test: 30 images' in printed
    assert 'interruptible' in printed


def test_what_is_published_and_declared_stands_beside_each_exit(bundle, data, tmp_path, capsys):
    file, page = tmp_path / 'r.json', tmp_path / 'r.html'
    assert run(bundle.path, '--data', data, '--json', file, '--html', page) == 0
    ladder = json.loads(file.read_text())['ladders'][0]
    assert ladder['monotone'] == 'product'
    assert set(ladder['monotone_violations_published']) == set(ladder['monotone_violations'])
    for exit_ in ladder['exits']:
        assert 0 <= exit_['top1_published'] <= 1
        assert {'declared_accuracy', 'coverage', 'label_set_size', 'ece_published'} <= set(exit_)
    assert 'What is published' in page.read_text()
    assert 'what is published and declared' in capsys.readouterr().out
