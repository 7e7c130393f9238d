"""The node that tells how loaded the machine is: samples, windows, regimes, diagnostics."""

import platform
import sys
import threading
import time
from array import array
from contextlib import suppress
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import DurabilityPolicy, QoSProfile

from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.monitor.monitor import SOURCES, Monitor, find_probes
from anytime_dnn_ros.monitor.recorded import Recorder
from anytime_dnn_ros.monitor.regime import LoadJudge, Regime, Thresholds
from anytime_dnn_ros.monitor.sample import QUANTITIES, LoadSample
from anytime_dnn_ros.monitor.window import LoadWindow
from anytime_dnn_ros.msg import LoadProfile, SystemLoad
from anytime_dnn_ros.nodes.parameters import Parameter, Values, declare, validate
from anytime_dnn_ros.nodes.program import run_nodes

_SOURCE_PARAMETERS = ('source', 'recorded_file', 'synthetic_profile')
_THRESHOLDS = ('cpu_warn_percent', 'memory_warn_percent', 'temperature_warn_c', 'debounce_s')
# A profile is a statement over seconds; a new regime is published at once besides.
_PROFILE_PERIOD_S = 1.0

MONITOR_PARAMETERS = (
    Parameter('rate_hz', 10.0, 'How often the load is sampled and published.', 'Hz', 0.1, 100.0),
    Parameter('window_s', 5.0, 'Length of the window of load_profile.', 's', 0.1, 600.0),
    Parameter(
        'source',
        'auto',
        'Where the load comes from; auto takes whatever this machine has.',
        choices=SOURCES,
    ),
    Parameter('recorded_file', '', 'CSV file that the source recorded plays, again and again.'),
    Parameter(
        'synthetic_profile',
        'burst',
        "What the source synthetic plays, e.g. 'burst high=95 period_s=20 length_s=5'.",
    ),
    Parameter('record_to_file', '', 'New CSV file that takes every sample; empty: none.'),
    Parameter(
        'cpu_warn_percent',
        90.0,
        'Load from which the machine counts as saturated.',
        'percent',
        1.0,
        100.0,
    ),
    Parameter(
        'memory_warn_percent',
        90.0,
        'Memory in use from which there is memory pressure.',
        'percent',
        1.0,
        100.0,
    ),
    Parameter('temperature_warn_c', 85.0, 'Temperature from which to warn.', '°C', 0.0, 150.0),
    Parameter('debounce_s', 2.0, 'How long a change must hold before it counts.', 's', 0.0, 60.0),
    Parameter('diagnostics_period_s', 1.0, 'Time between diagnostics.', 's', 0.1, 60.0),
)


