"""The parts of the GPU check; each gives figures, or raises, and knows nothing of the others."""

from __future__ import annotations

import copy
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from math import isfinite
from typing import Any

import numpy as np
from contenders import (
    ONE_GRAPH,
    STAGES,
    Contender,
    EngineRunner,
    LeftOutError,
    OrtRunner,
    Runner,
    TorchRunner,
    timed_rounds,
)
from gpu_ladders import FLOAT, Ladder, Setting
from one_graph import graph_logits, stage_logits

from anytime_dnn_ros.engines.agreement import agreement_frames, compare_engines
from anytime_dnn_ros.engines.onnxruntime import OnnxRuntimeEngine
from anytime_dnn_ros.engines.stage_engines import StageEngine, stage_engine, target_device
from anytime_dnn_ros.engines.tensorrt_builder import TURING
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT, find_tensorrt, unserved
from anytime_dnn_ros.errors import AnytimeError, MissingDependencyError
from anytime_dnn_ros.evaluate.versions import versions
from anytime_dnn_ros.ladder.bundle import Bundle

TENSORRT, RTX = 'TensorRT', 'tensorrt_rtx'
# Other orders of float32 sums, as a share of the largest logit.
LARGEST_DIFFERENCE = 1e-4


def machine(setting: Setting) -> dict[str, Any]:
    """Libraries and GPU."""
    found: dict[str, Any] = {**versions(), 'system': platform.platform()}
    for name in ('torch', 'cuda.bindings', 'tensorrt', 'tensorrt_rtx', 'tensorrt_rtx_bindings'):
        found[name] = _version(name)
    if setting.device is not None:
        found['gpu'] = setting.device.name
        found['compute_capability'] = setting.device.compute_capability
        found['gpu_memory_gib'] = round(setting.device.memory_bytes / 2**30, 1)
    return found


def _version(name: str) -> str:
    try:
        return str(import_module(name).__version__)
    except (ImportError, OSError, AttributeError) as error:
        return f'not here ({error})'


def same_answers(ladder: Ladder) -> dict[str, Any]:
    """Whether the one graph answers as the stages do, in ONNX Runtime on the CPU."""
    figures = {}
    rng = np.random.default_rng(0)
    for kind, bundle in ladder.bundles.items():
        shapes = {t.shape for s in bundle.manifest.stages for t in s.inputs if t.is_image}
        images = {shape: rng.integers(0, 256, shape, np.uint8) for shape in shapes}
        pairs = zip(
            stage_logits(bundle, images),
            graph_logits(bundle, ladder.wholes[kind], images),
            strict=True,
        )
        figures[kind] = max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in pairs)
        # Another fusion in INT8 rounds otherwise, to a step of the scale.
        if figures[kind] > LARGEST_DIFFERENCE and kind == FLOAT:
            raise AnytimeError(
                f'{ladder.name}: the one graph differs from the stages by {figures[kind]:.2g} of '
                f'the largest logit (allowed: {LARGEST_DIFFERENCE:g})'
            )
    return {'largest_difference': figures}


def tensorrt_for(setting: Setting) -> tuple[TensorRT, Device]:
    """TensorRT and the GPU that it can run on.

    Raises:
        LeftOutError: There is none, or it does not serve this GPU.
    """
    library = _tensorrt()
    if setting.device is None:
        raise LeftOutError('a dry run: there is no GPU to run on')
    if why := unserved(library, setting.device.compute_capability):
        raise LeftOutError(f'{setting.device.name}: {why}')
    return library, setting.device


def _tensorrt() -> TensorRT:
    try:
        return find_tensorrt()
    except MissingDependencyError as error:
        raise LeftOutError(str(error)) from error


def built(
    bundle: Bundle, precision: str, library: TensorRT, device: Device, setting: Setting
) -> Any:
    """The engines of a bundle, kept for the parts that follow."""
    return [
        stage_engine(
            bundle,
            index,
            library,
            device,
            precision=precision,
            folder=setting.folder / 'engines',
            say=print,
        )
        for index in range(len(bundle.manifest.stages))
    ]


