import math
import sys
import types

import psutil
import pytest

from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.monitor.monitor import Monitor, find_probes
from anytime_dnn_ros.monitor.nvml import nvml_probes
from anytime_dnn_ros.monitor.probe import Probe
from monitor.trees import ORIN_NX, PRESSURE, plant


def never(text):
    raise AssertionError(text)


def says(source, every_s=0.0, **reading):
    return Probe(source, 'words', lambda _now_s: reading, every_s)


def test_the_first_probe_that_knows_counts():
    probes = [says('a', power_w=7.0), says('b', power_w=9.0, gpu_percent=3.0), says('c')]
    sample = Monitor(probes, never).sample(0.0)
    assert (sample.power_w, sample.gpu_percent) == (7.0, 3.0)
    # A probe that said nothing did not speak.
    assert sample.source == 'a+b'


def test_the_hottest_sensor_and_any_throttling_count():
    probes = [
        says('a', temperature_c=50.0, throttled=0.0),
        says('b', temperature_c=70.0, throttled=1.0),
        says('c', temperature_c=60.0, throttled=0.0),
    ]
    sample = Monitor(probes, never).sample(0.0)
    assert (sample.temperature_c, sample.throttled) == (70.0, 1.0)


def test_a_slow_probe_is_asked_only_when_due():
    asked = []

    def read(now_s):
        asked.append(now_s)
        return {'load_1m': now_s}

    monitor = Monitor([Probe('a', 'slow', read, every_s=1.0)], never)
    held = [monitor.sample(now_s).load_1m for now_s in (0.0, 0.5, 0.9, 1.0, 1.5)]
    assert held == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert asked == [0.0, 1.0]


def test_a_probe_that_fails_is_reported_once_and_comes_back():
    broken = [True]

    def read(_now_s):
        if broken:
            raise OSError('sensor unplugged')
        return {'power_w': 5.0}

    reports = []
    monitor = Monitor([Probe('b', 'power', read), says('a', cpu_percent=1.0)], reports.append)
    for now_s in (0.0, 1.0, 2.0):
        sample = monitor.sample(now_s)
        assert sample.cpu_percent == 1.0
        assert sample.power_w != sample.power_w
    assert len(reports) == 1
    assert 'sensor unplugged' in reports[0]
    (failing,) = monitor.failing
    assert 'b power' in failing
    broken.clear()
    assert monitor.sample(3.0).power_w == 5.0
    assert not monitor.failing


def test_auto_takes_what_a_jetson_has(tmp_path):
    root = plant(tmp_path, {**ORIN_NX, **PRESSURE})
    sample = Monitor(find_probes('auto', report=never, root=root), never).sample(0.0)
    assert sample.gpu_percent == pytest.approx(34.5)
    assert sample.psi_cpu_some10 == 12.5
    # psutil's own temperature would include the constant PMIC zone.
    assert sample.temperature_c == pytest.approx(51.5)
    assert {'jetson', 'psutil', 'psi'} <= set(sample.source.split('+'))


def test_auto_takes_what_a_plain_machine_has(tmp_path):
    sample = Monitor(find_probes('auto', report=never, root=tmp_path), never).sample(0.0)
    assert sample.memory_percent > 0.0
    assert 'psutil' in sample.source


def test_a_source_that_is_not_here_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigurationError, match=r'source = jetson.*auto'):
        find_probes('jetson', report=never, root=tmp_path)
    with pytest.raises(ConfigurationError, match='recorded_file'):
        find_probes('recorded', report=never, recorded_file='')
    with pytest.raises(ConfigurationError, match='synthetic_profile'):
        find_probes('synthetic', report=never, synthetic_profile='no such')
    with pytest.raises(ConfigurationError, match='psutil'):
        find_probes('luck', report=never)


def test_nvml_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pynvml', None)
    with pytest.raises(MissingDependencyError, match='pip install nvidia-ml-py'):
        nvml_probes(never)


class NVMLError(Exception):
    pass


def fake_nvml(**replaced):
    """Stand in for the library of a GPU that this machine does not have."""

    def unsupported(*_args):
        raise NVMLError('Not Supported')

    reasons = ('HwSlowdown', 'HwThermalSlowdown', 'HwPowerBrakeSlowdown')
    bits = {
        f'nvmlClocksThrottleReason{name}': 1 << bit
        for bit, name in enumerate((*reasons, 'SwThermalSlowdown', 'SwPowerCap'))
    }
    return types.SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_GRAPHICS=0,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda _index: 'gpu',
        nvmlDeviceGetUtilizationRates=lambda _gpu: types.SimpleNamespace(gpu=37, memory=5),
        nvmlDeviceGetMemoryInfo=lambda _gpu: types.SimpleNamespace(used=2**30, total=4 * 2**30),
        nvmlDeviceGetClockInfo=lambda _gpu, _kind: 600,
        nvmlDeviceGetMaxClockInfo=lambda _gpu, _kind: 2400,
        nvmlDeviceGetTemperature=lambda _gpu, _kind: 66,
        nvmlDeviceGetPowerUsage=unsupported,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda _gpu: 1 << 4,
        **bits,
        **replaced,
    )


