"""The GPU check: what it does without a GPU, with a fake one, and when a part of it fails."""

import json
import sys
from enum import IntEnum
from pathlib import Path

import numpy as np
import onnx
import pytest

from anytime_dnn_ros.engines import tensorrt as tensorrt_engine
from anytime_dnn_ros.engines.stage_engines import StageEngine
from anytime_dnn_ros.engines.tensorrt_builder import BuildOptions
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT
from anytime_dnn_ros.errors import MissingDependencyError
from anytime_dnn_ros.ladder.bundle import read_bundle, shipped_bundles
from engines.fake_cuda import FakeCuda
from engines.fake_tensorrt import FakeTensorRT, fake_plan
from ladders import make_ladder

# As when a script there runs.
sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))
import contenders
import gpu_check
import gpu_parts
from gpu_page import goals, gpu_page
from one_graph import graph_logits, one_graph, one_stage_bundle, stage_logits

NETWORK = 'early_exit_resnet'
GPU = Device('Fake GPU', '8.6', 0, 2**33)


@pytest.fixture
def ladder(tmp_path):
    return make_ladder(tmp_path / 'small')


@pytest.fixture
def run(ladder, tmp_path, monkeypatch):
    """The check on a small ladder; the bench has its own tests, and takes seconds."""
    monkeypatch.setattr(gpu_check, 'deadlines', lambda _, engine: {'command': engine, 'rows': []})

    def of(*words, network=''):
        if network:
            pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
        out = tmp_path / 'out'
        small = ('--out', str(out), '--bundle', str(ladder.path), '--network', network)
        code = gpu_check.main([*small, '--image-size', '16', '--rounds', '3', *words])
        document = json.loads((out / 'gpu_check.json').read_text())
        parts = {part['name']: part for part in document['parts']}
        return code, document, parts, (out / 'gpu_check.html').read_text()

    return of


@pytest.fixture
def fake(monkeypatch):
    """A GPU and a TensorRT for it, which build nothing: an engine is its ONNX file."""
    cuda = FakeCuda()
    module = FakeTensorRT(cuda)
    library = TensorRT(module, 'tensorrt', module.__version__)

    def stage_engine(bundle, index, *_, precision, **__):
        plan = fake_plan(bundle.stage_file(index).read_bytes())
        return StageEngine(plan, BuildOptions(precision), is_kept=True)

    monkeypatch.setattr(gpu_check, 'find_device', lambda: GPU)
    monkeypatch.setattr(gpu_parts, 'find_tensorrt', lambda: library)
    monkeypatch.setattr(gpu_parts, 'stage_engine', stage_engine)
    monkeypatch.setattr(tensorrt_engine, 'load_runtime', lambda: cuda)
    return cuda


def images_for(bundle):
    rng = np.random.default_rng(0)
    shapes = {t.shape for s in bundle.manifest.stages for t in s.inputs if t.is_image}
    return {shape: rng.integers(0, 256, shape, np.uint8) for shape in shapes}


def test_without_a_gpu_it_is_one_line_and_a_code_of_its_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, 'find_device', lambda: None)
    assert gpu_check.main(['--out', str(tmp_path / 'out')]) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1
    assert 'no NVIDIA GPU here' in said
    assert '--dry-run' in said
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name', ['small', 'fashion'])
def test_the_one_graph_answers_as_the_stages_do(ladder, tmp_path, name):
    bundle = ladder if name == 'small' else read_bundle(shipped_bundles()[name])
    whole = one_stage_bundle(bundle, tmp_path)
    assert len(whole.manifest.stages[0].inputs) == 1
    images = images_for(bundle)
    answers = graph_logits(bundle, whole, images)
    for known, found in zip(stage_logits(bundle, images), answers, strict=True):
        assert found == pytest.approx(known, abs=1e-5 * float(np.abs(known).max()))


def test_stages_that_read_the_image_share_it_by_its_size():
    bundle = read_bundle(shipped_bundles()['lite'])
    model = one_graph(bundle)
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input]
    assert sorted(map(tuple, shapes)) == sorted(images_for(bundle))
    assert len(model.graph.output) == len(bundle.manifest.stages)


def test_a_tensor_that_two_later_stages_read_is_kept(tmp_path):
    pytest.importorskip('torch', reason='torch is not installed (the forge extra)')
    from gpu_ladders import Setting, forged_ladder

    setting = Setting(None, '8.6', tmp_path, 3, 2, None)
    # Dense connections: each stage reads features of all earlier ones.
    ladder = forged_ladder('msdnet', 16, setting)
    figures = gpu_parts.same_answers(ladder)['largest_difference']
    assert figures['float32'] < 1e-4
    kinds = {n.op_type for n in onnx.load(ladder.bundles['int8'].stage_file(1)).graph.node}
    assert 'QuantizeLinear' in kinds


