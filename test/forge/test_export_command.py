"""`anytime-dnn export`: the bundle of a training, from its checkpoint alone."""

import json
import shutil

import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('lightning_fabric')

from small_training import write_easy_images  # noqa: E402

from anytime_dnn_ros.cli import main  # noqa: E402
from anytime_dnn_ros.forge import checkpoint  # noqa: E402
from anytime_dnn_ros.forge.trainer import Trainer  # noqa: E402
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_easy_images(tmp_path_factory.mktemp('data'), 120)


def train(data, out, *words, network='early_exit_resnet'):
    return main(
        [
            *('train', network, '--data', str(data), '--out', str(out), '--width', '0.2'),
            *('--batch', '16', '--threads', '1', '--device', 'cpu', '--precision', '32-true'),
            *words,
        ]
    )


@pytest.fixture(scope='module')
def trained(data, tmp_path_factory):
    """A bundle whose training stopped after its first of three epochs."""
    out = tmp_path_factory.mktemp('trained') / 'ladder'
    words = ('--stages', '3', '--epochs', '3', '--rule', 'boost', '--rule-option', 'decay=0.3')
    assert train(data, out, *words, '--ema', '0.9', '--max-minutes', '1e-6') == 0
    return out


@pytest.fixture
def saved(trained, tmp_path):
    """A copy of its checkpoint, far from the bundle."""
    return shutil.copy(trained.with_name('ladder.train') / 'checkpoint.pt', tmp_path / 'saved.pt')


@pytest.fixture
def export(data, tmp_path):
    def command(file, *words, data=data):
        where = ('--data', str(data), '--out', str(tmp_path / 'ladder'))
        return main(['export', str(file), *where, *words])

    return command


def test_export_makes_the_bundle_that_train_left(export, trained, saved, tmp_path, capsys):
    figures_file = tmp_path / 'figures' / 'export.json'
    assert export(saved, '--json', str(figures_file)) == 0
    printed = capsys.readouterr().out
    assert 'rule boost, after 1 of 3 epochs: not finished' in printed
    assert '% right' in printed
    made, known = read_bundle(tmp_path / 'ladder'), read_bundle(trained)
    assert made.manifest.stages == known.manifest.stages
    assert made.manifest.combine == known.manifest.combine
    assert (made.labels, made.quality) == (known.labels, known.quality)
    assert made.manifest.provenance['data'] == known.manifest.provenance['data']
    assert 'stopped after 1 of 3 epochs' in known.manifest.provenance['data']
    assert ' && ' in made.manifest.provenance['command']
    figures = json.loads(figures_file.read_text())
    assert (figures['epochs'], figures['bundle']) == (1, str(tmp_path / 'ladder'))
    assert sorted(file.name for file in tmp_path.iterdir()) == ['figures', 'ladder', 'saved.pt']


def test_half_weights_replace_the_bundle_by_a_smaller_one(export, data, tmp_path):
    assert train(data, tmp_path / 'ladder', '--stages', '3', '--epochs', '8') == 0
    saved = tmp_path / 'ladder.train' / 'checkpoint.pt'
    whole = [s.stat().st_size for s in sorted((tmp_path / 'ladder' / 'stages').iterdir())]
    assert export(saved, '--half-weights') == 0
    half = [s.stat().st_size for s in sorted((tmp_path / 'ladder' / 'stages').iterdir())]
    assert sum(half) < 0.8 * sum(whole)
    manifest = read_bundle(tmp_path / 'ladder').manifest
    assert all(stage.agreement['top1'] == 1 for stage in manifest.stages)


def test_the_exits_of_a_frozen_trunk_come_back_into_their_network(export, data, tmp_path, capsys):
    words = ('--cuts', 'stem,middle', '--image-size', '32', '--freeze-trunk', '--views', '2')
    known = tmp_path / 'known'
    network = 'small_trunks:scaled_residual'
    assert train(data, known, *words, '--epochs', '2', network=network) == 0
    assert export(tmp_path / 'known.train' / 'checkpoint.pt') == 0
    assert 'after 2 of 2 epochs\n' in capsys.readouterr().out
    made = read_bundle(tmp_path / 'ladder').manifest
    assert made.stages == read_bundle(known).manifest.stages
    assert made.provenance['data'] == read_bundle(known).manifest.provenance['data']


def test_a_training_without_a_whole_epoch_is_refused(export, data, tmp_path, monkeypatch, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, 'run_epoch', interrupted)
    assert train(data, tmp_path / 'begun', '--stages', '3') == 130
    assert export(tmp_path / 'begun.train' / 'checkpoint.pt') == 1
    assert 'not trained for a whole epoch' in capsys.readouterr().err
    assert not (tmp_path / 'ladder').exists()


def test_a_checkpoint_without_options_gets_them_by_resume(data, export, saved, tmp_path, capsys):
    train_folder = tmp_path / 'old.train'
    train_folder.mkdir()
    old = checkpoint.read(saved)
    checkpoint.save(train_folder / 'checkpoint.pt', old.identity, old.state)
    assert export(train_folder / 'checkpoint.pt') == 1
    assert 'once more with --resume' in capsys.readouterr().err
    words = ('--stages', '3', '--epochs', '3', '--rule', 'boost', '--rule-option', 'decay=0.3')
    assert train(data, tmp_path / 'old', *words, '--ema', '0.9', '--resume') == 0
    assert export(train_folder / 'checkpoint.pt') == 0
    assert 'after 3 of 3 epochs\n' in capsys.readouterr().out


@pytest.mark.parametrize('damage', ['missing', 'folder', 'cut', 'another file'])
def test_what_is_no_checkpoint_is_told(export, saved, tmp_path, capsys, damage):
    if damage == 'missing':
        saved.unlink()
    elif damage == 'cut':
        saved.write_bytes(saved.read_bytes()[:-1])
    elif damage == 'another file':
        saved.write_text('epoch,lr\n')
    assert export(tmp_path if damage == 'folder' else saved) == 1
    said = capsys.readouterr().err
    assert 'checkpoint.pt' in said or 'damaged or is no checkpoint' in said
    assert said.count('\n') == 1
    assert not (tmp_path / 'ladder').exists()


def test_other_data_is_refused(export, saved, tmp_path, capsys):
    other = write_easy_images(tmp_path / 'other', 120, seed=2)
    assert export(saved, data=other) == 1
    said = capsys.readouterr().err
    assert 'of another training (data: ' in said
    assert 'same options and data' in said
    assert not (tmp_path / 'ladder').exists()


def test_a_folder_of_something_else_is_left_alone(export, saved, tmp_path, capsys):
    (tmp_path / 'ladder').mkdir()
    (tmp_path / 'ladder' / 'notes.txt').write_text('mine')
    assert export(saved) == 1
    assert 'is no bundle' in capsys.readouterr().err
    assert [file.name for file in (tmp_path / 'ladder').iterdir()] == ['notes.txt']


def test_help_says_what_a_checkpoint_is(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['export', '--help'])
    assert ended.value.code == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'DIR.train/checkpoint.pt' in printed
    assert '--half-weights' in printed
