"""The runner's values as ROS messages."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from anytime_dnn_ros.frames import Counters, FrameSummary, Prediction
from anytime_dnn_ros.ladder.answer import top_classes
from anytime_dnn_ros.msg import (
    AnytimePrediction,
    ClassScore,
    FrameReport,
    PerformanceProfile,
    StageProfile,
)
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.timing.slowdown import StageTimes


def prediction_message(
    prediction: Prediction, labels: tuple[str, ...], top_k: int
) -> AnytimePrediction:
    """One answer, with its `top_k` best classes."""
    return AnytimePrediction(
        header=prediction.frame.header,
        frame_seq=prediction.frame.seq,
        stage=prediction.answer.stage,
        num_stages=prediction.num_stages,
        is_final=prediction.is_final,
        stop_reason=int(prediction.stop_reason),
        scores=[
            ClassScore(class_id=str(index), name=labels[index], score=score)
            for index, score in top_classes(prediction.answer, top_k)
        ],
        confidence=prediction.answer.confidence,
        label_set=prediction.judgement.label_set,
        expected_accuracy=prediction.judgement.expected_accuracy,
        expected_gain=prediction.expected_gain,
        elapsed_ms=1e3 * prediction.elapsed_s,
        age_ms=1e3 * prediction.age_s,
        deadline_ms=1e3 * prediction.budget_s,
        slack_ms=1e3 * prediction.slack_s,
    )


def report_message(summary: FrameSummary, counters: Counters) -> FrameReport:
    """The times of one frame."""
    return FrameReport(
        header=summary.frame.header,
        frame_seq=summary.frame.seq,
        queue_ms=1e3 * summary.queue_s,
        preprocess_ms=1e3 * summary.preprocess_s,
        infer_ms=1e3 * summary.infer_s,
        publish_ms=1e3 * summary.publish_s,
        total_ms=1e3 * summary.total_s,
        age_ms=1e3 * summary.age_s,
        deadline_ms=1e3 * summary.budget_s,
        slack_ms=1e3 * summary.slack_s,
        stages_run=summary.stages_run,
        deadline_missed=summary.deadline_missed,
        slowdown=summary.slowdown,
        margin=summary.margin,
        confidence=summary.answer.confidence,
        expected_accuracy=summary.judgement.expected_accuracy,
        frames_received=counters.received,
        frames_dropped=counters.dropped_total,
        frames_missed=counters.missed,
        frames_forecast=counters.forecast,
    )


def profile_message(
    model: str, path: ServingPath, reference: ReferenceTimes, times: StageTimes, stamp: Any
) -> PerformanceProfile:
    """Quality against time of each stage, under the present slowdown."""
    message = PerformanceProfile(model=model, engine=path.engine.info().library)
    message.header.stamp = stamp
    cumulative_ms = 0.0
    for index, stage in enumerate(path.bundle.manifest.stages):
        expected_ms = 1e3 * times.expected_s(index, index)
        reference_ms = 1e3 * float(reference.median_s[index])
        cumulative_ms += expected_ms
        message.stages.append(
            StageProfile(
                name=stage.name,
                precision=stage.precision,
                macs=float(stage.macs),
                expected_time_ms=expected_ms,
                reference_time_ms=reference_ms,
                time_p99_ms=1e3 * float(reference.p99_s[index]) * expected_ms / reference_ms,
                cumulative_time_ms=cumulative_ms,
                expected_accuracy=path.expected_accuracy(index + 1),
            )
        )
    return message


def image_message(bgr: NDArray[np.uint8], header: Any) -> Image:
    """A bgr8 picture, uint8 [H, W, 3]."""
    data = array('B')
    # Thirty times faster than assigning bytes, which rclpy checks one by one.
    data.frombytes(np.ascontiguousarray(bgr).data)
    return Image(
        header=header,
        height=bgr.shape[0],
        width=bgr.shape[1],
        encoding='bgr8',
        step=bgr.shape[1] * 3,
        data=data,
    )
