import math
import os
import threading
from unittest import mock

import psutil
import pytest

from anytime_dnn_ros.monitor.host import host_probes
from anytime_dnn_ros.monitor.monitor import Monitor
from anytime_dnn_ros.monitor.psi import psi_probes
from anytime_dnn_ros.monitor.throttling import throttling_probes
from monitor.trees import PRESSURE, plant


def never(text):
    raise AssertionError(text)


def test_this_very_machine():
    monitor = Monitor(host_probes(never), never)
    # Something to do between the two looks at the processor's times.
    sum(range(10**7))
    sample = monitor.sample(0.0)
    assert len(sample.cpu_percent_per_core) == os.cpu_count()
    assert 0.0 < sample.cpu_percent <= 100.0
    assert sample.cpu_percent == pytest.approx(
        sum(sample.cpu_percent_per_core) / len(sample.cpu_percent_per_core)
    )
    assert 0.0 < sample.memory_percent < 100.0
    assert 0.0 <= sample.swap_percent <= 100.0
    assert sample.load_1m >= 0.0
    assert sample.source == 'psutil'


def test_pressure(tmp_path):
    sample = Monitor(psi_probes(plant(tmp_path, PRESSURE)), never).sample(0.0)
    assert sample.psi_cpu_some10 == 12.5
    assert sample.psi_memory_some10 == 0.75
    assert sample.source == 'psi'


def test_a_kernel_without_pressure_files(tmp_path):
    assert psi_probes(tmp_path) == []
    # psi=0 on the command line of the kernel: the file is there and cannot be read as such.
    plant(tmp_path, {'proc/pressure/cpu': '', 'proc/pressure/memory': 'none'})
    assert psi_probes(tmp_path) == []


def test_intel_throttling_is_told_while_the_count_rises(tmp_path):
    counter = 'sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count'
    plant(
        tmp_path,
        {
            counter: '7',
            'sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count': '3',
        },
    )
    monitor = Monitor(throttling_probes(tmp_path), never)
    assert monitor.sample(0.0).throttled == 0.0
    plant(tmp_path, {counter: '8'})
    assert monitor.sample(2.0).throttled == 1.0
    assert monitor.sample(4.0).throttled == 0.0


@pytest.mark.parametrize(
    ('bits', 'throttled'),
    # Bits 16 to 19 say that it happened once; only the low ones say that it happens now.
    [('0', 0.0), ('50000', 0.0), ('50005', 1.0), ('8', 1.0), ('2', 1.0)],
)
def test_raspberry_pi_throttling(tmp_path, bits, throttled):
    plant(tmp_path, {'sys/devices/platform/soc/soc:firmware/get_throttled': bits})
    assert Monitor(throttling_probes(tmp_path), never).sample(0.0).throttled == throttled


def test_a_machine_that_tells_nothing_of_throttling(tmp_path):
    assert throttling_probes(tmp_path) == []


def test_a_new_thread_does_not_take_the_machine_for_idle():
    monitor = Monitor(host_probes(never), never)
    sum(range(2 * 10**7))
    samples = []
    thread = threading.Thread(target=lambda: samples.append(monitor.sample(0.0)))
    thread.start()
    thread.join()
    assert samples[0].cpu_percent > 0.0


def test_two_looks_within_one_tick_tell_nothing_of_the_processor():
    times = psutil.cpu_times(percpu=True)
    with mock.patch.object(psutil, 'cpu_times', return_value=times):
        sample = Monitor(host_probes(never), never).sample(0.0)
    assert math.isnan(sample.cpu_percent)
    assert sample.cpu_percent_per_core == ()
    assert sample.memory_percent > 0.0


def test_a_core_that_goes_offline_is_no_failure():
    monitor = Monitor(host_probes(never), never)
    one = psutil.cpu_times(percpu=True)[:1] * 7
    with mock.patch.object(psutil, 'cpu_times', return_value=one):
        assert math.isnan(monitor.sample(0.0).cpu_percent)
    assert not monitor.failing