class MonitorNode(Node):  # type: ignore[misc]  # rclpy is untyped where its types lag
    """Publishes `system_load`, `load_profile` and `/diagnostics`.

    A thread of its own samples and publishes, on the monotonic clock: the load of a real machine
    goes on while a simulated clock stands still. It is no rclpy timer, because one turn of a
    Python executor costs ten times as much as a sample. Stamps are of the node's clock.

    Attributes:
        failure: What ended the thread against all expectation; the program then ends with it.

    Raises:
        AnytimeError: A parameter cannot be used, or what it asks for is not on this machine.
    """

    def __init__(self, **node_arguments: object) -> None:
        """Start publishing; `node_arguments` go to rclpy's Node."""
        # What destroy_node needs comes first: from Kilted on, rclpy also destroys a node whose
        # construction failed.
        self._recorder: Recorder | None = None
        self._wake = threading.Event()
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name='monitor', daemon=True)
        super().__init__('monitor_node', **node_arguments)
        self._host = platform.node()
        self._load_publisher = self.create_publisher(SystemLoad, 'system_load', 10)
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._profile_publisher = self.create_publisher(LoadProfile, 'load_profile', latched)
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.failure: Exception | None = None
        self._monitor = Monitor([], self._warn)
        self._values: Values = {}
        # Made once: a message costs more to make than to fill.
        self._load_message = SystemLoad()
        self._profile_message = LoadProfile()
        self._profile_due_s = self._diagnostics_due_s = 0.0
        self._last_regime = Regime.UNKNOWN
        # Between the thread and the callback that changes parameters.
        self._lock = threading.Lock()
        self._take_over(declare(self, MONITOR_PARAMETERS))
        self.add_on_set_parameters_callback(self._on_parameters)
        self._thread.start()

    def destroy_node(self) -> None:
        """Stop sampling, finish the recording, if any, and leave."""
        self._is_stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._recorder:
            self._recorder.close()
        super().destroy_node()

    def _on_parameters(self, changes: list[RosParameter]) -> SetParametersResult:
        return validate(MONITOR_PARAMETERS, changes, self._accept)

    def _accept(self, changes: Values) -> None:
        try:
            with self._lock:
                self._take_over({**self._values, **changes})
        except MissingDependencyError as error:
            raise ConfigurationError(str(error)) from error
        self._wake.set()

    def _take_over(self, values: Values) -> None:
        """Put values into effect; what can fail comes first, so that a refusal changes nothing."""

        def changed(*names: str) -> bool:
            return any(self._values.get(name) != values[name] for name in names)

        monitor = self._monitor
        if changed(*_SOURCE_PARAMETERS):
            probes = find_probes(
                values['source'],
                report=self._warn,
                recorded_file=values['recorded_file'],
                synthetic_profile=values['synthetic_profile'],
            )
            monitor = Monitor(probes, self._warn)
        if changed('record_to_file'):
            path = values['record_to_file']
            recorder = Recorder(Path(path)) if path else None
            if self._recorder:
                self._recorder.close()
            self._recorder = recorder
        self._monitor = monitor
        if changed('window_s'):
            self._window = LoadWindow(values['window_s'])
        if changed(*_THRESHOLDS):
            self._judge = LoadJudge(Thresholds(**{name: values[name] for name in _THRESHOLDS}))
        self._values = values

    def _warn(self, text: str) -> None:
        self.get_logger().warning(text)

    def _run(self) -> None:
        due_s = time.monotonic()
        try:
            while not self._is_stopping:
                with self._lock:
                    now_s = time.monotonic()
                    period_s = 1.0 / self._values['rate_hz']
                    # A slower rate may have been set since this was planned, or a faster one.
                    due_s = min(due_s, now_s + period_s)
                    if now_s >= due_s:
                        self._tick(now_s)
                        due_s = max(due_s + period_s, now_s)
                self._wake.wait(due_s - time.monotonic())
                self._wake.clear()
        except Exception as error:  # noqa: BLE001  (main raises it again)
            # After Ctrl-C rclpy refuses to publish; that is no failure.
            if self.context.ok():
                self.failure = error

    def _tick(self, now_s: float) -> None:
        stamp = self.get_clock().now().to_msg()
        sample = self._monitor.sample(now_s)
        self._window.add(now_s, sample)
        regime = self._judge.update(sample, now_s)
        self._record(now_s, sample)
        _fill(self._load_message, sample, stamp, self._host)
        self._load_publisher.publish(self._load_message)
        if now_s >= self._profile_due_s or regime != self._last_regime:
            self._profile_due_s = now_s + _PROFILE_PERIOD_S
            self._last_regime = regime
            self._publish_profile(stamp, regime)
        if now_s >= self._diagnostics_due_s:
            self._diagnostics_due_s = now_s + self._values['diagnostics_period_s']
            self._publish_diagnostics(stamp, sample, regime)

    def _record(self, now_s: float, sample: LoadSample) -> None:
        if self._recorder is None:
            return
        try:
            self._recorder.write(now_s, sample)
        except OSError as error:
            # A full disk ends the recording, not the monitor.
            self._warn(f'the recording ends here: {error}; set record_to_file to a new file.')
            recorder, self._recorder = self._recorder, None
            # It tries to write what is left to the full disk, and closes the file all the same.
            with suppress(OSError):
                recorder.close()

    def _publish_profile(self, stamp: object, regime: Regime) -> None:
        statistics = self._window.statistics()
        message = self._profile_message
        message.header.stamp = stamp
        message.header.frame_id = self._host
        message.window_s = self._values['window_s']
        message.samples = statistics.samples
        message.regime = int(regime)
        message.regime_name = regime.name.lower()
        for name in ('mean', 'p50', 'p95', 'max'):
            _fill(getattr(message, name), getattr(statistics, name), stamp, self._host)
        self._profile_publisher.publish(message)

    def _publish_diagnostics(self, stamp: object, sample: LoadSample, regime: Regime) -> None:
        failing = self._monitor.failing
        warnings = (*self._judge.warnings, *(f'no answer from {probe}' for probe in failing))
        status = DiagnosticStatus(
            level=DiagnosticStatus.WARN if warnings else DiagnosticStatus.OK,
            name=f'{self.get_fully_qualified_name()}: system load',
            message='; '.join(warnings) or regime.name.lower(),
            hardware_id=self._host,
        )
        if not sample.source:
            status.level = DiagnosticStatus.ERROR
            status.message = '; '.join(('no probe tells the load', *warnings))
        known = {'regime': regime.name.lower(), 'source': sample.source}
        known |= {name: f'{getattr(sample, name):.4g}' for name in QUANTITIES}
        status.values = [KeyValue(key=key, value=value) for key, value in known.items()]
        message = DiagnosticArray(status=[status])
        message.header.stamp = stamp
        self._diagnostics_publisher.publish(message)


def _fill(message: SystemLoad, sample: LoadSample, stamp: object, host: str) -> None:
    message.header.stamp = stamp
    message.header.frame_id = host
    for name in QUANTITIES:
        setattr(message, name, getattr(sample, name))
    message.cpu_percent_per_core = array('f', sample.cpu_percent_per_core)
    message.source = sample.source


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is told to stop; exit codes as `run_nodes`."""
    return run_nodes('monitor_node', [MonitorNode], args)


if __name__ == '__main__':
    sys.exit(main())