def test_a_dry_run_does_all_that_needs_no_gpu(run, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check, 'find_device', lambda: None)
    monkeypatch.setattr(gpu_parts, 'find_tensorrt', missing)
    code, document, parts, page = run('--dry-run', network=NETWORK)
    assert code == 0
    assert document['dry_run'] is True
    assert parts['one graph small']['status'] == 'done'
    assert parts['build small fp32']['status'] == 'left out'
    assert 'no TensorRT' in parts['build small fp32']['why']
    assert 'no TensorRT' in parts['agreement early_exit_resnet int8']['why']
    rows = parts['latency early_exit_resnet']['figures']['rows']
    timed = {(r['library'], r['form'], r['precision']) for r in rows if 'whole_ms' in r}
    assert ('torch eager CPU', 'stages', 'fp32') in timed
    assert ('ONNX Runtime CPU', 'one graph', 'int8') in timed
    assert {
        len(r['stage_ms']) for r in rows if r.get('form') == 'one graph' and 'whole_ms' in r
    } == {1}
    assert parts['deadlines']['figures']['command'] == 'onnxruntime'
    assert 'A dry run on a machine without a GPU' in page
    assert '<svg' in page
    assert 'left out' in capsys.readouterr().out


def missing():
    raise MissingDependencyError('this Python has no TensorRT')


def test_a_dry_run_builds_with_the_real_builder(run, monkeypatch):
    pytest.importorskip(
        'tensorrt_rtx_bindings', reason='TensorRT for RTX is not installed (make tensorrt)'
    )
    monkeypatch.setattr(gpu_check, 'find_device', lambda: None)
    code, _, parts, page = run('--dry-run', '--target', '7.5', network=NETWORK)
    assert code == 0
    assert 'Turing' in parts['build small fp32']['why']
    for name in ('small fp16', 'early_exit_resnet fp16', 'early_exit_resnet int8'):
        figures = parts[f'build {name}']['figures']
        assert figures['built_for'].endswith('7.5')
        assert (figures['stages']['engines'] > 1, figures['one graph']['engines']) == (True, 1)
    assert 'any of compute capability 7.5' in page


def test_with_a_gpu_everything_runs_on_it(run, fake):
    code, document, parts, page = run()
    assert fake.used_bytes() == 0
    assert parts['machine']['figures']['gpu'] == 'Fake GPU'
    assert parts['agreement small fp32']['status'] == 'done'
    assert all(s['top1'] == 1 for s in parts['agreement small fp32']['figures']['stages'])
    rows = parts['latency small']['figures']['rows']
    assert {r['form'] for r in rows if r['library'] == 'TensorRT' and 'whole_ms' in r} == {
        'stages',
        'one graph',
    }
    assert [len(r['device_ms']) for r in rows if 'device_ms' in r] == [
        len(r['stage_ms']) for r in rows if r['library'] == 'TensorRT'
    ]
    assert all(ms > 0 for r in rows for ms in r.get('device_ms', ()))
    assert 'of it on the GPU, ms' in page
    assert 'CUDAExecutionProvider' in next(
        r['left_out'] for r in rows if r['library'] == 'ONNX Runtime CUDA'
    )
    assert parts['deadlines']['figures']['command'] == 'tensorrt'
    named = {goal['figure'] for goal in document['goals']}
    assert 'small, fp32: stages over one graph, %' in named
    assert 'small, fp16: same class as ONNX Runtime, %' in named
    assert code == int(not all(goal['reached'] for goal in document['goals']))
    assert 'Fake GPU' in page


def test_a_gpu_that_rtx_does_not_serve_is_said_so_and_the_rest_runs(
    run, fake, monkeypatch, capsys
):
    module = FakeTensorRT(fake)
    module.ComputeCapability = IntEnum('ComputeCapability', ['NONE', 'SM86'])
    library = TensorRT(module, 'tensorrt_rtx', '1.7.1')
    monkeypatch.setattr(gpu_parts, 'find_tensorrt', lambda: library)
    monkeypatch.setattr(
        gpu_check, 'find_device', lambda: Device('NVIDIA H100', '9.0', 0, 80 * 2**30)
    )
    # Nothing here has CUDA: then what runs is the CPU's own.
    monkeypatch.setattr(gpu_parts, 'OrtRunner', lambda b, _, half: contenders.OrtRunner(b, 'cpu'))
    code, document, parts, page = run()
    assert code == 3
    why = parts['agreement small fp32']['why']
    assert why.startswith('NVIDIA H100: TensorRT for RTX 1.7.1 does not serve')
    assert 'compute capability 9.0, only 8.6;' in why
    assert document['why_no_tensorrt'] == why
    assert f'TensorRT ran nothing here: {why}' in page
    assert capsys.readouterr().err == f'gpu_check: TensorRT ran nothing here: {why}\n'
    assert parts['build small fp32']['figures']['built_for'].endswith('8.6')
    assert parts['latency small']['status'] == 'done'
    assert parts['deadlines']['figures']['command'] == 'onnxruntime'


