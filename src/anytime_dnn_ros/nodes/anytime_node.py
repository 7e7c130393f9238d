"""anytime_node: camera frames in, successively better predictions out, by the deadline."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter as RosParameter
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from anytime_dnn_ros.errors import AnytimeError, BundleError, ConfigurationError, ImageError
from anytime_dnn_ros.frames import Frame, FrameSummary, Prediction
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.msg import (
    AnytimePrediction,
    Deadline,
    FrameReport,
    LoadProfile,
    PerformanceProfile,
    SystemLoad,
)
from anytime_dnn_ros.nodes.anytime_diagnostics import NodeHealth, Serving, anytime_status
from anytime_dnn_ros.nodes.anytime_parameters import ANYTIME_PARAMETERS
from anytime_dnn_ros.nodes.camera_subscription import CameraSubscription
from anytime_dnn_ros.nodes.debug_image import draw_debug_image
from anytime_dnn_ros.nodes.engine_loading import build_node_engines, load_node_engine
from anytime_dnn_ros.nodes.frame_age import StampJudge
from anytime_dnn_ros.nodes.frame_budget import FrameBudget
from anytime_dnn_ros.nodes.goals import counted_on, goals_from
from anytime_dnn_ros.nodes.images import check_image, decode_compressed, decode_image
from anytime_dnn_ros.nodes.messages import (
    image_message,
    prediction_message,
    profile_message,
    report_message,
)
from anytime_dnn_ros.nodes.parameters import WHEN_WORDS, Values, declare, validate
from anytime_dnn_ros.nodes.program import run_nodes
from anytime_dnn_ros.planner import Planner
from anytime_dnn_ros.runner import Runner
from anytime_dnn_ros.serving import REFERENCE_FRAME_SHAPE, ServingPath
from anytime_dnn_ros.timing.load import LoadSignal, OwnShare
from anytime_dnn_ros.timing.profile_cache import (
    cache_folder,
    cached_reference_times,
    profile_key,
)
from anytime_dnn_ros.timing.realtime import (
    REFUSED_PRIORITY,
    leave_realtime_priority,
    take_realtime_priority,
)
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.timing.slowdown import UNKNOWN_REGIME
from anytime_dnn_ros.timing.timer import measure_timer_lateness

Transition = Callable[['AnytimeNode', LifecycleState], TransitionCallbackReturn]

WARN_PERIOD_S = 10.0
# How long stages are measured at activation, and while frames come in.
MEASURING_S, MEASURING_BETWEEN_FRAMES_S = 2.0, 0.5
# Parameters that an active node cannot take over.
LATER = ('configure', 'activate')
BUDGET_MS = next(p for p in ANYTIME_PARAMETERS if p.name == 'deadline_ms')
SENSOR_QOS = QoSProfile(
    depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT
)
LATCHED_QOS = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def guarded(
    method: Callable[[AnytimeNode, LifecycleState], None],
) -> Transition:
    """Makes a lifecycle callback that says why it failed: rclpy swallows what it raises."""

    @wraps(method)
    def transition(node: AnytimeNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            method(node, state)
        except AnytimeError as error:
            node.fault = str(error)
            node.get_logger().error(str(error))
        except Exception:  # noqa: BLE001 - rclpy would hide it
            node.fault = traceback.format_exc()
            node.get_logger().fatal(node.fault)
        else:
            node.fault = ''
            return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE

    return transition


def unless_shut_down(method: Callable[[AnytimeNode, Any], None]) -> Callable[[Any, Any], None]:
    """Makes a sink method that is silent once a signal has shut ROS down beneath it.

    rclpy's signal handler ends the context at once, while a frame may still be in the runner.
    """

    @wraps(method)
    def send(node: AnytimeNode, result: Any) -> None:
        try:
            method(node, result)
        except Exception:
            if node.context.ok():
                raise

    return send


class AnytimeNode(LifecycleNode):  # type: ignore[misc]  # rclpy is untyped here
    """Lifecycle: configure reads the bundle, activate loads and serves it, deactivate frees it.

    It is also the runner's `Sink`: those three methods run in the runner's threads.
    """

    def __init__(self, **kwargs: Any) -> None:
        # What stop() needs comes first: from Kilted on, rclpy also destroys a node whose
        # construction failed.
        self._active_things: list[tuple[Callable[[Any], Any], Any]] = []
        self._camera: CameraSubscription | None = None
        self._runner: Runner | None = None
        self._planner: Planner | None = None
        self._path: ServingPath | None = None
        super().__init__('anytime_node', **kwargs)
        self.fault = ''
        self.is_done = False
        self._values: Values = declare(self, ANYTIME_PARAMETERS)
        self.add_on_set_parameters_callback(self._on_set_parameters)
        self._bundle: Bundle | None = None
        self._labels: tuple[str, ...] = ()
        self._reference: ReferenceTimes | None = None
        # Whose stage times these are.
        self._library = ''
        self._judge = StampJudge(1.0)
        self._regime = UNKNOWN_REGIME
        self._own_share = OwnShare(monotonic(), process_time())
        self._health = NodeHealth()
        self._warned_s: dict[str, float] = {}
        self._budget = self._new_budget()
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        # It tells why a configure failed, so it runs before the first one.
        self._diagnostics_timer = self._new_diagnostics_timer()
        self._prediction: Any = None
        self._report: Any = None
        self._profile: Any = None
        self._debug_image: Any = None

    # Lifecycle

    @guarded
    def on_configure(self, state: LifecycleState) -> None:
        """Reads and checks the bundle and makes the publishers."""
        self._bundle = self._read_bundle()
        self._labels = self._read_labels(self._bundle)
        goals_from(self._values, self._bundle.quality)
        self.destroy_timer(self._diagnostics_timer)
        self._diagnostics_timer = self._new_diagnostics_timer()
        if not counted_on(self._bundle.quality):
            self.get_logger().info(
                f'bundle {self._bundle.manifest.name!r} has no accuracy counted on held-out data: '
                'expected_accuracy is published as NaN'
            )
        self._destroy_publishers()
        self._prediction = self.create_publisher(AnytimePrediction, '~/prediction', 10)
        self._report = self.create_publisher(FrameReport, '~/frame_report', 10)
        self._profile = self.create_publisher(
            PerformanceProfile, '~/performance_profile', LATCHED_QOS
        )
        self._debug_image = self.create_publisher(Image, '~/debug_image', 1)

    @guarded
    def on_activate(self, state: LifecycleState) -> None:
        """Loads the engine, measures its stage times and starts to serve."""
        try:
            self._activate()
        except BaseException:
            # Nothing half active stays behind.
            self.stop()
            raise

    def _activate(self) -> None:
        assert self._bundle is not None
        begun_s = monotonic()
        # The frame is resized to a few hundred pixels: OpenCV's own threads would only disturb.
        cv2.setNumThreads(1)
        engine = load_node_engine(
            self._bundle,
            self._values,
            warn=self.get_logger().warning,
            progress=self._tell_of_build,
        )
        self._path = ServingPath(self._bundle, engine, self._values['monotone'])
        priority = self._values['realtime_priority']
        # Not before: building an engine takes minutes. The executor's thread too: one that waits
        # for a core while it holds the interpreter keeps the two others waiting. They tell if it
        # is refused.
        take_realtime_priority(priority)
        self._reference, kept = self._reference_times(self._path)
        self._library = engine.info().library
        self._planner = Planner(
            self._reference,
            [stage.macs for stage in self._bundle.manifest.stages],
            can_cut=engine.info().can_cancel,
            threads=engine.info().threads,
            timer_late_s=measure_timer_lateness(),
        )
        self._runner = Runner(self._path, self._planner, self, realtime_priority=priority)
        self._own_share = OwnShare(monotonic(), process_time())
        self._regime = UNKNOWN_REGIME
        self._apply(self._values)
        self._health = NodeHealth(activated_s=monotonic())
        self._budget = self._new_budget()
        self._runner.start()
        self._subscribe()
        self._publish_profile()
        times = ', '.join(f'{1e3 * t:.1f}' for t in self._reference.median_s)
        info = engine.info()
        self.get_logger().info(
            f'{self._bundle.manifest.name!r} on {info.library} {info.version}, {info.device}, '
            f'{info.threads} thread(s); stages take {times} ms '
            f'({"kept from an earlier start" if kept else "measured now"}); active after '
            f'{monotonic() - begun_s:.1f} s{"; " + info.reason if info.reason else ""}'
        )

    def _reference_times(
        self, path: ServingPath, budget_s: float = MEASURING_S
    ) -> tuple[ReferenceTimes, bool]:
        """Stage times of the engine that serves, and whether they are kept ones.

        Called by the thread that runs the stages; takes about `budget_s` at most.
        """
        warn = self.get_logger().warning
        return cached_reference_times(
            partial(path.measure_reference_times, budget_s=budget_s),
            profile_key(path.bundle, path.engine.info(), REFERENCE_FRAME_SHAPE),
            cache_folder(self._values['cache_dir'], warn),
            say=warn,
        )

    def _tell_of_build(self, percent: float) -> None:
        self.get_logger().info(f'building engines: {percent:.0f} %')
        if self._runner is None:
            # The build keeps the executor, and with it the timer that would tell.
            self._publish_diagnostics(percent)

    @guarded
    def on_deactivate(self, state: LifecycleState) -> None:
        """Stops serving and frees the engine."""
        self.stop()

    @guarded
    def on_cleanup(self, state: LifecycleState) -> None:
        """Forgets the bundle."""
        self.stop()
        self._bundle = None
        self._destroy_publishers()

    @guarded
    def on_shutdown(self, state: LifecycleState) -> None:
        """Stops serving and frees the engine."""
        self.stop()

    def stop(self) -> None:
        """Stops serving and frees the engine; harmless if nothing runs."""
        for destroy, thing in self._active_things:
            destroy(thing)
        self._active_things.clear()
        if self._camera is not None:
            self._camera.destroy()
            self._camera = None
        if self._runner is not None:
            self._runner.stop()
            self._runner = self._planner = None
        if self._path is not None:
            self._path.engine.close()
            self._path = None
            leave_realtime_priority()

    def destroy_node(self) -> None:
        """Stops serving and leaves."""
        self.stop()
        super().destroy_node()

    def autostart(self) -> None:
        """Builds, or configures and activates, as the parameters say.

        Raises:
            AnytimeError: The engines that `build_only` asks for cannot be built.
        """
        if self._values['build_only']:
            info = build_node_engines(
                self._read_bundle(),
                self._values,
                warn=self.get_logger().warning,
                progress=self._tell_of_build,
            )
            stages = '; '.join(f'{s.name}: {s.precision}, {s.detail}' for s in info.stages)
            self.get_logger().info(
                f'the engines for {info.library} {info.version} on {info.device} are there: '
                f'{stages}'
            )
            self.is_done = True
            return
        if not self._values['autostart']:
            return
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    # Incoming

    def _subscribe(self) -> None:
        deadline = self.create_subscription(Deadline, '~/deadline', self._on_deadline, 10)
        load = self.create_subscription(SystemLoad, 'system_load', self._on_load, SENSOR_QOS)
        profile = self.create_subscription(
            LoadProfile, 'load_profile', self._on_load_profile, SENSOR_QOS
        )
        period_s = self._values['diagnostics_period_s']
        profile_timer = self._new_timer(period_s, self._publish_profile)
        self._active_things = [
            (self.destroy_subscription, deadline),
            (self.destroy_subscription, load),
            (self.destroy_subscription, profile),
            (self.destroy_timer, profile_timer),
        ]
        compressed = self._values['image_transport'] == 'compressed'
        self._camera = CameraSubscription(
            self,
            self._values['image_transport'],
            self._values['image_reliability'],
            self._on_compressed if compressed else self._on_image,
        )

    def _on_image(self, msg: Image) -> None:
        self._accept(msg, lambda: decode_image(msg), check_image)

    def _on_compressed(self, msg: CompressedImage) -> None:
        self._accept(msg, lambda: decode_compressed(msg), None)

    def _accept(
        self, msg: Any, decode: Callable[[], Any], check: Callable[[Any], None] | None
    ) -> None:
        """Puts a frame into the runner's slot, or counts why not."""
        received_s = monotonic()
        runner = self._runner
        if runner is None:
            return
        self._health.last_frame_s = received_s
        seq = runner.next_seq()
        if self._health.load.is_lost(received_s):
            runner.observe_load(None)
        try:
            if check is not None:
                check(msg)
            age_s = self._age_s(msg.header.stamp)
        except ImageError as error:
            runner.drop(error.kind, str(error))
            return
        # After the checks: a refused frame uses up nothing of a `Deadline` message.
        budget_s = self._budget.next_s()
        by_stamp = self._values['deadline_reference'] == 'stamp'
        runner.submit(
            Frame(
                seq=seq,
                decode=decode,
                received_s=received_s,
                age_at_receipt_s=age_s,
                budget_s=budget_s,
                due_s=received_s + budget_s - (max(0.0, age_s) if by_stamp else 0.0),
                header=msg.header,
            )
        )

    def _age_s(self, stamp: Any) -> float:
        """Age of a frame; NaN where the stamp is not to be believed and not needed."""
        now_ns = self.get_clock().now().nanoseconds
        # Not rclpy's Time, which raises on a stamp before 1970 and would end the node.
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec
        try:
            return self._judge.age_s(stamp_ns, now_ns)
        except ImageError:
            if self._values['deadline_reference'] == 'stamp':
                raise
            return float('nan')

    def _on_deadline(self, msg: Deadline) -> None:
        try:
            self._budget.override(msg.budget_ms, msg.frames)
        except ConfigurationError as error:
            self._health.deadlines_refused += 1
            self.on_fault('deadline_refused', str(error))
            return
        if self._runner is not None:
            self._runner.shorten(self._budget.present_s)

    def _new_budget(self) -> FrameBudget:
        low, high = BUDGET_MS.minimum, BUDGET_MS.maximum
        assert low is not None
        assert high is not None
        return FrameBudget(self._values['deadline_ms'], low, high)

    def _on_load(self, msg: SystemLoad) -> None:
        now_s = monotonic()
        self._health.load.hear_load(msg.cpu_percent, msg.cpu_freq_ratio, now_s)
        if self._runner is None:
            return
        if self._health.load.is_absurd(now_s):
            self._runner.observe_load(None)
            return
        self._runner.observe_load(
            LoadSignal(
                regime=self._regime,
                cpu_percent=msg.cpu_percent,
                own_cores=self._own_share.cores(now_s, process_time()),
                num_cores=len(msg.cpu_percent_per_core) or os.cpu_count() or 1,
                freq_ratio=msg.cpu_freq_ratio,
                throttled=msg.throttled,
            )
        )

    def _on_load_profile(self, msg: LoadProfile) -> None:
        self._health.load.hear_profile(msg.regime_name, monotonic())
        self._regime = msg.regime

    # Outgoing: the runner's sink

    @unless_shut_down
    def on_prediction(self, prediction: Prediction) -> None:
        """Publishes an answer."""
        message = prediction_message(prediction, self._labels, self._values['top_k'])
        self._prediction.publish(message)

    @unless_shut_down
    def on_frame(self, summary: FrameSummary) -> None:
        """Publishes a frame's report, and its picture while somebody looks."""
        runner = self._runner
        if runner is None:
            return
        self._health.margin = summary.margin
        self._report.publish(report_message(summary, runner.counters))
        if self._debug_image.get_subscription_count():
            assert self._bundle is not None
            label = self._labels[int(summary.answer.probabilities.argmax())]
            picture = draw_debug_image(summary, label, len(self._bundle.manifest.stages))
            self._debug_image.publish(image_message(picture, summary.frame.header))
        self._follow_engine()

    def _follow_engine(self) -> None:
        """Plans with the stage times of the library that serves, if another one has taken over.

        Called by the worker once a frame is answered; those that come meanwhile wait.
        """
        path, planner = self._path, self._planner
        if path is None or planner is None or path.engine.info().library == self._library:
            return
        info = path.engine.info()
        # First: if measuring fails, that is told once, and the planner learns from frames.
        self._library = info.library
        self._reference, _ = self._reference_times(path, MEASURING_BETWEEN_FRAMES_S)
        planner.use_engine(self._reference, can_cut=info.can_cancel, threads=info.threads)
        times = ', '.join(f'{1e3 * t:.1f}' for t in self._reference.median_s)
        self.get_logger().info(f'{info.library} has taken over; stages take {times} ms')

    def on_fault(self, kind: str, message: str) -> None:
        """Warns once per kind and period; the counters hold the rest."""
        if kind == REFUSED_PRIORITY:
            # Most machines refuse it, and the node works.
            self.get_logger().info(message)
            return
        now_s = self._health.last_fault_s = monotonic()
        if now_s - self._warned_s.get(kind, -WARN_PERIOD_S) >= WARN_PERIOD_S:
            self._warned_s[kind] = now_s
            self.get_logger().warning(f'{kind}: {message}')

    def _publish_profile(self) -> None:
        if self._planner is None or self._path is None or self._reference is None:
            return
        stamp = self.get_clock().now().to_msg()
        name = self._path.bundle.manifest.name
        self._profile.publish(
            profile_message(name, self._path, self._reference, self._planner.times, stamp)
        )

    def _new_diagnostics_timer(self) -> Any:
        return self._new_timer(self._values['diagnostics_period_s'], self._publish_diagnostics)

    def _new_timer(self, period_s: float, callback: Callable[[], None]) -> Any:
        """A timer that runs on also while a simulated clock stands still, or jumps."""
        return self.create_timer(period_s, callback, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _publish_diagnostics(self, build_percent: float | None = None) -> None:
        if self._camera is not None:
            self._health.camera_reliability = self._camera.reliability
        status = anytime_status(
            self._health, self._serving(), fault=self.fault, build_percent=build_percent
        )
        status.name = f'{self.get_fully_qualified_name()}: inference'
        array = DiagnosticArray(status=[status])
        array.header.stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(array)

    def _serving(self) -> Serving | None:
        if self._runner is None or self._planner is None or self._path is None:
            return None
        self._health.load.compare(self._planner.times.unexplained, monotonic())
        return Serving(
            self._runner.counters,
            self._path.engine.info(),
            self._planner.slowdown,
            self._planner.price,
            counted_on(self._path.bundle.quality),
            self._runner.drift.state(),
        )

    def _destroy_publishers(self) -> None:
        for publisher in (self._prediction, self._report, self._profile, self._debug_image):
            if publisher is not None:
                self.destroy_publisher(publisher)
        self._prediction = self._report = self._profile = self._debug_image = None

    # Parameters

    def _on_set_parameters(self, changes: list[RosParameter]) -> Any:
        return validate(ANYTIME_PARAMETERS, changes, self._take_over)

    def _take_over(self, changes: Values) -> None:
        later = [p for p in ANYTIME_PARAMETERS if p.name in changes and p.when in LATER]
        if later and self._runner is not None:
            raise ConfigurationError(
                f'parameter {later[0].name} cannot change while the node is active: it applies '
                f'{WHEN_WORDS[later[0].when]}, so deactivate the node (ros2 lifecycle set) first'
            )
        values = {**self._values, **changes}
        self._apply(values)
        is_shorter = values['deadline_ms'] < self._values['deadline_ms']
        self._values = values
        if is_shorter and self._runner is not None:
            self._runner.shorten(self._budget.present_s)

    def _apply(self, values: Values) -> None:
        """Hands the values that take effect at once to those who use them, or refuses all."""
        # First: it may refuse. Without a runner the bundle in hand need not be the one to come.
        if self._runner is not None and self._planner is not None and self._bundle is not None:
            self._planner.goals = goals_from(values, self._bundle.quality)
            self._runner.max_frame_age_s = 1e-3 * values['max_frame_age_ms']
            self._runner.publish_intermediate = values['publish_intermediate']
        self._judge.max_age_s = 1e-3 * values['max_frame_age_ms']
        self._budget.parameter_ms = values['deadline_ms']

    def _read_bundle(self) -> Bundle:
        try:
            return read_bundle(find_bundle(self._values['model']))
        except BundleError as error:
            raise ConfigurationError(
                f'parameter model = {self._values["model"]!r} cannot be used: {error}'
            ) from error

    def _read_labels(self, bundle: Bundle) -> tuple[str, ...]:
        path = self._values['labels_path']
        if not path:
            return bundle.labels
        try:
            labels = tuple(Path(path).expanduser().read_text(encoding='utf-8').splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(
                f'parameter labels_path = {path!r} cannot be read ({error}): give a text file'
            ) from error
        if len(labels) != bundle.manifest.num_classes:
            raise ConfigurationError(
                f'parameter labels_path = {path!r} has {len(labels)} lines, the bundle has '
                f'{bundle.manifest.num_classes} classes: give one name per line'
            )
        return labels


def started_anytime_node() -> AnytimeNode:
    """The node, configured and active if its parameters say so."""
    node = AnytimeNode()
    node.autostart()
    return node


def main(args: list[str] | None = None) -> int:
    """Runs the node until it is told to stop; exit codes as `run_nodes`."""
    return run_nodes('anytime_node', [started_anytime_node], args)


if __name__ == '__main__':
    sys.exit(main())
