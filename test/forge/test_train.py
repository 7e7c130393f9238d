import argparse
import csv
import json
import math

import pytest

torch = pytest.importorskip('torch')
lightning_fabric = pytest.importorskip('lightning_fabric')

from lightning_fabric.utilities.exceptions import MisconfigurationException  # noqa: E402
from small_training import write_easy_images  # noqa: E402

from anytime_dnn_ros.cli import main  # noqa: E402
from anytime_dnn_ros.errors import ConfigurationError  # noqa: E402
from anytime_dnn_ros.forge import train, train_job, trained_bundle  # noqa: E402
from anytime_dnn_ros.forge.augment import Augmentation  # noqa: E402
from anytime_dnn_ros.forge.networks import NETWORKS  # noqa: E402
from anytime_dnn_ros.forge.rules import RULES  # noqa: E402
from anytime_dnn_ros.forge.trainer import Trainer  # noqa: E402
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402

STAGES = 3


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_easy_images(tmp_path_factory.mktemp('data'), 90)


@pytest.fixture
def run(data, tmp_path):
    """Runs the command on those images; `--out` is the name of a bundle."""

    def command(*words, out='ladder', network='early_exit_resnet'):
        return main(
            [
                *('train', network, '--data', str(data), '--out', str(tmp_path / out)),
                *('--width', '0.1', '--stages', str(STAGES), '--batch', '16', '--threads', '1'),
                *('--device', 'cpu', '--precision', '32-true', *words),
            ]
        )

    return command


def test_one_command_leaves_a_bundle_its_log_and_its_figures(run, tmp_path):
    figures_file = tmp_path / 'figures' / 'train.json'
    assert run('--rule', 'boost', '--epochs', '2', '--json', str(figures_file)) == 0
    bundle = read_bundle(tmp_path / 'ladder')
    assert bundle.manifest.combine.rule == 'stack'
    assert bundle.labels == ('bottom', 'middle', 'top')
    assert bundle.quality.held_out
    assert len(bundle.quality.stages) == STAGES
    figures = json.loads(figures_file.read_text())
    assert (figures['network']['name'], figures['rule']) == ('early_exit_resnet', 'boost')
    assert figures['macs'] == [stage.macs for stage in bundle.manifest.stages]
    assert figures['identity']['epochs'] == 2
    assert figures['bundle'] == str(tmp_path / 'ladder')
    assert figures['epochs'] == 2
    rows = list(csv.DictReader((tmp_path / 'ladder.train' / 'log.csv').open()))
    assert [row['epoch'] for row in rows] == ['1', '2']
    last = [float(rows[-1][f'accuracy_{k}']) for k in range(1, STAGES + 1)]
    assert figures['validation_accuracies'] == last
    assert all(math.isfinite(float(row['loss_3'])) for row in rows)


def test_a_ladder_of_snapshots_is_exported_whole(run, tmp_path):
    figures_file = tmp_path / 'train.json'
    words = ('--rule', 'snapshot', '--rule-option', 'cycles=2', '--epochs', '2')
    assert run(*words, '--json', str(figures_file)) == 0
    bundle = read_bundle(tmp_path / 'ladder')
    assert (bundle.manifest.kind, bundle.manifest.combine.rule) == ('contract', 'average')
    figures = json.loads(figures_file.read_text())
    assert len(bundle.manifest.stages) == len(figures['validation_accuracies']) == STAGES + 1
    assert figures['macs'] == [stage.macs for stage in bundle.manifest.stages]


def test_ctrl_c_leaves_the_whole_epochs_and_says_how_to_go_on(run, tmp_path, monkeypatch, capsys):
    words = ('--epochs', '3', '--ema', '0.9', '--seed', '5')
    assert run(*words, out='whole') == 0
    run_epoch = Trainer.run_epoch

    def interrupted(trainer, on_step):
        def stop(done):
            on_step(done)
            if (trainer.epoch, done) == (1, 2):
                raise KeyboardInterrupt

        return run_epoch(trainer, stop)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, 'run_epoch', interrupted)
        assert run(*words) == 130
    assert '--resume' in capsys.readouterr().err
    assert not (tmp_path / 'ladder').exists()
    assert run(*words, '--resume') == 0
    whole, resumed = (read_bundle(tmp_path / name).manifest for name in ('whole', 'ladder'))
    assert [s.sha256 for s in resumed.stages] == [s.sha256 for s in whole.stages]
    assert run(*words, '--resume', '--rule', 'weighted') == 1
    assert 'rule: sum there, weighted here' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('network', 'expected'),
    [
        ('msdnet', 'of the weights: what the training data allows'),
        ('my_package.models:make', "allows, and the licence of the trunk's own weights"),
        ('efficientnet_lite0', "trunk's own weights (EfficientNet-Lite0: Apache-2.0)"),
    ],
)
def test_the_licence_is_that_of_the_trunk_too(network, expected):
    assert trained_bundle.weights_licence(network).endswith(expected)