def build(stages: Bundle, whole: Bundle, precision: str, setting: Setting) -> dict[str, Any]:
    """Builds stages and the one graph, for this GPU or, where that cannot be, for the target."""
    library = _tensorrt()
    device = setting.device
    if device is None or unserved(library, device.compute_capability):
        if library.flavour == 'tensorrt':
            raise LeftOutError(f'TensorRT {library.version} builds only where there is a GPU')
        device = target_device(setting.target)
    if (library.flavour, device.compute_capability, precision) == (RTX, TURING, 'fp32'):
        raise LeftOutError(f'TensorRT for RTX {library.version} has no float32 products on Turing')
    figures: dict[str, Any] = {
        'library': f'{library.flavour} {library.version}',
        'built_for': f'{device.name}, compute capability {device.compute_capability}',
    }
    for form, bundle in ((STAGES, stages), (ONE_GRAPH, whole)):
        begin = time.perf_counter()
        engines: list[StageEngine] = built(bundle, precision, library, device, setting)
        seconds = time.perf_counter() - begin
        figures[form] = {
            'engines': len(engines),
            'seconds': seconds,
            'mib': sum(len(engine.plan) for engine in engines) / 2**20,
        }
    return figures


def agreement(bundle: Bundle, precision: str, setting: Setting) -> dict[str, Any]:
    """How the built stages' answers compare with those of ONNX Runtime."""
    from anytime_dnn_ros.engines.tensorrt import TensorRtEngine  # noqa: PLC0415

    library, device = tensorrt_for(setting)
    frames, source, _ = agreement_frames(setting.photos)
    engines = built(bundle, precision, library, device, setting)
    with ExitStack() as closing:
        candidate = TensorRtEngine(bundle, engines, library, device)
        closing.callback(candidate.close)
        plain, serving = OnnxRuntimeEngine(bundle, plain=True), OnnxRuntimeEngine(bundle)
        closing.callback(plain.close)
        closing.callback(serving.close)
        stages = compare_engines(
            candidate,
            plain=plain,
            serving=serving,
            frames=frames,
            manifest=bundle.manifest,
            precisions=[engine.options.precision for engine in engines],
        )
    figures = {
        'frames': source,
        'stages': [
            {
                'name': s.name,
                'counted': s.counted,
                'top1': s.top1,
                'worst_error': s.worst_error if isfinite(s.worst_error) else None,
                'is_good': s.is_good,
            }
            for s in stages
        ],
    }
    bad = [str(stage) for stage in stages if not stage.is_good]
    if bad:
        raise PartFailedError(f'on {source}: {"; ".join(bad)}', figures)
    return figures


class PartFailedError(AnytimeError):
    """A part failed and has figures all the same.

    Attributes:
        figures: As of a part that did not fail.
    """

    def __init__(self, message: str, figures: dict[str, Any]) -> None:
        super().__init__(message)
        self.figures = figures


def contenders(ladder: Ladder, setting: Setting) -> list[Contender]:
    """Every way to run a ladder, whether it can be here or not."""
    device = 'cpu' if setting.dry else 'cuda'
    known: list[Contender] = []
    for precision, stages, whole in ladder.variants():
        for form, bundle in ((STAGES, stages), (ONE_GRAPH, whole)):
            known.append(
                Contender(TENSORRT, form, precision, _tensorrt_runner(bundle, precision, setting))
            )
            known.append(
                Contender(
                    f'ONNX Runtime {device.upper()}',
                    form,
                    precision,
                    _ort_runner(bundle, device, precision),
                )
            )
        known.append(
            Contender(
                f'torch eager {device.upper()}',
                STAGES,
                precision,
                _torch_runner(ladder, device, precision),
            )
        )
    return known


def _tensorrt_runner(bundle: Bundle, precision: str, setting: Setting) -> Callable[[], Runner]:
    def load() -> Runner:
        from anytime_dnn_ros.engines.tensorrt import TensorRtEngine  # noqa: PLC0415

        library, device = tensorrt_for(setting)
        engines = built(bundle, precision, library, device, setting)
        return EngineRunner(TensorRtEngine(bundle, engines, library, device))

    return load


def _ort_runner(bundle: Bundle, device: str, precision: str) -> Callable[[], Runner]:
    def load() -> Runner:
        if precision == 'fp16' and device == 'cpu':
            raise LeftOutError('on a CPU float16 is float32 with conversions')
        return OrtRunner(bundle, device, half=precision == 'fp16')

    return load


