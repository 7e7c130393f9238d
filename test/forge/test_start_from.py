"""`anytime-dnn train --start-from`: one training begins with what another came to."""

import argparse
from dataclasses import replace

import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('lightning_fabric')

from small_training import write_easy_images  # noqa: E402

from anytime_dnn_ros.cli import main  # noqa: E402
from anytime_dnn_ros.forge import checkpoint, train  # noqa: E402
from anytime_dnn_ros.forge.networks import build  # noqa: E402
from anytime_dnn_ros.forge.start_training import started  # noqa: E402
from anytime_dnn_ros.forge.train_job import read_job  # noqa: E402
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402

TRUNK, RESNET = 'small_trunks:scaled_residual', 'early_exit_resnet'
FROZEN = ('--freeze-trunk', '--views', '1')


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return write_easy_images(tmp_path_factory.mktemp('data'), 90)


@pytest.fixture(scope='module')
def words(data):
    """A command without its name."""

    def of(out, *more, network=TRUNK):
        cuts = ('--cuts', 'stem,middle') if network == TRUNK else ('--stages', '3')
        return [
            *(network, '--data', str(data), '--out', str(out), *cuts, '--width', '0.2'),
            *('--image-size', '32', '--batch', '16', '--epochs', '1', '--threads', '1'),
            *('--device', 'cpu', '--precision', '32-true', *map(str, more)),
        ]

    return of


@pytest.fixture(scope='module')
def trained(words, tmp_path_factory):
    """Checkpoints of trainings that others begin with, by name."""
    folder = tmp_path_factory.mktemp('trained')
    for name, network, more in (
        ('exits', TRUNK, FROZEN),
        ('other_exits', TRUNK, (*FROZEN, '--seed', '1')),
        ('tuned', TRUNK, ()),
        ('average', RESNET, ('--ema', '0.9')),
        ('chosen', RESNET, ('--early', '1')),
        ('less_held_out', TRUNK, (*FROZEN, '--validation-share', '0.04')),
    ):
        assert main(['train', *words(folder / name, *more, network=network)]) == 0
    return {file.parent.stem: file for file in folder.glob('*.train/checkpoint.pt')}


def begun(words):
    """Job and training before the first step."""
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    args = parser.parse_args(words)
    job = read_job(args)
    with started(train.make_fabric(args), job) as training:
        return job, training


def same(weights, others):
    return weights.keys() == others.keys() and all(
        torch.equal(tensor, others[name]) for name, tensor in weights.items()
    )


def test_trained_exits_are_tuned_with_the_trunk_they_were_trained_on(words, trained, tmp_path):
    job, training = begun(words(tmp_path / 'ladder', '--start-from', trained['exits']))
    exits = checkpoint.read(trained['exits']).state['net']
    weights = training.trainer.net.state_dict()
    assert not any('.piece.' in name for name in exits)
    assert same({name: weights[name] for name in exits}, exits)
    trunk = {n: t for n, t in build(job.spec).state_dict().items() if '.piece.' in n}
    assert same({n: t for n, t in weights.items() if n not in exits}, trunk)
    assert all(p.requires_grad for p in training.trainer.net.parameters())
    # Trunk and exits learn as where nothing else has been trained.
    assert job.recipe.learning_rate == 0.01


def test_exits_go_on_from_exits(words, trained, tmp_path):
    _, training = begun(words(tmp_path / 'ladder', *FROZEN, '--start-from', trained['exits']))
    exits = checkpoint.read(trained['exits']).state['net']
    assert same(training.trainer.net.state_dict(), exits)


def test_another_rule_begins_with_the_averaged_weights(words, trained, tmp_path):
    more = ('--rule', 'weighted', '--start-from', trained['average'])
    _, training = begun(words(tmp_path / 'ladder', *more, network=RESNET))
    state = checkpoint.read(trained['average']).state
    assert same(training.trainer.net.state_dict(), state['average'])
    assert not same(state['net'], state['average'])