def test_nvml_tells_what_the_gpu_supports(monkeypatch):
    monkeypatch.setitem(sys.modules, 'pynvml', fake_nvml())
    sample = Monitor(nvml_probes(never), never).sample(0.0)
    assert sample.gpu_percent == 37.0
    assert sample.gpu_memory_percent == 25.0
    assert sample.gpu_freq_ratio == 0.25
    assert sample.temperature_c == 66.0
    assert sample.power_w != sample.power_w
    assert sample.throttled == 1.0


def test_nvml_without_a_gpu(monkeypatch):
    def no_gpu():
        raise NVMLError('Driver Not Loaded')

    nvml = fake_nvml()
    nvml.nvmlInit = no_gpu
    monkeypatch.setitem(sys.modules, 'pynvml', nvml)
    with pytest.raises(ConfigurationError, match=r'Driver Not Loaded.*auto'):
        nvml_probes(never)


class FakeJtop:
    """Stand in for the client of a root service that this machine does not have."""

    alive = True

    def __init__(self, interval):
        self.interval = interval
        self.gpu = {'orin': {'status': {'load': 44.0}}}
        self.power = {'tot': {'power': 8200}}
        self.temperature = {
            'CPU': {'temp': 55.0, 'online': True},
            'CV0': {'temp': -256, 'online': False},
        }

    def start(self):
        pass

    def is_alive(self):
        return self.alive


def test_jtop_is_a_plug_in(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, 'jtop', types.SimpleNamespace(jtop=FakeJtop))
    reports = []
    monitor = Monitor(find_probes('auto', report=never, root=tmp_path), reports.append)
    sample = monitor.sample(0.0)
    assert (sample.gpu_percent, sample.power_w) == (44.0, 8.2)
    assert sample.temperature_c >= 55.0
    monkeypatch.setattr(FakeJtop, 'alive', False)
    sample = monitor.sample(1.0)
    assert sample.gpu_percent != sample.gpu_percent
    assert all('jtop' in report for report in reports)
    assert len(reports) == 3


def test_a_jtop_service_that_is_down_is_told_and_no_harm(monkeypatch, tmp_path):
    class Down(FakeJtop):
        def start(self):
            raise RuntimeError('service is not active')

    monkeypatch.setitem(sys.modules, 'jtop', types.SimpleNamespace(jtop=Down))
    reports = []
    probes = find_probes('auto', report=reports.append, root=tmp_path)
    assert Monitor(probes, never).sample(0.0).memory_percent > 0.0
    (report,) = reports
    assert 'service is not active' in report


@pytest.mark.parametrize(
    'error', [NotImplementedError(), OSError(5, 'I/O error'), AttributeError()]
)
@pytest.mark.parametrize('function', ['cpu_freq', 'sensors_temperatures', 'cpu_times'])
def test_a_look_for_a_probe_that_fails_is_told_once_and_the_rest_lives(
    function, error, monkeypatch, tmp_path
):
    def broken(*_args, **_options):
        raise error

    monkeypatch.setattr(psutil, function, broken, raising=False)
    reports = []
    monitor = Monitor(find_probes('psutil', report=reports.append, root=tmp_path), never)
    for now_s in (0.0, 5.0):
        sample = monitor.sample(now_s)
        assert sample.memory_percent > 0.0
    field = {
        'cpu_freq': 'cpu_freq_ratio',
        'sensors_temperatures': 'temperature_c',
        'cpu_times': 'cpu_percent',
    }[function]
    assert math.isnan(getattr(sample, field))
    (report,) = reports
    assert repr(error) in report
    assert not monitor.failing


def test_a_counter_that_cannot_be_read_is_no_probe(tmp_path):
    counter = 'sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count'
    (plant(tmp_path, {counter: ''}) / counter).write_bytes(b'\xff\xfe')
    reports = []
    sample = Monitor(find_probes('auto', report=reports.append, root=tmp_path), never).sample(0.0)
    assert math.isnan(sample.throttled)
    (report,) = reports
    assert 'throttling' in report


def test_a_jetson_part_that_cannot_be_read_leaves_the_other_parts(tmp_path):
    root = plant(tmp_path, ORIN_NX)
    zone = next((root / 'sys/class/thermal').glob('thermal_zone*')) / 'type'
    zone.write_bytes(b'\xff\xfe')
    reports = []
    sample = Monitor(find_probes('auto', report=reports.append, root=root), never).sample(0.0)
    assert sample.gpu_percent == pytest.approx(34.5)
    assert sample.power_w == pytest.approx(7.5)
    (report,) = reports
    assert 'temperature' in report


@pytest.mark.parametrize('source', ['auto', 'nvml'])
def test_another_pynvml_takes_nothing_but_its_own_figures(source, monkeypatch, tmp_path):
    for pynvml, told in ((types.SimpleNamespace(), 'NVML'), (fake_nvml(), 'GPU throttling')):
        vars(pynvml).pop('nvmlClocksThrottleReasonSwPowerCap', None)
        monkeypatch.setitem(sys.modules, 'pynvml', pynvml)
        reports = []
        monitor = Monitor(find_probes(source, report=reports.append, root=tmp_path), never)
        sample = monitor.sample(0.0)
        assert sample.memory_percent > 0.0
        assert math.isnan(sample.throttled)
        (report,) = reports
        assert told in report
    assert sample.gpu_percent == 37.0