def _torch_runner(ladder: Ladder, device: str, precision: str) -> Callable[[], Runner]:
    def load() -> Runner:
        if ladder.net is None:
            raise LeftOutError(f'{ladder.name} ships as ONNX files, without its torch network')
        if precision == 'int8':
            raise LeftOutError('torch runs no INT8 on a GPU')
        if precision == 'fp16' and device == 'cpu':
            raise LeftOutError('on a CPU float16 is float32 with conversions')
        shape = ladder.bundles[FLOAT].manifest.stages[0].inputs[0].shape
        return TorchRunner(
            copy.deepcopy(ladder.net),
            ladder.normalisation,
            shape,
            device,
            half=precision == 'fp16',
        )

    return load


def latency(ladder: Ladder, setting: Setting) -> dict[str, Any]:
    """Times of every contender that can be here, in turns; of the others, why not.

    Raises:
        LeftOutError: None can be here.
        AnytimeError: One could be here, and failed.
    """
    rows: list[dict[str, Any]] = []
    running: list[tuple[dict[str, Any], Runner]] = []
    with ExitStack() as closing:
        for one in contenders(ladder, setting):
            row = {'library': one.library, 'form': one.form, 'precision': one.precision}
            rows.append(row)
            try:
                runner = one.load()
                closing.callback(runner.close)
                for stage in range(runner.num_stages):
                    runner.run_stage(stage)
            except LeftOutError as error:
                row |= {'left_out': str(error)}
            # Whatever a library raises: the others are still to be timed.
            except Exception as error:  # noqa: BLE001
                row |= {'failed': f'{type(error).__name__}: {error}'}
            else:
                running.append((row, runner))
        if not running:
            raise _nothing_ran(rows)
        times = timed_rounds([runner for _, runner in running], setting.rounds)
        for (row, runner), ms in zip(running, times, strict=True):
            whole = ms.sum(1)
            row |= {
                'rounds': len(ms),
                'stage_ms': np.median(ms, 0).tolist(),
                'whole_ms': float(np.median(whole)),
                'whole_p99_ms': float(np.percentile(whole, 99)),
            }
            if isinstance(runner, EngineRunner):
                row['device_ms'] = runner.device_ms(setting.rounds)
    figures = {'rows': rows, 'overhead': overheads(rows)}
    if failures := _failures(rows):
        raise PartFailedError(failures, figures)
    return figures


def _nothing_ran(rows: list[dict[str, Any]]) -> Exception:
    failures = _failures(rows)
    return AnytimeError(failures) if failures else LeftOutError('nothing here can run it')


def _failures(rows: list[dict[str, Any]]) -> str:
    return '; '.join(
        f'{r["library"]}, {r["form"]}, {r["precision"]}: {r["failed"]}'
        for r in rows
        if 'failed' in r
    )


def overheads(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What running in stages costs over one graph with all heads, by library and precision."""
    whole = {
        (r['library'], r['precision'], r['form']): r['whole_ms'] for r in rows if 'whole_ms' in r
    }
    return [
        {
            'library': library,
            'precision': precision,
            'share': whole[library, precision, STAGES] / whole[library, precision, ONE_GRAPH] - 1,
        }
        for library, precision, form in whole
        if form == STAGES and (library, precision, ONE_GRAPH) in whole
    ]


def deadlines(setting: Setting, engine: str) -> dict[str, Any]:
    """`anytime-dnn bench` on the shipped `fashion`, in a process of its own."""
    file, page = setting.folder / 'bench.json', setting.folder / 'bench.html'
    words = ['--bundle', 'fashion', '--engine', engine, '--frames', str(setting.frames)]
    if setting.dry:
        # Only that it runs: the CPU's figures are in docs/benchmarks.md.
        words += ['--loads', 'none', '--deadlines', '20', '--policies', 'ours']
    else:
        words += ['--loads', 'none,step', '--deadlines', 'auto', '--policies', 'all']
    command = [sys.executable, '-m', 'anytime_dnn_ros.cli', 'bench', *words]
    done = subprocess.run(
        [*command, '--json', str(file), '--html', str(page)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ['it said nothing']
        raise AnytimeError(f'anytime-dnn bench {" ".join(words)}: {said[-1]}')
    document = json.loads(file.read_text(encoding='utf-8'))
    return {'command': f'anytime-dnn bench {" ".join(words)}', **document}
