"""Recorded runs made by hand: every time in them is known."""

from dataclasses import replace

import numpy as np

from anytime_dnn_ros.bench.policies import Ladder
from anytime_dnn_ros.bench.trace import FrameTrace, Judged, Recording
from anytime_dnn_ros.timing.load import LoadSignal
from anytime_dnn_ros.timing.reference import ReferenceTimes

CLASSES = 3
ACCURACIES = (0.5, 0.7, 0.9)
# Whole powers of two in seconds add up exactly.
STAGE_S, FIT_S, PUBLISH_S, LATE_S = 2**-8, 2**-10, 2**-13, 2**-12
PERIOD_S = 2**-4


def judged(stage, *, named=0):
    return Judged(
        named=named,
        confidence=ACCURACIES[stage],
        newest_named=named,
        newest_confidence=ACCURACIES[stage],
        expected_accuracy=ACCURACIES[stage],
        expected_later=ACCURACIES[stage + 1 :],
    )


def frame(index=0, *, stage_s=(STAGE_S,) * 3, label=0, named=(0, 0, 0), period_s=PERIOD_S):
    return FrameTrace(
        arrival_s=index * period_s,
        fit_s=FIT_S,
        stage_s=stage_s,
        publish_s=PUBLISH_S,
        timer_late_s=LATE_S,
        label=label,
        judged=tuple(judged(k, named=n) for k, n in enumerate(named)),
    )


def recording(frames, *, can_cut=True, **changes):
    samples = np.full((4, 3), STAGE_S)
    made = Recording(
        bundle='by hand',
        num_classes=CLASSES,
        load='step',
        onset_s=None,
        loaded_s=(),
        rate_hz=1 / PERIOD_S,
        ladder=Ladder(ReferenceTimes(samples), (1.0, 1.0, 1.0), can_cut),
        frames=tuple(frames),
        note='made for a test',
    )
    return replace(made, **changes)


def noisy_recording(count=400, seed=1):
    """Load from a third on: stages two to five times as slow, with a long tail."""
    random = np.random.default_rng(seed)
    frames = []
    onset = count // 3
    for index in range(count):
        slow = random.uniform(2, 5) if index >= onset else 1.0
        tail = 10.0 if random.random() < 0.02 else 1.0
        times = STAGE_S * slow * tail * random.uniform(0.9, 1.2, 3)
        frames.append(frame(index, stage_s=tuple(map(float, times))))
    loads = tuple(
        (0.1 * i, LoadSignal(regime=3 if i > 8 else 1, cpu_percent=90.0 if i > 8 else 10.0))
        for i in range(int(10 * count * PERIOD_S))
    )
    begin_s, end_s = onset * PERIOD_S, count * PERIOD_S
    return recording(frames, onset_s=begin_s, loaded_s=((begin_s, end_s),), loads=loads)
