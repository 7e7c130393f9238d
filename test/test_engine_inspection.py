"""`anytime-dnn inspect --engine`: what it reads, prints and writes, and how it refuses."""

import json

import pytest

from anytime_dnn_ros import cli
from anytime_dnn_ros.cli import engine_inspection
from anytime_dnn_ros.engines.engine_cache import engine_file, store_engine
from anytime_dnn_ros.engines.engine_layers import parse_layers
from anytime_dnn_ros.engines.stage_engines import StageEngine
from anytime_dnn_ros.engines.tensorrt_builder import BuildOptions
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from inspected_engines import IN_8_6, IN_10, NAMES_ONLY, written

KEY = {
    'stage': 'stage3',
    'device': 'Orin',
    'flavour': 'tensorrt',
    'version': '10.3.0',
    'options': {'precision': 'fp16'},
}


@pytest.fixture
def told(tmp_path):
    """A file as trtexec --exportLayerInfo writes it."""
    file = tmp_path / 'layers.json'
    file.write_text(written(IN_8_6))
    return file


@pytest.fixture
def robot(monkeypatch):
    """A machine with TensorRT and a GPU; what it would have loaded."""
    loaded = []

    def inspect(_library, plan, name):
        loaded.append((plan, name))
        return parse_layers(written(IN_10), name, plan_bytes=len(plan), memory_bytes=4096)

    library = TensorRT(None, 'tensorrt', '10.3.0')
    monkeypatch.setattr(engine_inspection, 'find_tensorrt', lambda: library)
    monkeypatch.setattr(engine_inspection, 'find_device', lambda: Device('Orin', '8.7', 0, 2**33))
    monkeypatch.setattr(engine_inspection, 'inspect_plan', inspect)
    return loaded


def test_the_inspectors_json_is_shown_without_a_gpu(told, tmp_path, capsys):
    json_file, page = tmp_path / 'f.json', tmp_path / 'page.html'
    pytest.importorskip('matplotlib', reason='matplotlib is not installed (the demo extra)')
    options = ['--json', str(json_file), '--html', str(page)]
    assert cli.main(['inspect', str(told), '--engine', *options]) == 0
    shown = capsys.readouterr().out
    assert 'layers: 3 layers, 2 write fp32, 1 write int8' in shown
    assert 'uint8 > int8' in shown
    assert 'Cast_0 + Conv_1 + Relu_2' in shown
    (engine,) = json.loads(json_file.read_text())['engines']
    assert engine['layers'][0]['tactic'].startswith('sm80_xmma')
    assert engine['layers'][1]['precision'] == 'int8 > fp32'
    assert '<svg' in page.read_text()


def test_an_engine_of_the_cache_is_told_with_its_origin(robot, tmp_path, capsys):
    store_engine(b'plan', KEY, tmp_path, say=pytest.fail)
    assert cli.main(['inspect', '--engine', str(engine_file(KEY, tmp_path))]) == 0
    assert robot == [(b'plan', 'stage3')]
    shown = capsys.readouterr().out
    assert "stage 'stage3' for Orin by tensorrt 10.3.0, fp16" in shown
    assert '0.00 MB of device memory' in shown


def test_an_engine_of_another_program_is_loaded_as_it_is(robot, tmp_path):
    (tmp_path / 'yolo.engine').write_bytes(b'ftrt')
    assert cli.main(['inspect', '--engine', str(tmp_path / 'yolo.engine')]) == 0
    assert robot == [(b'ftrt', 'yolo.engine')]


def test_the_engines_of_a_bundle_are_built_where_none_is_kept(robot, monkeypatch, capsys):
    def build(bundle, index, library, device, **how):
        assert (device.name, how['precision']) == ('Orin', 'fp16')
        return StageEngine(bytes(index + 1), BuildOptions('fp16'), False)

    monkeypatch.setattr(engine_inspection, 'stage_engine', build)
    assert cli.main(['inspect', 'fashion', '--engine', '--precision', 'fp16']) == 0
    assert [(len(plan), name) for plan, name in robot] == [(k, f'stage{k}') for k in range(1, 6)]
    assert (
        'fashion on Orin (compute capability 8.7) with tensorrt 10.3.0' in capsys.readouterr().out
    )


def test_without_a_gpu_what_needs_one_is_refused_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        engine_inspection, 'find_tensorrt', lambda: TensorRT(None, 'tensorrt', '10.3.0')
    )
    monkeypatch.setattr(engine_inspection, 'find_device', lambda: None)
    store_engine(b'plan', KEY, tmp_path, say=pytest.fail)
    for source in ('fashion', str(engine_file(KEY, tmp_path))):
        assert cli.main(['inspect', '--engine', source]) == 1
        error = capsys.readouterr().err
        assert 'has no NVIDIA GPU' in error
        assert error.count('\n') == 1


def test_a_damaged_engine_is_never_loaded(robot, tmp_path, capsys):
    store_engine(b'plan', KEY, tmp_path, say=pytest.fail)
    file = engine_file(KEY, tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    assert cli.main(['inspect', '--engine', str(file)]) == 1
    assert robot == []
    assert 'truncated or damaged; delete it' in capsys.readouterr().err


def test_an_engine_that_tells_only_names_is_one_line(tmp_path, capsys):
    (tmp_path / 'names.json').write_text(written(NAMES_ONLY))
    assert cli.main(['inspect', '--engine', str(tmp_path / 'names.json')]) == 1
    assert 'DETAILED' in capsys.readouterr().err


def test_html_without_engine_is_refused(capsys):
    assert cli.main(['inspect', 'fashion', '--html', 'page.html']) == 1
    assert '--engine as well' in capsys.readouterr().err
