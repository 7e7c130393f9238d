"""The figures of passes, one row each; a row's keys are what other programs rely on."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from math import isnan
from typing import Any

import numpy as np

from anytime_dnn_ros.bench.outcome import FrameOutcome, Pass, Published
from anytime_dnn_ros.bench.policies import ORACLE

# A filter needs some frames, and a load some milliseconds: counted apart.
SETTLING_S = 2.0
MS, MICROSECONDS = 1e3, 1e6
WHAT_IS_COUNTED = (
    'A frame counts as missed if no answer of a stage was out by its deadline: a forecast, a late '
    'answer, none at all. A frame that a newer one replaced while it waited counts as dropped, '
    'not as missed. Steady state is every frame but those of the first '
    f'{SETTLING_S:g} s of a run and of the first {SETTLING_S:g} s after load first comes on; all '
    'figures are of the steady state, except where they say otherwise. Accuracy per frame counts '
    'a missed frame as wrong; streaming accuracy compares, as each camera frame comes, the newest '
    'answer with the truth of that moment.'
)


def row(one: Pass) -> dict[str, Any]:
    """The figures of a pass: shares as 0..1, None where there is nothing to count."""
    steady = [f for f in one.frames if _is_steady(f, one.onset_s)]
    had_turn = [f for f in steady if not f.replaced]
    finals = [f.final for f in had_turn if f.final is not None]
    ages_ms = [MS * (f.final.at_s - f.arrival_s) for f in had_turn if f.final is not None]
    age_p50_ms, age_p99_ms = _percentile(ages_ms, 50), _percentile(ages_ms, 99)
    cuts_ms = [MS * f.cut_to_result_s for f in steady if not isnan(f.cut_to_result_s)]
    per_frame = _share(f.right for f in had_turn)
    return {
        'load': one.load,
        'deadline_ms': one.deadline_ms,
        'policy': one.policy,
        'frames': len(one.frames),
        'frames_counted': len(had_turn),
        'miss_rate': _share(not f.in_time for f in had_turn),
        'miss_rate_first_2s': _first_after_onset(one),
        'accuracy': per_frame,
        'accuracy_per_frame': per_frame,
        'accuracy_streaming': _streaming(one),
        'declared_accuracy': _mean([f.published[-1].declared for f in had_turn if f.in_time]),
        'accuracy_of_declared': _share(f.right for f in had_turn if f.in_time),
        'stages_mean': _mean([float(p.stage) for p in finals]),
        'stages_share': _stages_share(had_turn),
        'age_p50_ms': age_p50_ms,
        'age_p99_ms': age_p99_ms,
        'p99_over_p50': age_p99_ms / age_p50_ms if age_p50_ms and age_p99_ms else None,
        'cancel_to_result_ms': {
            'p50': _percentile(cuts_ms, 50),
            'p99': _percentile(cuts_ms, 99),
            'count': len(cuts_ms),
        },
        'monotone_violations': sum(f.declared_fell for f in one.frames),
        'energy_j': one.energy_j,
        'forecast_rate': _share(f.final is not None and f.final.stage == 0 for f in had_turn),
        'dropped_rate': _share(bool(f.dropped) for f in steady),
        'decision_us': {
            'p50': _percentile([MICROSECONDS * s for s in one.decision_s], 50),
            'p99': _percentile([MICROSECONDS * s for s in one.decision_s], 99),
        },
        'load_by_others_percent': one.others_percent,
        'decisions_sha256': (
            hashlib.sha256('\n'.join(one.decisions).encode()).hexdigest()
            if one.decisions
            else None
        ),
    }


def _is_steady(frame: FrameOutcome, onset_s: float | None) -> bool:
    after_onset = onset_s is not None and 0 <= frame.arrival_s - onset_s < SETTLING_S
    return frame.arrival_s >= SETTLING_S and not after_onset


def _first_after_onset(one: Pass) -> float | None:
    onset_s = one.onset_s
    if onset_s is None:
        return None
    first = [f for f in one.frames if 0 <= f.arrival_s - onset_s < SETTLING_S]
    return _share(not f.in_time for f in first if not f.replaced)


def _streaming(one: Pass) -> float | None:
    """At each camera frame of the steady state: is the newest answer that of this moment?

    The newest answer is that of the newest frame that has one, and of these the last.
    """
    published: list[tuple[float, float, Published]] = sorted(
        ((p.at_s, f.arrival_s, p) for f in one.frames for p in f.published),
        key=lambda item: item[:2],
    )
    times = [at_s for at_s, _, _ in published]
    right = []
    for frame in one.frames:
        if not _is_steady(frame, one.onset_s):
            continue
        count = bisect_right(times, frame.arrival_s)
        right.append(count > 0 and published[count - 1][2].named == frame.label)
    return _share(right)


def _stages_share(frames: Sequence[FrameOutcome]) -> dict[str, float]:
    """Share of frames by the stage of their final answer; 0 = a forecast, or none."""
    counts = Counter(0 if f.final is None else f.final.stage for f in frames)
    return {str(stage): counts[stage] / len(frames) for stage in sorted(counts)}


def _share(values: Any) -> float | None:
    known = list(values)
    return sum(known) / len(known) if known else None


def _mean(values: Sequence[float]) -> float | None:
    known = [v for v in values if not isnan(v)]
    return sum(known) / len(known) if known else None


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None


def with_oracle(passes: Sequence[Pass], source: str) -> list[dict[str, Any]]:
    """The rows of passes, each with its accuracy as a share of the oracle's.

    Args:
        passes: Of one bench; the oracle is that of the same load and deadline.
        source: `live`, `ros` or `replayed`; the oracle's rows are always replayed.
    """
    rows = [row(one) for one in passes]
    oracle = {(r['load'], r['deadline_ms']): r['accuracy'] for r in rows if r['policy'] == ORACLE}
    for r in rows:
        best = oracle.get((r['load'], r['deadline_ms']))
        known = best and r['accuracy'] is not None
        r['share_of_oracle'] = r['accuracy'] / best if known else None
        r['source'] = 'replayed' if r['policy'] == ORACLE else source
    return rows