def test_one_failing_part_leaves_the_others(run, monkeypatch):
    monkeypatch.setattr(gpu_check, 'find_device', lambda: None)
    monkeypatch.setattr(gpu_parts, 'find_tensorrt', missing)

    def fails(*_, **__):
        raise RuntimeError('no more memory')

    monkeypatch.setattr(gpu_check, 'same_answers', fails)
    monkeypatch.setattr(gpu_parts, 'TorchRunner', fails)
    code, _, parts, page = run('--dry-run', network=NETWORK)
    assert code == 1
    assert parts['one graph small']['status'] == 'FAILED'
    assert parts['one graph small']['why'] == 'RuntimeError: no more memory'
    assert 'RuntimeError: no more memory' in page
    assert parts['latency small']['status'] == 'done'
    rows = parts['latency early_exit_resnet']['figures']['rows']
    assert [r['failed'] for r in rows if 'failed' in r] == ['RuntimeError: no more memory']
    assert sum('whole_ms' in r for r in rows) == 4
    part = parts['latency early_exit_resnet']
    assert part['status'] == 'FAILED'
    assert part['why'] == 'torch eager CPU, stages, fp32: RuntimeError: no more memory'


def test_engines_that_find_no_room_are_a_failure(run, fake):
    fake.device_bytes = 0
    code, _, parts, page = run()
    assert code == 1
    assert parts['latency small']['status'] == 'FAILED'
    assert 'TensorRT, one graph, fp16: CudaError' in parts['latency small']['why']
    assert 'cudaErrorMemoryAllocation' in page


def test_an_engine_that_answers_otherwise_is_a_failure_with_figures(run, fake, monkeypatch):
    class Wrong(tensorrt_engine.TensorRtEngine):
        def run_stage(self, stage, token):
            return -super().run_stage(stage, token)

    monkeypatch.setattr(tensorrt_engine, 'TensorRtEngine', Wrong)
    code, document, parts, page = run()
    assert code == 1
    assert parts['agreement small fp32']['status'] == 'FAILED'
    assert parts['agreement small fp32']['figures']['stages'][0]['is_good'] is False
    assert any(not g['reached'] for g in document['goals'])
    assert '>NO<' in page


def document_of(overhead, fp16_ms):
    """As recorded by hand: one ladder on one GPU."""
    rows = [
        {'library': 'torch eager CUDA', 'form': 'stages', 'precision': 'fp32', 'whole_ms': 10.0},
        {'library': 'TensorRT', 'form': 'stages', 'precision': 'fp16', 'whole_ms': fp16_ms},
        {'library': 'TensorRT', 'form': 'stages', 'precision': 'int8', 'failed': 'no room'},
    ]
    for row in rows[:2]:
        row |= {'stage_ms': [row['whole_ms'] / 2] * 2, 'whole_p99_ms': row['whole_ms']}
    figures = {
        'rows': rows,
        'overhead': [{'library': 'TensorRT', 'precision': 'fp16', 'share': overhead}],
    }
    part = {'name': 'latency net', 'kind': 'latency', 'ladder': 'net', 'precision': ''}
    part |= {'status': 'done', 'why': '', 'seconds': 1.0, 'figures': figures}
    return {'dry_run': False, 'why_no_tensorrt': '', 'date': 'today', 'parts': [part]}


@pytest.mark.parametrize(
    ('overhead', 'fp16_ms', 'reached'), [(0.04, 1.0, [True, True]), (0.06, 2.0, [False, False])]
)
def test_figures_to_reach_are_told(overhead, fp16_ms, reached):
    document = document_of(overhead, fp16_ms)
    found = goals(document)
    assert [goal['reached'] for goal in found] == reached
    assert [goal['target'] for goal in found] == ['<= 5', '>= 9.4']
    page = gpu_page({**document, 'goals': found})
    assert page.count('>NO<') == reached.count(False)
    assert 'no room' in page
    assert 'today' in page
