"""Which TensorRT and which GPU are found, from what this Python and this machine have."""

import ctypes
import sys
from types import ModuleType

import pytest

from anytime_dnn_ros.engines import tensorrt_library
from anytime_dnn_ros.engines.tensorrt_library import Device, find_device, find_tensorrt
from anytime_dnn_ros.errors import MissingDependencyError

NAMES = ('tensorrt', 'tensorrt_rtx', 'tensorrt_rtx_bindings')


@pytest.fixture
def install(monkeypatch):
    """A Python that has just the modules it is told of, by name and version."""
    for name in NAMES:
        # What Python makes of None: no such module.
        monkeypatch.setitem(sys.modules, name, None)

    def add(name, version):
        module = ModuleType(name)
        if version:
            module.__version__ = version
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return add


@pytest.mark.parametrize(
    ('present', 'flavour', 'version'),
    [
        ({'tensorrt': '8.6.2'}, 'tensorrt', '8.6.2'),
        ({'tensorrt': '10.3.0', 'tensorrt_rtx': '1.7.1'}, 'tensorrt', '10.3.0'),
        ({'tensorrt_rtx': '1.7.1', 'tensorrt_rtx_bindings': '1.6'}, 'tensorrt_rtx', '1.7.1'),
        ({'tensorrt_rtx_bindings': '1.7.1.116'}, 'tensorrt_rtx', '1.7.1.116'),
        # The types alone leave a folder that can be imported.
        ({'tensorrt': '', 'tensorrt_rtx': '1.7.1'}, 'tensorrt_rtx', '1.7.1'),
    ],
)
def test_the_best_one_is_found(install, present, flavour, version):
    for name, its_version in present.items():
        install(name, its_version)
    found = find_tensorrt()
    assert (found.flavour, found.version) == (flavour, version)


@pytest.mark.parametrize(
    ('flavour', 'version', 'flags', 'typed', 'others'),
    [
        ('tensorrt', '8.6.2', True, False, False),
        ('tensorrt', '10.3.0', True, True, False),
        ('tensorrt', '11.4.1', False, True, False),
        ('tensorrt_rtx', '1.7.1.116', False, True, True),
    ],
)
def test_what_a_version_can_do(flavour, version, flags, typed, others):
    library = tensorrt_library.TensorRT(None, flavour, version)
    assert library.has_precision_flags == flags
    assert library.strongly_typed == library.reports_progress == typed
    assert library.builds_for_others == others


@pytest.mark.parametrize(
    ('on_a_jetson', 'mend'), [(True, 'apt install python3-libnvinfer'), (False, 'pip install')]
)
def test_none_at_all_names_the_mend_of_the_platform(
    install, monkeypatch, tmp_path, on_a_jetson, mend
):
    release = tmp_path / 'nv_tegra_release'
    if on_a_jetson:
        release.touch()
    monkeypatch.setattr(tensorrt_library, 'TEGRA_RELEASE', release)
    monkeypatch.setattr('platform.machine', lambda: 'x86_64')
    with pytest.raises(MissingDependencyError, match=f'has no TensorRT.*{mend}'):
        find_tensorrt()


def test_a_library_that_cannot_be_loaded_is_quoted(monkeypatch):
    def importing(name):
        if name == 'tensorrt':
            raise OSError('libnvinfer.so.10: cannot open shared object file')
        raise ModuleNotFoundError(f'No module named {name!r}', name=name)

    monkeypatch.setattr('importlib.import_module', importing)
    with pytest.raises(MissingDependencyError, match=r'\(tensorrt: libnvinfer\.so\.10: cannot'):
        find_tensorrt()


def test_one_that_is_too_old_is_refused(install):
    install('tensorrt', '8.5.2.2')
    with pytest.raises(MissingDependencyError, match=r'8\.5\.2\.2 is too old: 8\.6 or newer'):
        find_tensorrt()


class Driver:
    """libcuda of a machine with one Orin; `failing` calls give an error."""

    def __init__(self, *failing: str, gpus: int = 1) -> None:
        self._failing = failing
        self._gpus = gpus

    def __getattr__(self, call):
        return lambda *arguments: 999 if call in self._failing else self._answer(call, *arguments)

    def _answer(self, call, *arguments):
        # `byref` hides what it refers to here.
        targets = [getattr(argument, '_obj', argument) for argument in arguments]
        if call == 'cuDeviceGetCount':
            targets[0].value = self._gpus
        elif call == 'cuDeviceGet':
            targets[0].value = 40 + targets[1]
        elif call == 'cuDeviceGetName':
            assert targets[2].value == 40
            targets[0].value = b'Orin'
        elif call == 'cuDeviceTotalMem_v2':
            targets[0].value = 8 * 2**30
        elif call == 'cuDeviceGetAttribute':
            targets[0].value = {75: 8, 76: 7}[targets[1]]
        return 0


@pytest.fixture
def drive(monkeypatch):
    return lambda driver: monkeypatch.setattr(ctypes, 'CDLL', lambda _name: driver)


def test_the_driver_tells_of_the_gpu(drive):
    drive(Driver())
    assert find_device() == Device('Orin', '8.7', 0, 8 * 2**30)


@pytest.mark.parametrize(
    'driver',
    [
        Driver(gpus=0),
        Driver('cuInit'),
        Driver('cuDeviceGetCount'),
        Driver('cuDeviceGet'),
        Driver('cuDeviceGetName'),
        Driver('cuDeviceTotalMem_v2'),
        Driver('cuDeviceGetAttribute'),
    ],
)
def test_a_driver_without_a_gpu_that_works_is_no_gpu(drive, driver):
    drive(driver)
    assert find_device() is None


def test_a_gpu_number_that_is_not_there_is_no_gpu(drive):
    drive(Driver(gpus=1))
    assert find_device(1) is None


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch):
    monkeypatch.setattr(tensorrt_library, 'CUDA_DRIVER', 'libcuda_that_is_not_here.so.1')
    assert find_device() is None
