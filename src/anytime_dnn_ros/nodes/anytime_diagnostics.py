"""What `/diagnostics` says of anytime_node."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from time import monotonic

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.frames import Counters
from anytime_dnn_ros.nodes.load_watch import LoadWatch
from anytime_dnn_ros.quality.drift import DriftState

CAMERA_TIMEOUT_S = 2.0
# One bad frame is no lasting fault: the status is good again after this time, the counters stay.
FAULT_TOLD_S = 10.0
NEVER_S = float('-inf')
UNKNOWN = float('nan')


@dataclass
class NodeHealth:
    """What the node has seen since it was activated; times on the monotonic clock.

    Attributes:
        margin: Safety factor on the expected time of one stage, with the last frame.
        deadlines_refused: `~/deadline` messages with an unusable budget.
        missed_told: Missed frames of which a message has told.
        forecast_told: Forecasts, likewise.
    """

    activated_s: float = 0.0
    last_frame_s: float = NEVER_S
    last_fault_s: float = NEVER_S
    load: LoadWatch = field(default_factory=LoadWatch)
    margin: float = UNKNOWN
    camera_reliability: str = 'none'
    deadlines_refused: int = 0
    missed_told: int = 0
    forecast_told: int = 0


@dataclass(frozen=True)
class Serving:
    """What serves the frames of an active node.

    Attributes:
        slowdown: Present over reference stage time.
        price: Expected accuracy that a whole ladder's compute has to bring, 0..1.
        declared: What the bundle's accuracy was counted on; empty if it declares none.
        drift: Of the confidences from those that the accuracy was counted on.
    """

    counters: Counters
    engine: EngineInfo
    slowdown: float
    price: float
    declared: str
    drift: DriftState


def anytime_status(
    health: NodeHealth,
    serving: Serving | None,
    *,
    fault: str,
    build_percent: float | None = None,
) -> DiagnosticStatus:
    """The node's status; its name is left to the node.

    Args:
        health: What the node has seen.
        serving: None while inactive.
        fault: Why the last lifecycle transition failed, empty if it did not.
        build_percent: How far engines are that are being built, 0..100; None if none are.
    """
    status = DiagnosticStatus(hardware_id=platform.node())
    if build_percent is not None:
        status.level, status.message = (
            DiagnosticStatus.OK,
            f'building engines: {build_percent:.0f} %',
        )
        status.values = [KeyValue(key='engine_build_percent', value=f'{build_percent:.0f}')]
        return status
    status.level, status.message = _verdict(health, serving, fault)
    if serving is not None:
        values = _values(health, serving)
        status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return status


def _values(health: NodeHealth, serving: Serving) -> dict[str, object]:
    counters, engine, drift = serving.counters, serving.engine, serving.drift
    return {
        'frames_received': counters.received,
        'frames_answered': counters.answered,
        'frames_forecast': counters.forecast,
        'frames_missed': counters.missed,
        'frames_dropped': counters.dropped_total,
        # A copy: the worker may count a new kind meanwhile.
        **{f'dropped_{kind}': n for kind, n in sorted(dict(counters.dropped).items())},
        'deadlines_refused': health.deadlines_refused,
        'slowdown': f'{serving.slowdown:.3f}',
        'margin': f'{health.margin:.3f}',
        'compute_price': f'{serving.price:.4f}',
        'accuracy_counted_on': serving.declared or 'nothing: none is declared',
        'confidence_drift': f'{drift.distance:.3f}',
        'confidence_drift_limit': f'{drift.threshold:.3f}',
        'engine': f'{engine.library} {engine.version} on {engine.device}',
        'engine_reason': engine.reason,
        'threads': engine.threads,
        **{f'stage_{s.name}': f'{s.precision}, {s.detail}' for s in engine.stages},
        'image_reliability': health.camera_reliability,
        'load_signal': health.load.word(monotonic()),
        'load_regime': health.load.regime_name,
        'cpu_percent': f'{health.load.cpu_percent:.1f}',
    }


def _verdict(health: NodeHealth, serving: Serving | None, fault: str) -> tuple[bytes, str]:
    if fault:
        return DiagnosticStatus.ERROR, fault.strip().splitlines()[-1]
    if serving is None:
        return DiagnosticStatus.OK, 'not active'
    warnings = list(filter(None, _warnings(health, serving)))
    if warnings:
        return DiagnosticStatus.WARN, '; '.join(warnings)
    return DiagnosticStatus.OK, 'answering'


def _warnings(health: NodeHealth, serving: Serving) -> tuple[str, ...]:
    """Whatever is wrong, the worst first; empty texts are no warnings."""
    now_s, counters = monotonic(), serving.counters
    silence_s = now_s - max(health.last_frame_s, health.activated_s)
    missed, health.missed_told = counters.missed - health.missed_told, counters.missed
    forecast, health.forecast_told = counters.forecast - health.forecast_told, counters.forecast
    bad = {kind: n for kind, n in dict(counters.dropped).items() if kind != 'replaced'}
    is_fresh = now_s - health.last_fault_s < FAULT_TOLD_S
    return (
        f'no camera frame for {silence_s:.0f} s' if silence_s > CAMERA_TIMEOUT_S else '',
        f'{missed} deadlines missed since the last message' if missed else '',
        f'{forecast} forecasts since the last message: no stage was done by the deadline: raise '
        'deadline_ms or take a smaller ladder'
        if forecast
        else '',
        'frames refused: ' + ', '.join(f'{kind} {n}' for kind, n in sorted(bad.items()))
        if bad and is_fresh
        else '',
        f'{serving.engine.library} serves in place of another engine: {serving.engine.reason}'
        if serving.engine.is_degraded
        else '',
        health.load.warning(now_s),
        f'confidences have drifted ({serving.drift.distance:.2f} over the limit of '
        f'{serving.drift.threshold:.2f}) from those that the accuracy was counted on: do not '
        'believe expected_accuracy, and calibrate the bundle on images from here'
        if serving.drift.drifted
        else '',
    )
