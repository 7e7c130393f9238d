import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

rclpy = pytest.importorskip('rclpy', reason='no ROS 2 in this Python')
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter as RosParameter  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data  # noqa: E402

from anytime_dnn_ros.monitor.monitor import Monitor  # noqa: E402
from anytime_dnn_ros.monitor.probe import Probe  # noqa: E402
from anytime_dnn_ros.monitor.recorded import read_recording  # noqa: E402
from anytime_dnn_ros.monitor.regime import Regime  # noqa: E402
from anytime_dnn_ros.msg import LoadProfile, SystemLoad  # noqa: E402
from anytime_dnn_ros.nodes.monitor_node import MONITOR_PARAMETERS, MonitorNode  # noqa: E402
from anytime_dnn_ros.nodes.program import run_nodes  # noqa: E402

pytestmark = pytest.mark.dds

# Fast DDS takes its ports from it; up to 101 they lie below those the system hands out.
DOMAIN = 1 + os.getpid() % 100
PATIENCE_S = 30.0  # only how long a broken node is waited for
STEP = 'step low=20 high=99 start_s=0.5; step quantity=temperature_c low=50 high=95 start_s=0.5'


class Listener:
    """A node that keeps whatever monitor_node publishes."""

    def __init__(self, context):
        self.node = rclpy.create_node('listener', context=context)
        self.loads, self.profiles, self.statuses = [], [], []
        latched = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.node.create_subscription(
            SystemLoad, 'system_load', self.loads.append, qos_profile_sensor_data
        )
        self.node.create_subscription(LoadProfile, 'load_profile', self.profiles.append, latched)
        self.node.create_subscription(
            DiagnosticArray,
            '/diagnostics',
            lambda message: self.statuses.extend(message.status),
            10,
        )
        self.executor = SingleThreadedExecutor(context=context)
        self.executor.add_node(self.node)

    def wait_for(self, condition):
        end_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < end_s, 'it never came'
            self.executor.spin_once(timeout_sec=0.1)


@pytest.fixture
def context():
    context = rclpy.Context()
    rclpy.init(args=[], context=context, domain_id=DOMAIN)
    yield context
    context.try_shutdown()


@pytest.fixture
def listener(context):
    listener = Listener(context)
    yield listener
    listener.executor.shutdown()
    listener.node.destroy_node()


