"""What `/diagnostics` says of anytime_node."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from time import monotonic

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from anytime_dnn_ros.engines.base import EngineInfo
from anytime_dnn_ros.runner import Counters

CAMERA_TIMEOUT_S = 2.0
# One bad frame is no lasting fault: the status is good again after this time, the counters stay.
FAULT_TOLD_S = 10.0
NEVER_S = float('-inf')
UNKNOWN = float('nan')


@dataclass
class NodeHealth:
    """What the node has seen since it was activated; times on the monotonic clock.

    Attributes:
        deadlines_refused: `~/deadline` messages with an unusable budget.
        missed_told: Missed frames of which a message has told.
    """

    activated_s: float = 0.0
    last_frame_s: float = NEVER_S
    last_load_s: float = NEVER_S
    last_fault_s: float = NEVER_S
    cpu_percent: float = UNKNOWN
    regime_name: str = 'unknown'
    camera_reliability: str = 'none'
    deadlines_refused: int = 0
    missed_told: int = 0

    def load_is_lost(self, timeout_s: float) -> bool:
        """Whether a monitor was there and has gone silent."""
        return self.last_load_s > NEVER_S and monotonic() - self.last_load_s > timeout_s


def anytime_status(
    health: NodeHealth,
    counters: Counters | None,
    *,
    fault: str,
    load_timeout_s: float,
    slowdown: float | None,
    engine: EngineInfo | None,
) -> DiagnosticStatus:
    """The node's status; its name is left to the node.

    Args:
        health: What the node has seen.
        counters: Frame counts, None while inactive.
        fault: Why the last lifecycle transition failed, empty if it did not.
        load_timeout_s: Silence after which the monitor counts as lost.
        slowdown: Present over reference stage time, None while inactive.
        engine: What runs the stages, None while inactive.
    """
    status = DiagnosticStatus(hardware_id=platform.node())
    status.level, status.message = _verdict(health, counters, fault, load_timeout_s)
    values: dict[str, object] = {}
    if counters is not None and engine is not None:
        values = {
            'frames_received': counters.received,
            'frames_answered': counters.answered,
            'frames_missed': counters.missed,
            'frames_dropped': counters.dropped_total,
            **{f'dropped_{kind}': n for kind, n in sorted(counters.dropped.items())},
            'deadlines_refused': health.deadlines_refused,
            'slowdown': f'{slowdown:.3f}',
            'engine': f'{engine.library} {engine.version} on {engine.device}',
            'threads': engine.threads,
            **{f'stage_{s.name}': f'{s.precision}, {s.detail}' for s in engine.stages},
            'image_reliability': health.camera_reliability,
            'load_signal': _load_signal(health, load_timeout_s),
            'load_regime': health.regime_name,
            'cpu_percent': f'{health.cpu_percent:.1f}',
        }
    status.values = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
    return status


def _load_signal(health: NodeHealth, timeout_s: float) -> str:
    if health.load_is_lost(timeout_s):
        return 'lost'
    return 'none' if health.last_load_s == NEVER_S else 'ok'


def _verdict(
    health: NodeHealth, counters: Counters | None, fault: str, load_timeout_s: float
) -> tuple[bytes, str]:
    if fault:
        return DiagnosticStatus.ERROR, fault.strip().splitlines()[-1]
    if counters is None:
        return DiagnosticStatus.OK, 'not active'
    silence_s = monotonic() - max(health.last_frame_s, health.activated_s)
    if silence_s > CAMERA_TIMEOUT_S:
        return DiagnosticStatus.WARN, f'no camera frame for {silence_s:.0f} s'
    if health.load_is_lost(load_timeout_s):
        return DiagnosticStatus.WARN, 'the monitor has gone silent: its load regime is not used'
    return _frames_verdict(health, counters)


def _frames_verdict(health: NodeHealth, counters: Counters) -> tuple[bytes, str]:
    missed, health.missed_told = counters.missed - health.missed_told, counters.missed
    if missed:
        return DiagnosticStatus.WARN, f'{missed} deadlines missed since the last message'
    # A copy: the worker may count a new kind meanwhile.
    bad = {kind: n for kind, n in dict(counters.dropped).items() if kind != 'replaced'}
    if bad and monotonic() - health.last_fault_s < FAULT_TOLD_S:
        return DiagnosticStatus.WARN, 'frames refused: ' + ', '.join(
            f'{kind} {n}' for kind, n in sorted(bad.items())
        )
    return DiagnosticStatus.OK, 'answering'