def test_half_weights_are_another_way_to_store_the_same_training(run, tmp_path):
    assert run('--epochs', '8') == 0
    assert run('--epochs', '8', '--resume', '--half-weights') == 0
    manifest = read_bundle(tmp_path / 'ladder').manifest
    assert all('float16' in stage.agreement['data'] for stage in manifest.stages)


def test_ctrl_c_while_calibrating_leaves_no_bundle(run, tmp_path, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(trained_bundle, 'calibrate_bundle', interrupted)
    assert run('--epochs', '1') == 130
    assert [file.name for file in tmp_path.iterdir()] == ['ladder.train']


def test_early_stop_is_noted_in_the_bundle(run, tmp_path, capsys):
    assert run('--epochs', '9', '--early-stop', '1', '--lr', '1e-9') == 0
    assert 'stopped early: no epoch was better than epoch' in capsys.readouterr().out
    bundle = read_bundle(tmp_path / 'ladder')
    assert 'chose the epoch' in bundle.quality.data
    assert bundle.manifest.provenance['early_stop_epochs'] == 1


def test_a_smaller_share_is_held_out_and_calibrated_on_later(run, data, tmp_path):
    assert run('--epochs', '1', '--validation-share', '0.04') == 0
    bundle = read_bundle(tmp_path / 'ladder')
    assert bundle.manifest.provenance['validation_share'] == 0.04
    assert '86 images), validated' in bundle.manifest.provenance['data']
    anew = tmp_path / 'anew'
    assert main(['calibrate', str(bundle.path), '--data', str(data), '--out', str(anew)]) == 0
    assert read_bundle(anew).quality == bundle.quality


@pytest.mark.parametrize('share', ['0', '1', 'nan'])
def test_a_share_that_holds_out_none_or_all_is_told(run, capsys, share):
    assert run('--validation-share', share) == 1
    assert 'give more than 0 and less than 1' in capsys.readouterr().err


def test_every_process_has_the_threads_that_were_asked_for(run, monkeypatch):
    threads = []

    def in_a_new_process(fabric, work):
        torch.set_num_threads(2)
        figures = work(fabric)
        threads.append(torch.get_num_threads())
        return figures

    monkeypatch.setattr(train, 'in_every_process', in_a_new_process)
    assert run('--epochs', '1') == 0
    assert threads == [1]


def test_the_wall_time_ends_a_training_between_epochs(run, tmp_path, capsys):
    assert run('--epochs', '50', '--max-minutes', '1e-6') == 0
    assert 'after 1 of 50 epochs' in capsys.readouterr().out
    assert len((tmp_path / 'ladder.train' / 'log.csv').read_text().splitlines()) == 2


def test_an_earlier_training_is_set_aside(run, tmp_path):
    assert run('--epochs', '1') == 0
    before = (tmp_path / 'ladder.train' / 'checkpoint.pt').read_bytes()
    assert run('--epochs', '1', '--seed', '1') == 0
    assert (tmp_path / 'ladder.train' / 'previous_checkpoint.pt').read_bytes() == before
    assert run('--epochs', '1', '--seed', '1', '--resume') == 0


@pytest.mark.parametrize(
    ('words', 'mend'),
    [
        (('--resume',), 'starts without --resume'),
        (('--rule', 'best'), 'no training rule'),
        (('--rule-option', 'gamma'), 'NAME=VALUE'),
        (('--rule-option', 'gamma=1'), 'no option gamma'),
        (('--augment', 'spin'), "'spin' is none of flip"),
        (('--augment', 'pad'), "'pad' is none of flip"),
        (('--device', 'abacus'), 'no training on --device abacus'),
        (('--devices', '-1'), '--devices -1: give more than 0'),
        (('--num-nodes', '0'), '--num-nodes 0: give more than 0'),
        (('--batch', '1000'), 'smaller --batch'),
        (('--lr', '1e30', '--epochs', '2'), 'lower --lr'),
        (('--threads', '0'), '--threads 0: give more than 0'),
        (('--max-minutes', 'nan'), '--max-minutes nan: give more than 0'),
        (('--width', 'inf'), '--width inf: give more than 0, and a finite number'),
        (('--limit', '10', '--batch', '4'), '1 image is held out of 10'),
        (('--validation-share', '0.011'), 'or a larger --limit or --validation-share'),
        (('--batch', '1'), 'BatchNorm'),
        (('--json', '/dev/null/figures.json'), 'choose another file'),
        (('--label-smoothing', '2'), 'label_smoothing'),
        (('--views', '3'), 'add --freeze-trunk'),
    ],
)
def test_what_cannot_be_done_is_told_with_its_mend(run, tmp_path, capsys, words, mend):
    assert run(*words) == 1
    assert mend in capsys.readouterr().err
    assert not (tmp_path / 'ladder').exists()


@pytest.mark.parametrize(
    'error', [TypeError('no number'), MisconfigurationException('you asked for 8 GPUs')]
)
def test_devices_that_are_not_here_are_told(run, monkeypatch, capsys, error):
    def refuse(**_):
        raise error

    monkeypatch.setattr(lightning_fabric, 'Fabric', refuse)
    assert run('--devices', '8') == 1
    assert f'no training on --device cpu --devices 8 --strategy auto: {error}' in (
        capsys.readouterr().err
    )


def test_an_unknown_network_is_told(run, capsys):
    assert run(network='perceptron') == 1
    assert "no network 'perceptron'; give one of" in capsys.readouterr().err


@pytest.mark.parametrize('name', ['.hidden', 'two words'])
def test_a_folder_that_names_no_bundle_is_refused_before_the_work(run, tmp_path, capsys, name):
    assert run(out=name) == 1
    assert 'letters, digits' in capsys.readouterr().err
    assert not any(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(run, tmp_path, capsys):
    (tmp_path / 'ladder').mkdir()
    (tmp_path / 'ladder' / 'notes.txt').write_text('mine')
    assert run() == 1
    assert 'is no bundle' in capsys.readouterr().err
    assert [file.name for file in tmp_path.rglob('*')] == ['ladder', 'notes.txt']


def test_a_cost_decides_the_width(data, tmp_path, capsys):
    words = ['train', 'early_exit_resnet', '--data', str(data), '--out', str(tmp_path / 'ladder')]
    words += ['--mmac', '0.5', '--epochs', '1', '--batch', '16', '--device', 'cpu']
    assert main(words) == 0
    macs = sum(stage.macs for stage in read_bundle(tmp_path / 'ladder').manifest.stages)
    assert 0.25e6 < macs <= 0.5e6


def test_a_cost_that_is_no_number_is_told(data, tmp_path, capsys):
    words = ['train', 'early_exit_resnet', '--data', str(data), '--out', str(tmp_path / 'ladder')]
    assert main([*words, '--mmac', 'nan']) == 1
    assert '--mmac nan: give more than 0, and a finite number' in capsys.readouterr().err


def test_help_lists_networks_and_rules(capsys):
    with pytest.raises(SystemExit) as ended:
        main(['train', '--help'])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name, network in NETWORKS.items():
        assert f'{name} ' in text
        assert network.summary in text
    for name, summary in RULES.items():
        assert f'{name} ' in text
        assert summary in text
    # Its training needs float64 and Linux.
    assert 'mps' not in text


@pytest.mark.parametrize(
    ('text', 'channels', 'class_names', 'expected'),
    [
        (None, 3, ('cat', 'dog'), Augmentation(True, 4, 0)),
        (None, 1, ('cat', 'dog'), Augmentation(True, 2, 0)),
        (None, 1, tuple('0123456789'), Augmentation(False, 2, 0)),
        ('none', 3, ('cat', 'dog'), Augmentation(False, 0, 0)),
        ('pad=3', 3, ('cat', 'dog'), Augmentation(False, 3, 0)),
        ('flip,cutout=8,pad=4', 1, ('6', '9'), Augmentation(True, 4, 8)),
    ],
)
def test_augmentation(text, channels, class_names, expected):
    assert train_job.augmentation(text, channels, class_names) == expected


def test_rule_options_are_numbers_lists_or_words():
    words = ['gamma=0.1', 'weights=[1, 0.5]', 'priority=later', 'update-every=10', 'flag=true']
    assert train_job.rule_options(words) == {
        'gamma': 0.1,
        'weights': [1, 0.5],
        'priority': 'later',
        'update_every': 10,
        'flag': True,
    }


def test_a_folder_as_the_file_of_figures_is_refused(tmp_path):
    args = argparse.Namespace(out=tmp_path / 'a' / 'ladder', json=tmp_path)
    with pytest.raises(ConfigurationError, match='is a folder'):
        train_job.check_places(args)