@pytest.fixture
def make_node(context):
    nodes = []

    def make(**values):
        overrides = [RosParameter(name, value=value) for name, value in values.items()]
        nodes.append(MonitorNode(context=context, parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.destroy_node()


def _values(node):
    return {p.name: node.get_parameter(p.name).value for p in MONITOR_PARAMETERS}


def _set(node, **values):
    changes = [RosParameter(name, value=value) for name, value in values.items()]
    return node.set_parameters_atomically(changes)


def test_it_tells_the_load_its_profile_and_its_regime(make_node, listener):
    make_node(source='synthetic', synthetic_profile=STEP, debounce_s=0.0, window_s=60.0)
    listener.wait_for(lambda: any(p.regime_name == 'saturated' for p in listener.profiles))
    low, high = listener.loads[0], listener.loads[-1]
    assert (low.cpu_percent, high.cpu_percent) == (20.0, 99.0)
    assert list(high.cpu_percent_per_core) == [99.0] * (os.cpu_count() or 1)
    assert high.source == 'synthetic'
    assert high.header.frame_id
    assert high.header.stamp.sec > 0
    # What the source does not tell is unknown, in the load and over the window.
    assert math.isnan(high.gpu_percent)

    profile = next(p for p in listener.profiles if p.regime_name == 'saturated')
    assert profile.regime == Regime.SATURATED
    assert profile.window_s == 60.0
    assert profile.samples >= 2
    assert profile.max.cpu_percent == 99.0
    assert 20.0 < profile.mean.cpu_percent < 99.0
    assert profile.p50.cpu_percent <= profile.p95.cpu_percent <= profile.max.cpu_percent
    assert math.isnan(profile.p95.gpu_percent)


def test_diagnostics_warn_of_load_and_heat(make_node, listener):
    make_node(source='synthetic', synthetic_profile=STEP, debounce_s=0.2, diagnostics_period_s=0.1)
    listener.wait_for(lambda: any(s.level == DiagnosticStatus.WARN for s in listener.statuses))
    first, last = listener.statuses[0], listener.statuses[-1]
    assert first.level == DiagnosticStatus.OK
    assert last.name == '/monitor_node: system load'
    assert last.hardware_id
    assert 'processor load over 90 %' in last.message
    assert 'temperature over 85 °C' in last.message
    values = {value.key: value.value for value in last.values}
    assert values['cpu_percent'] == '99'
    assert values['gpu_percent'] == 'nan'
    assert values['source'] == 'synthetic'


def test_a_probe_that_fails_is_a_warning_and_the_node_lives(make_node, listener):
    def unplugged(_now_s):
        raise OSError('sensor unplugged')

    node = make_node(diagnostics_period_s=0.1)
    good = Probe('good', 'load', lambda _now_s: {'cpu_percent': 7.0})
    node._monitor = Monitor([Probe('bad', 'power', unplugged), good], node._warn)
    listener.wait_for(lambda: any('unplugged' in s.message for s in listener.statuses))
    listener.wait_for(lambda: listener.loads and listener.loads[-1].source == 'good')
    assert math.isnan(listener.loads[-1].power_w)

    node._monitor = Monitor([Probe('bad', 'power', unplugged)], node._warn)
    listener.wait_for(lambda: listener.statuses[-1].level == DiagnosticStatus.ERROR)
    listener.wait_for(lambda: listener.loads[-1].source == '')
    assert math.isnan(listener.loads[-1].cpu_percent)


def test_what_must_never_happen_ends_the_program_loudly(monkeypatch):
    monkeypatch.setenv('ROS_DOMAIN_ID', str(DOMAIN))
    monkeypatch.setattr(MonitorNode, '_tick', lambda _node, _now_s: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run_nodes('monitor_node', [MonitorNode], [])


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        ({'rate_hz': 0.0}, 'rate_hz'),
        ({'rate_hz': math.nan}, 'rate_hz'),
        ({'source': 'luck'}, 'source'),
        ({'source': 'recorded', 'recorded_file': '/no/such.csv'}, 'such.csv'),
        ({'source': 'synthetic', 'synthetic_profile': 'ramp'}, 'synthetic_profile'),
        ({'record_to_file': '/no/such/folder.csv'}, 'record_to_file'),
        ({'window_s': 10.0, 'debounce_s': -1.0}, 'debounce_s'),
    ],
)
def test_a_bad_change_is_refused_as_a_whole(make_node, listener, change, told):
    node = make_node()
    before = _values(node)
    monitor = node._monitor
    result = _set(node, **change)
    assert not result.successful
    assert told in result.reason
    assert _values(node) == before
    assert node._monitor is monitor
    listener.wait_for(lambda: len(listener.loads) > 2)


def test_a_good_change_takes_effect_at_once(make_node, listener):
    node = make_node(rate_hz=0.1)
    listener.wait_for(lambda: listener.profiles)
    assert _set(
        node, rate_hz=50, source='synthetic', synthetic_profile='step low=33', window_s=2
    ).successful
    # At the old rate the next one would come in ten seconds, and twenty of them never.
    listener.wait_for(lambda: sum(m.cpu_percent == 33.0 for m in listener.loads) > 20)
    listener.wait_for(lambda: listener.profiles[-1].window_s == 2.0)


def test_a_recorded_load_comes_again_from_its_file(make_node, listener, tmp_path):
    path = tmp_path / 'load.csv'
    node = make_node(source='synthetic', synthetic_profile='step low=44', record_to_file=str(path))
    listener.wait_for(lambda: len(listener.loads) > 5)
    assert _set(node, record_to_file='').successful
    recording = read_recording(path)
    assert {sample.cpu_percent for sample in recording.samples} == {44.0}
    assert _set(node, source='recorded', recorded_file=str(path)).successful
    listener.wait_for(lambda: listener.loads[-1].source == 'recorded')
    assert listener.loads[-1].cpu_percent == 44.0


def test_a_full_disk_ends_the_recording_and_not_the_node(make_node, listener, tmp_path):
    node = make_node(record_to_file=str(tmp_path / 'load.csv'))

    class FullDisk:
        def write(self, _time_s, _sample):
            raise OSError(28, 'No space left on device')

        def close(self):
            closed.append(self)
            raise OSError(28, 'No space left on device')

    closed = []
    node._recorder.close()
    node._recorder = FullDisk()
    listener.wait_for(lambda: len(closed) == 1)
    listener.wait_for(lambda: node._recorder is None)
    received = len(listener.loads)
    listener.wait_for(lambda: len(listener.loads) > received + 2)


def test_it_runs_while_a_simulated_clock_stands_still(make_node, listener):
    make_node(use_sim_time=True)
    listener.wait_for(lambda: len(listener.loads) > 2)
    assert listener.loads[-1].header.stamp.sec == 0


def _start(*arguments):
    source = Path(__file__).parents[2] / 'src'
    return subprocess.Popen(
        [sys.executable, '-m', 'anytime_dnn_ros.nodes.monitor_node', *arguments],
        env={**os.environ, 'PYTHONPATH': str(source), 'ROS_DOMAIN_ID': str(DOMAIN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_it_stops_cleanly_when_told_to(listener, stop):
    process = _start()
    try:
        listener.wait_for(lambda: len(listener.loads) > 2)
        process.send_signal(stop)
        output, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 0
    assert 'Traceback' not in output
    # The real machine: it has a processor and memory.
    load = listener.loads[-1]
    assert 0.0 <= load.cpu_percent <= 100.0
    assert 0.0 < load.memory_percent < 100.0


@pytest.mark.parametrize(
    ('argument', 'told'),
    [
        ('rate_hz:=-1.0', 'parameter rate_hz = -1.0 cannot be used'),
        ('rate_hz:=often', "parameter rate_hz = 'often' cannot be used"),
        ('source:=luck', "parameter source = 'luck' cannot be used"),
        ('source:=recorded', 'parameter recorded_file is empty'),
    ],
)
def test_a_bad_configuration_is_one_clear_error(argument, told):
    process = _start('--ros-args', '-p', argument)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert told in output
    assert 'Traceback' not in output
