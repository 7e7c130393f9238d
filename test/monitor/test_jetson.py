import pytest

from anytime_dnn_ros.monitor.jetson import is_jetson, jetson_probes
from anytime_dnn_ros.monitor.monitor import Monitor
from monitor.trees import AGX_ORIN, ORIN_NX, THOR, plant


def never(text):
    raise AssertionError(text)


def test_orin_nx(tmp_path):
    root = plant(tmp_path, ORIN_NX)
    assert is_jetson(root)
    sample = Monitor(jetson_probes(never, root), never).sample(0.0)
    assert sample.gpu_percent == pytest.approx(34.5)
    assert sample.gpu_freq_ratio == pytest.approx(1 / 3)
    # The hottest real zone: neither the constant PMIC nor the zone that cannot be read.
    assert sample.temperature_c == pytest.approx(51.5)
    # The whole module, not the sum over its rails.
    assert sample.power_w == pytest.approx(7.5)
    assert sample.throttled == 0.0
    assert sample.source == 'jetson'


def test_agx_orin_adds_up_its_rails(tmp_path):
    root = plant(tmp_path, AGX_ORIN)
    sample = Monitor(jetson_probes(never, root), never).sample(0.0)
    assert sample.gpu_percent == 100.0
    assert sample.power_w == pytest.approx(5.7)
    assert sample.temperature_c != sample.temperature_c


def test_thor(tmp_path):
    root = plant(tmp_path, THOR)
    assert is_jetson(root)
    sample = Monitor(jetson_probes(never, root), never).sample(0.0)
    assert sample.gpu_freq_ratio == pytest.approx(0.5)
    assert sample.power_w == pytest.approx(42.5)
    assert sample.gpu_percent != sample.gpu_percent


def test_throttling_by_heat_and_by_current(tmp_path):
    root = plant(tmp_path, ORIN_NX)
    monitor = Monitor(jetson_probes(never, root), never)
    alert = root / 'sys/class/thermal/cooling_device2/cur_state'
    events = root / 'sys/class/hwmon/hwmon3/oc3_event_cnt'
    assert monitor.sample(0.0).throttled == 0.0
    alert.write_text('1\n')
    assert monitor.sample(2.0).throttled == 1.0
    alert.write_text('0\n')
    assert monitor.sample(4.0).throttled == 0.0
    events.write_text('38\n')
    assert monitor.sample(6.0).throttled == 1.0
    assert monitor.sample(8.0).throttled == 0.0


def test_a_file_that_vanishes_takes_only_its_own_figure_along(tmp_path):
    root = plant(tmp_path, ORIN_NX)
    reports = []
    monitor = Monitor(jetson_probes(never, root), reports.append)
    load = root / 'sys/class/devfreq/17000000.gpu/device/load'
    load.unlink()
    for now_s in (0.0, 0.1, 0.2):
        sample = monitor.sample(now_s)
        assert sample.gpu_percent != sample.gpu_percent
        assert sample.power_w == pytest.approx(7.5)
    assert len(reports) == 1
    assert 'GPU load' in reports[0]
    load.write_text('120\n')
    assert monitor.sample(0.3).gpu_percent == 12.0
    assert not monitor.failing


def test_another_board_is_no_jetson(tmp_path):
    plant(tmp_path, {'proc/device-tree/compatible': 'raspberrypi,5-model-b\x00brcm,bcm2712\x00'})
    assert not is_jetson(tmp_path)
    assert jetson_probes(never, tmp_path) == []
