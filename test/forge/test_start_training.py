import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('lightning_fabric')

from small_training import easy_images  # noqa: E402

from anytime_dnn_ros.cli import main  # noqa: E402
from anytime_dnn_ros.forge import start_training  # noqa: E402
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402
from anytime_dnn_ros.forge.start_training import as_served  # noqa: E402
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp('data')
    images = easy_images(120, 1)
    for number, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        file = folder / 'train' / images.class_names[label] / f'{number:03}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), cv2.cvtColor(cv2.resize(pixels, (16, 16)), cv2.COLOR_GRAY2BGR))
    return folder


@pytest.fixture
def run(data, tmp_path):
    def command(*words, network='small_trunks:scaled_residual'):
        return main(
            [
                *('train', network, '--data', str(data), '--out', str(tmp_path / 'ladder')),
                *(
                    '--cuts',
                    'stem,middle',
                    '--image-size',
                    '32',
                    '--batch',
                    '16',
                    '--width',
                    '0.2',
                ),
                *('--threads', '1', '--device', 'cpu', '--precision', '32-true'),
                *('--json', str(tmp_path / 'train.json'), *words),
            ]
        )

    return command


@pytest.mark.parametrize('trunk', [(), ('--freeze-trunk', '--views', '2')])
def test_a_trained_trunk_becomes_a_bundle_that_reads_enlarged_images(run, tmp_path, capsys, trunk):
    assert run('--rule', 'imta', '--epochs', '14', *trunk) == 0
    assert ('frozen trunk first sees' in capsys.readouterr().out) == bool(trunk)
    manifest = read_bundle(tmp_path / 'ladder').manifest
    assert manifest.stages[0].inputs[0].shape == (1, 32, 32, 3)
    assert len(manifest.stages) == 3
    figures = json.loads((tmp_path / 'train.json').read_text())
    assert figures['macs'] == [stage.macs for stage in manifest.stages]
    assert figures['validation_accuracies'][-1] > 0.8
    assert figures['network']['frozen'] == bool(trunk)
    # A trunk that learns on must not forget at once.
    assert figures['identity']['learning_rate'] == (0.1 if trunk else 0.01)


def test_training_on_cached_features_goes_on_as_if_never_stopped(run, tmp_path):
    words = ('--freeze-trunk', '--views', '2', '--epochs', '3')
    assert run(*words) == 0
    whole = (tmp_path / 'ladder' / 'stages' / 'stage3.onnx').read_bytes()
    # Stopped before its second epoch, then gone on with.
    assert run(*words, '--max-minutes', '0.00001') == 0
    assert run(*words, '--resume') == 0
    assert (tmp_path / 'ladder' / 'stages' / 'stage3.onnx').read_bytes() == whole


def test_a_module_of_a_sequential_is_named_by_its_number(run, tmp_path):
    assert run('--cuts', '1', '--epochs', '1', network='small_trunks:plain') == 0
    figures = json.loads((tmp_path / 'train.json').read_text())
    assert (figures['network']['cuts'], figures['network']['stages']) == (['1'], 0)
    licence = read_bundle(tmp_path / 'ladder').manifest.provenance['licence']
    assert "trunk's own weights" in licence
    assert 'EfficientNet' not in licence


def test_ctrl_c_before_the_first_checkpoint_promises_none(run, tmp_path, monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(start_training, 'cached_features', interrupted)
    assert run('--freeze-trunk') == 130
    assert '--resume' not in capsys.readouterr().err
    assert not (tmp_path / 'ladder.train' / 'checkpoint.pt').exists()


def test_batches_are_enlarged_as_a_robot_enlarges_frames():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 32, 32, 3), np.uint8)
    for size in (96, 100):
        enlarged = Normalisation((0.0,) * 3, (1.0,) * 3, size).apply(torch.from_numpy(pixels))
        job = type('Job', (), {'image_size': size})
        served = torch.from_numpy(as_served(pixels, job)).permute(0, 3, 1, 2)
        # OpenCV interpolates bytes in fixed point.
        assert (enlarged - served).abs().max() < 1


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (('--image-size', '8'), 'enlarged only'),
        (('--cuts', 'stem,midle'), 'near it are middle'),
        (('--freeze-trunk', '--views', '0'), '--views 0: give more than 0'),
        (('--views', '2'), 'add --freeze-trunk'),
        (('--freeze-trunk', '--devices', '2'), 'each of 2 processes'),
        (('--freeze-trunk', '--num-nodes', '3'), 'each of 3 processes'),
        (('--stages', '2'), '--stages 2 has them chosen'),
        (('--cuts', '3'), 'no module of this name'),
        (('--freeze-trunk', '--rule', 'snapshot', '--epochs', '5'), 'cannot share'),
        (
            ('--rule', 'orthogonal_layer', '--freeze-trunk', '--cuts', '', '--stages', '1'),
            'makes no sense',
        ),
    ],
)
def test_what_does_not_fit_is_one_clear_error(run, capsys, tmp_path, words, message):
    assert run(*words) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'ladder').exists()


@pytest.mark.parametrize('trunk', [(), ('--freeze-trunk', '--views', '2')])
def test_what_no_onnx_file_can_say_is_told_before_the_training(run, tmp_path, capsys, trunk):
    words = ('--cuts', '0', '--epochs', '1', *trunk)
    assert run(*words, network='small_trunks:spectral') == 1
    told = capsys.readouterr()
    assert 'cannot be written as ONNX' in told.err
    assert 'epoch' not in told.out
    assert not [*tmp_path.rglob('checkpoint.pt')]