def test_it_goes_on_as_if_never_stopped_and_needs_its_start_no_more(
    words, data, trained, tmp_path, capsys
):
    start = tmp_path / 'start.pt'
    start.write_bytes(trained['exits'].read_bytes())
    more = ('--start-from', start, '--epochs', '2')
    assert main(['train', *words(tmp_path / 'whole', *more)]) == 0
    assert f'starting from {start}' in capsys.readouterr().out.replace('\n', '')
    stopped = words(tmp_path / 'ladder', *more)
    assert main(['train', *stopped, '--max-minutes', '1e-6']) == 0
    assert main(['train', *stopped, '--resume', '--start-from', str(trained['other_exits'])]) == 1
    assert 'of another training (start: ' in capsys.readouterr().err
    assert main(['train', *stopped, '--resume']) == 0
    whole = read_bundle(tmp_path / 'whole').manifest
    assert read_bundle(tmp_path / 'ladder').manifest.stages == whole.stages
    # The start's command, then its own.
    assert whole.provenance['command'].count(' && ') == 1

    start.unlink()
    saved = tmp_path / 'ladder.train' / 'checkpoint.pt'
    where = ('--data', str(data), '--out', str(tmp_path / 'exported'))
    assert main(['export', str(saved), *where]) == 0
    assert read_bundle(tmp_path / 'exported').manifest.stages == whole.stages


def test_images_that_chose_the_start_are_told_of(words, data, trained, tmp_path):
    begun_once = words(
        tmp_path / 'ladder',
        '--start-from',
        trained['chosen'],
        '--rule',
        'weighted',
        network=RESNET,
    )
    assert main(['train', *begun_once]) == 0
    begun_twice = words(
        tmp_path / 'again',
        '--start-from',
        tmp_path / 'ladder.train' / 'checkpoint.pt',
        network=RESNET,
    )
    assert main(['train', *begun_twice]) == 0
    saved = tmp_path / 'again.train' / 'checkpoint.pt'
    where = ('--data', str(data), '--out', str(tmp_path / 'exported'))
    assert main(['export', str(saved), *where]) == 0
    for name in ('ladder', 'again', 'exported'):
        bundle = read_bundle(tmp_path / name)
        assert bundle.manifest.provenance['early_stop_epochs'] == 1
        assert 'chose the epoch' in bundle.quality.data


@pytest.mark.parametrize(
    ('start', 'more', 'message'),
    [
        ('exits', ('--width', '0.3'), 'another network (network width: 0.2 there, 0.3 here)'),
        ('average', (), f'network name: {RESNET} there, {TRUNK} here'),
        ('tuned', FROZEN, 'leave out --freeze-trunk'),
        ('missing', (), 'no checkpoint can be read'),
        ('less_held_out', (), 'give --validation-share 0.04 or less'),
    ],
)
def test_what_cannot_be_begun_with_is_told(words, trained, tmp_path, capsys, start, more, message):
    file = trained.get(start, tmp_path / 'missing.pt')
    assert main(['train', *words(tmp_path / 'ladder', '--start-from', file, *more)]) == 1
    assert message in capsys.readouterr().err
    assert not any(file.is_file() for file in tmp_path.rglob('*'))


def test_a_checkpoint_that_would_be_replaced_is_refused(words, trained, capsys):
    before = trained['exits'].read_bytes()
    out = trained['exits'].parent.with_name('exits')
    assert main(['train', *words(out, '--start-from', trained['exits'])]) == 1
    assert 'give another --out' in capsys.readouterr().err
    assert trained['exits'].read_bytes() == before


@pytest.mark.parametrize(
    ('state', 'message'),
    [({'epoch': 0}, 'not trained for a whole epoch'), ({'net': {}}, 'was built otherwise')],
)
def test_a_checkpoint_of_no_use_is_told(words, trained, tmp_path, capsys, state, message):
    saved = checkpoint.read(trained['exits'])
    changed = replace(saved, state=saved.state | state)
    file = tmp_path / 'changed.pt'
    checkpoint.save(file, changed.identity, changed.state, changed.options)
    assert main(['train', *words(tmp_path / 'ladder', '--start-from', file)]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'ladder').exists()
