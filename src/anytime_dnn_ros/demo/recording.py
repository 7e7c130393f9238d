"""What was seen of one run, and the figures that follow from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Answer:
    """One AnytimePrediction as it was received.

    Attributes:
        at_s: When it was received, seconds since the recording began.
        photo: Name of the photo the camera showed.
        stage: Stage the answer comes from, from 1; 0 is a forecast.
        label: Best class.
        confidence: Of the best class, 0..1.
        elapsed_ms: From the node's receipt of the frame to the answer.
        age_ms: From the image's stamp to the answer.
    """

    at_s: float
    frame_seq: int
    photo: str
    stage: int
    num_stages: int
    is_final: bool
    label: str
    confidence: float
    elapsed_ms: float
    age_ms: float


@dataclass(frozen=True)
class Frame:
    """One FrameReport as it was received; times in the units of their names.

    Attributes:
        stages_run: 0 for a frame that only a forecast answered.
    """

    at_s: float
    frame_seq: int
    photo: str
    stages_run: int
    deadline_missed: bool
    slack_ms: float
    queue_ms: float
    infer_ms: float
    total_ms: float
    frames_received: int
    frames_dropped: int


@dataclass(frozen=True)
class Load:
    """One SystemLoad as it was received; NaN where the machine cannot tell."""

    at_s: float
    cpu_percent: float
    psi_cpu_some10: float


@dataclass
class Recording:
    """Everything seen in a run, in the order of arrival.

    Attributes:
        deadline_ms: Time for one frame.
        burst_s: Begin and end of the burst of load, seconds since the recording began.
    """

    deadline_ms: float
    answers: list[Answer] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    burst_s: tuple[float, float] | None = None

    def in_burst(self, at_s: float) -> bool:
        """Whether the machine was loaded by the demo then."""
        return self.burst_s is not None and self.burst_s[0] <= at_s < self.burst_s[1]


@dataclass(frozen=True)
class PhotoAnswer:
    """What the network said to one photo.

    Attributes:
        label: Most frequent final label.
        share: Of the photo's frames that got this label, 0..1.
        confidence: Mean confidence of those answers, 0..1.
        frames: Frames of this photo that were answered.
    """

    label: str
    share: float
    confidence: float
    frames: int


def answers_by_photo(recording: Recording) -> dict[str, PhotoAnswer]:
    """The most frequent final label of each photo, in the order they were shown."""
    finals: dict[str, list[Answer]] = defaultdict(list)
    for answer in recording.answers:
        if answer.is_final:
            finals[answer.photo].append(answer)
    table = {}
    for photo, answers in finals.items():
        label, times = Counter(a.label for a in answers).most_common(1)[0]
        confidence = np.mean([a.confidence for a in answers if a.label == label])
        table[photo] = PhotoAnswer(label, times / len(answers), float(confidence), len(answers))
    return table


def summarize(recording: Recording, **measured_outside: Any) -> dict[str, Any]:
    """The figures of `summary.json`; None where nothing was seen to count.

    Args:
        recording: The run.
        measured_outside: `frames_published`, `node_rss_mb`, `monitor_cpu_percent`, `versions`.
    """
    finals = [a for a in recording.answers if a.is_final]
    frames = recording.frames
    missed = sum(f.deadline_missed for f in frames)
    first_ms = [a.elapsed_ms for a in recording.answers if a.stage == 1]
    # The first stage of a forecast frame ends after its answer.
    overhead_ms = [f.total_ms - f.infer_ms - f.queue_ms for f in frames if f.stages_run]
    age_ms = [a.age_ms for a in finals]
    return {
        'frames_published': measured_outside['frames_published'],
        'frames_received': max((f.frames_received for f in frames), default=0),
        'frames_answered': len({a.frame_seq for a in recording.answers}),
        'predictions': len(recording.answers),
        'finals': len(finals),
        'forecasts': sum(a.stage == 0 for a in finals),
        'deadline_ms': recording.deadline_ms,
        'missed': missed,
        'miss_rate': _rounded(missed / len(frames)) if frames else None,
        'stages_mean': _rounded(np.mean([f.stages_run for f in frames])) if frames else None,
        'age_p50_ms': _percentile(age_ms, 50),
        'age_p99_ms': _percentile(age_ms, 99),
        'first_answer_p50_ms': _percentile(first_ms, 50),
        'overhead_p50_ms': _percentile(overhead_ms, 50),
        'labels': {photo: a.label for photo, a in answers_by_photo(recording).items()},
        'node_rss_mb': measured_outside['node_rss_mb'],
        'monitor_cpu_percent': measured_outside['monitor_cpu_percent'],
        'versions': measured_outside['versions'],
    }


def _percentile(values: Iterable[float], percent: float) -> float | None:
    known = np.asarray(list(values), float)
    known = known[np.isfinite(known)]
    return _rounded(np.percentile(known, percent)) if known.size else None


def _rounded(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
