"""Every TensorRT name that the code uses is there in each version it may be used with."""

import importlib.util
import json
from pathlib import Path

import pytest

from anytime_dnn_ros.engines.tensorrt_library import TensorRT

SPEC = importlib.util.spec_from_file_location(
    'tensorrt_names', Path(__file__).parents[2] / 'tools' / 'tensorrt_names.py'
)
tensorrt_names = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(tensorrt_names)

TABLE = json.loads(tensorrt_names.TABLE.read_text('utf-8'))
# Used only where the library answers so; `test_tensorrt_builder.py` sees that it is asked.
GUARDS = {
    'BuilderFlag.FP16': TensorRT.has_precision_flags,
    'BuilderFlag.INT8': TensorRT.has_precision_flags,
    'NetworkDefinitionCreationFlag.EXPLICIT_BATCH': TensorRT.has_precision_flags,
    'NetworkDefinitionCreationFlag.STRONGLY_TYPED': TensorRT.strongly_typed,
    'IProgressMonitor': TensorRT.reports_progress,
    'IProgressMonitor.phase_start': TensorRT.reports_progress,
    'IProgressMonitor.step_complete': TensorRT.reports_progress,
    'IProgressMonitor.phase_finish': TensorRT.reports_progress,
    'IBuilderConfig.progress_monitor': TensorRT.reports_progress,
    'ComputeCapability': TensorRT.builds_for_others,
    'IBuilderConfig.num_compute_capabilities': TensorRT.builds_for_others,
    'IBuilderConfig.set_compute_capability': TensorRT.builds_for_others,
    'ICudaEngine.device_memory_size_v2': TensorRT.strongly_typed,
    'ICudaEngine.device_memory_size': property(lambda library: not library.strongly_typed),
    # torch2trt, which is refused elsewhere.
    'CalibrationAlgoType': TensorRT.has_precision_flags,
    'CalibrationAlgoType.ENTROPY_CALIBRATION_2': TensorRT.has_precision_flags,
}


def library(version: str) -> TensorRT:
    flavour = 'tensorrt_rtx' if version.startswith('rtx') else 'tensorrt'
    return TensorRT(None, flavour, version.rpartition(' ')[2])


def test_the_table_has_just_the_names_in_use():
    assert set(TABLE) == tensorrt_names.used_names(), 'run tools/tensorrt_names.py'


@pytest.mark.parametrize('version', tensorrt_names.WHEELS)
def test_a_version_has_every_name_that_it_is_used_with(version):
    always = property(lambda _: True)
    used = {n for n in TABLE if GUARDS.get(n, always).fget(library(version))}
    assert len(used) > 40
    assert {n for n in used if version not in TABLE[n]} == set()


@pytest.mark.parametrize('name', GUARDS)
def test_a_guarded_name_is_missing_somewhere(name):
    assert set(TABLE[name]) != set(tensorrt_names.WHEELS)


def test_the_installed_one_has_what_the_table_says():
    module = pytest.importorskip(
        'tensorrt_rtx_bindings', reason='TensorRT for RTX is not installed (make tensorrt)'
    )
    for name, versions in TABLE.items():
        thing = module
        for part in name.partition('(')[0].split('.'):
            thing = getattr(thing, part, None)
        assert (thing is not None) == ('rtx 1.7.1' in versions), name


def test_names_are_found_however_the_code_reaches_them(tmp_path):
    (tmp_path / 'tensorrt_user.py').write_text(
        """
def build(library, config: trt.IBuilderConfig, runtime: 'trt.Runtime | None'):
    flags = library.module.BuilderFlag
    config.set_flag(flags.FP16, quick=True)
    engine: trt.ICudaEngine = runtime.deserialize_cuda_engine(b'')
    class Log(library.module.ILogger):
        def log(self): ...
"""
    )
    assert tensorrt_names.used_names(tmp_path) == {
        'BuilderFlag',
        'BuilderFlag.FP16',
        'IBuilderConfig.set_flag',
        'IBuilderConfig.set_flag(quick)',
        'Runtime.deserialize_cuda_engine',
        'ILogger',
        'ILogger.log',
    }
