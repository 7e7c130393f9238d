"""What the bench sees of the machine: energy counters, load, and how late a timer wakes."""

import threading
import time

import pytest

from anytime_dnn_ros.bench.machine import (
    EnergyMeter,
    LoadWatch,
    TimerLateness,
    energy_counters,
    load_by_others_percent,
)

WAIT_S = 30.0


@pytest.fixture
def powercap(tmp_path):
    for name, used, most in (
        ('intel-rapl:0', 1000, 9999),
        ('intel-rapl:1', 9000, 9999),
        ('intel-rapl:0:0', 5, 9999),
    ):
        zone = tmp_path / name
        zone.mkdir()
        (zone / 'energy_uj').write_text(f'{used}\n')
        (zone / 'max_energy_range_uj').write_text(f'{most}\n')
    (tmp_path / 'intel-rapl:2').mkdir()
    return tmp_path


def test_energy_is_the_sum_of_the_packages_also_when_a_counter_begins_anew(powercap):
    meter = EnergyMeter(energy_counters(powercap))
    (powercap / 'intel-rapl:0' / 'energy_uj').write_text('1500')
    (powercap / 'intel-rapl:1' / 'energy_uj').write_text('500')
    assert meter.joules() == pytest.approx((500 + 1500) / 1e6)


def test_without_counters_nobody_knows_the_energy(tmp_path):
    assert EnergyMeter(energy_counters(tmp_path)).joules() is None


def test_the_watch_tells_the_load_of_this_machine_until_the_block_ends():
    told, enough = [], threading.Event()

    def tell(at_s, load):
        told.append((at_s, load))
        if len(told) == 3:
            enough.set()

    with LoadWatch(tell, pytest.fail):
        assert enough.wait(WAIT_S)
    count = len(told)
    assert [at_s for at_s, _ in told] == sorted(at_s for at_s, _ in told)
    assert told[0][1].num_cores >= 1
    assert all(0 <= load.cpu_percent <= 100 for _, load in told[1:])
    assert not any(t.name == 'bench-monitor' for t in threading.enumerate())
    assert len(told) == count


def test_a_timer_is_never_early():
    with TimerLateness() as timer:
        for wait_s in (0.0, 0.002, 0.01):
            timer.arm(time.monotonic() + wait_s)
            assert timer.late_s() >= 0
    assert not any(t.name == 'bench-timer' for t in threading.enumerate())


def test_the_load_by_others_is_a_percentage():
    assert 0 <= load_by_others_percent(0.05) <= 100
