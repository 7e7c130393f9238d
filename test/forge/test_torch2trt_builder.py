"""torch2trt as a builder: what it is called with, where its engines go, and who serves them."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip('torch')
pytest.importorskip('lightning_fabric')

from fake_torch2trt import MAGIC, FakeTorch2trt  # noqa: E402
from small_training import easy_images, small_net, write_easy_images  # noqa: E402

from anytime_dnn_ros.cli import main  # noqa: E402
from anytime_dnn_ros.engines import stage_engines  # noqa: E402
from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from anytime_dnn_ros.engines.stage_engines import TORCH2TRT, stage_engine  # noqa: E402
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT  # noqa: E402
from anytime_dnn_ros.errors import (  # noqa: E402
    ConfigurationError,
    EngineError,
    MissingDependencyError,
)
from anytime_dnn_ros.forge import torch2trt_builder  # noqa: E402
from anytime_dnn_ros.forge.ladder_export import export_ladder  # noqa: E402
from anytime_dnn_ros.forge.normalisation import Normalisation  # noqa: E402
from anytime_dnn_ros.forge.torch2trt_builder import (  # noqa: E402
    Torch2trt,
    build_stages,
    find_torch2trt,
)
from anytime_dnn_ros.ladder.bundle import read_bundle  # noqa: E402
from anytime_dnn_ros.ladder.manifest import CombineSpec, ImageSpec  # noqa: E402
from engines.fake_tensorrt import FakeTensorRT, fake_plan  # noqa: E402

ORIN = Device('Orin', '8.7', 0, 2**33)
IMAGES = easy_images(24, 3)
NORMALISATION = Normalisation.of(IMAGES)


def tensorrt(version='10.3.0', flavour='tensorrt'):
    algorithms = SimpleNamespace(ENTROPY_CALIBRATION_2='entropy 2')
    module = SimpleNamespace(__version__=version, CalibrationAlgoType=algorithms)
    return TensorRT(module, flavour, version)


@pytest.fixture(autouse=True)
def _cuda_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.Tensor, 'cuda', lambda tensor: tensor)
    monkeypatch.setattr(torch.nn.Module, 'cuda', lambda module: module)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch2trt_builder, 'find_device', lambda: ORIN)
    monkeypatch.setattr(torch2trt_builder, 'find_tensorrt', tensorrt)


@pytest.fixture
def fake(monkeypatch):
    fake = FakeTorch2trt()
    monkeypatch.setitem(__import__('sys').modules, 'torch2trt', fake)
    return fake


@pytest.fixture(scope='module')
def net():
    net = small_net().eval()
    torch.manual_seed(1)
    for _ in range(3):
        net.train()(NORMALISATION.apply(torch.from_numpy(IMAGES.pixels)))
    return net.eval()


@pytest.fixture(scope='module')
def bundle(net, tmp_path_factory):
    return export_ladder(
        net,
        tmp_path_factory.mktemp('bundle') / 'ladder',
        normalisation=NORMALISATION,
        combine=CombineSpec('last'),
        image=ImageSpec('gray', 'stretch', 'linear'),
        class_names=IMAGES.class_names,
        parity_pixels=IMAGES.pixels,
        provenance={'command': 'test', 'data': 'easy', 'licence': 'none'},
    )


@pytest.fixture
def build(fake, net, bundle, tmp_path):
    def of(precision='fp16', **changes):
        options = {'pixels': IMAGES.pixels, 'precision': precision, 'folder': tmp_path / 'cache'}
        found = Torch2trt(fake, tensorrt(), ORIN)
        said = []
        options = {**options, 'say': said.append, **changes}
        return build_stages(found, net, NORMALISATION, bundle, **options)

    return of


def served(bundle, index, folder, precision='auto', library=None, say=print):
    return stage_engine(
        bundle,
        index,
        library or tensorrt(),
        ORIN,
        precision=precision,
        folder=folder,
        say=say,
    )


def test_int8_is_calibrated_on_our_images_and_never_on_one_example(build, fake):
    build('int8')
    for call in fake.calls:
        assert call['int8_mode'] is True
        assert len(call['int8_calib_dataset']) == len(IMAGES)
        assert call['int8_calib_algorithm'] == 'entropy 2'
        assert call['fp16_mode'] is False
    first = np.stack([example[0][0].numpy() for example in fake.calls[0]['int8_calib_dataset']])
    assert (first == IMAGES.pixels).all()
    assert len({str(example[0]) for example in fake.calls[1]['int8_calib_dataset']}) > 1


@pytest.mark.parametrize('precision', ['fp32', 'fp16'])
def test_other_precisions_are_not_calibrated(build, fake, precision):
    build(precision)
    assert [call['fp16_mode'] for call in fake.calls] == [precision == 'fp16'] * 2
    assert not any(call['int8_mode'] for call in fake.calls)


def test_tensors_have_the_names_of_the_bundle(build, fake, bundle):
    build()
    for call, stage in zip(fake.calls, bundle.manifest.stages, strict=True):
        assert call['input_names'] == [tensor.name for tensor in stage.inputs]
        assert call['output_names'] == [tensor.name for tensor in stage.outputs]
        assert [tuple(tensor.shape) for tensor in call['inputs']] == [
            tensor.shape for tensor in stage.inputs
        ]


def test_the_engines_are_found_in_their_precision_and_by_their_library_only(
    build, bundle, tmp_path, monkeypatch
):
    assert [stage.name for stage in build('fp16')] == ['stage1', 'stage2']
    folder = tmp_path / 'cache'
    for precision in ('auto', 'fp16'):
        found = served(bundle, 0, folder, precision)
        assert (found.builder, found.options.precision, found.is_kept) == (
            TORCH2TRT,
            'fp16',
            True,
        )
    with pytest.raises(ConfigurationError, match='not quantised'):
        served(bundle, 0, folder, 'int8')
    build('int8')
    assert served(bundle, 0, folder, 'int8').options.precision == 'int8'
    monkeypatch.setattr(stage_engines, 'build_engine', lambda *_, **__: b'from the ONNX file')
    said = []
    found = served(bundle, 0, folder, library=tensorrt('8.6.1'), say=said.append)
    assert (found.builder, found.plan) == ('onnx', b'from the ONNX file')
    (sentence,) = said
    assert "version '10.3.0' instead of '8.6.1'" in sentence
    assert 'from the ONNX file instead; delete it, or run' in sentence


def test_an_engine_answers_as_the_bundle_does(build, bundle, tmp_path):
    build()

    from anytime_dnn_ros.engines.tensorrt import TensorRtEngine

    module = FakeTensorRT()
    library = TensorRT(module, 'tensorrt', '10.3.0')
    engines = [served(bundle, k, tmp_path / 'cache', library=library) for k in range(2)]
    ours = TensorRtEngine(bundle, engines, library, ORIN, runtime=module.cuda)
    known = OnnxRuntimeEngine(bundle)
    for image in IMAGES.pixels[:5]:
        for engine in (ours, known):
            engine.image_buffer(0)[...] = image
        for k in range(2):
            answer, truth = (e.run_stage(k, e.new_token()) for e in (ours, known))
            assert answer == pytest.approx(truth, abs=1e-4)
    ours.close()
    known.close()


def test_an_engine_that_answers_otherwise_is_not_kept(build, fake, tmp_path):
    fake.offset = 1e3
    with pytest.raises(EngineError, match='does not answer as torch does on 24 validation images'):
        build()
    assert not (tmp_path / 'cache').exists()


def test_a_call_that_torch2trt_does_not_know_is_told_with_the_mend(build, fake):
    fake.fails = AttributeError("'Tensor' object has no attribute '_trt'")
    with pytest.raises(EngineError, match=r"cannot build stage 'stage1'.*_trt.*leave out"):
        build()


def test_no_engine_is_told(build, fake):
    fake.gives_none = True
    with pytest.raises(EngineError, match='TensorRT gave no engine'):
        build()


def test_an_engine_that_cannot_be_kept_is_an_error(build, tmp_path):
    (tmp_path / 'file').write_text('in the way')
    with pytest.raises(EngineError, match='not kept in'):
        build(folder=tmp_path / 'file')


@pytest.mark.parametrize(
    ('library', 'name'),
    [
        (tensorrt('11.0.0'), 'TensorRT 11.0.0'),
        (tensorrt('1.7.1', 'tensorrt_rtx'), 'TensorRT for RTX 1.7.1'),
    ],
)
def test_a_tensorrt_without_precision_flags_is_refused(monkeypatch, library, name):
    monkeypatch.setattr(torch2trt_builder, 'find_tensorrt', lambda: library)
    with pytest.raises(ConfigurationError) as refused:
        find_torch2trt()
    assert f'works with TensorRT before 11 only, and this is {name}' in str(refused.value)
    assert 'leave out --builder torch2trt' in str(refused.value)


def test_without_a_gpu_it_is_refused(monkeypatch):
    monkeypatch.setattr(torch2trt_builder, 'find_device', lambda: None)
    with pytest.raises(ConfigurationError, match='torch finds none here'):
        find_torch2trt()


def test_without_torch2trt_it_is_said_where_it_is(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'torch2trt', None)
    with pytest.raises(MissingDependencyError, match=r'git\+https://github.com/NVIDIA-AI-IOT'):
        find_torch2trt()


def test_the_fake_gives_what_the_fake_tensorrt_reads():
    assert fake_plan(b'') == MAGIC


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp('trained')
    data = write_easy_images(folder / 'data', 60)
    words = ('--width', '0.2', '--stages', '3', '--batch', '16', '--epochs', '1', '--threads', '1')
    words += ('--device', 'cpu', '--precision', '32-true')
    where = ('--data', str(data), '--out', str(folder / 'ladder'))
    assert main(['train', 'early_exit_resnet', *where, *words]) == 0
    return folder / 'ladder.train' / 'checkpoint.pt', data


def export(saved, tmp_path, *words):
    file, data = saved
    where = ('--data', str(data), '--out', str(tmp_path / 'ladder'))
    return main(['export', str(file), *where, *map(str, words)])


def test_export_leaves_bundle_and_engines(saved, fake, tmp_path, capsys):
    cache, figures = tmp_path / 'cache', tmp_path / 'figures.json'
    words = ('--builder', 'torch2trt', '--precision', 'int8', '--cache-dir', cache)
    assert export(saved, tmp_path, *words, '--json', figures) == 0
    bundle = read_bundle(tmp_path / 'ladder')
    assert 'same class on' in capsys.readouterr().out
    assert [stage['name'] for stage in json.loads(figures.read_text())['engines']] == [
        stage.name for stage in bundle.manifest.stages
    ]
    assert served(bundle, 2, cache, 'int8').builder == TORCH2TRT
    assert len(fake.calls[0]['int8_calib_dataset']) > 1


def test_engine_options_without_torch2trt_are_refused(saved, tmp_path, capsys):
    for words in (('--precision', 'int8'), ('--cache-dir', tmp_path)):
        assert export(saved, tmp_path, *words) == 1
        assert 'of the engines that --builder torch2trt builds' in capsys.readouterr().err
    assert export(saved, tmp_path, '--builder', 'torch2trt', '--cache-dir', 'none') == 1
    assert 'must be kept somewhere' in capsys.readouterr().err
    assert not (tmp_path / 'ladder').exists()


def test_what_cannot_work_is_told_before_anything_is_written(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch2trt_builder, 'find_tensorrt', lambda: tensorrt('11.4.0'))
    assert export(saved, tmp_path, '--builder', 'torch2trt') == 1
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert 'this is TensorRT 11.4.0' in said
    assert not (tmp_path / 'ladder').exists()
