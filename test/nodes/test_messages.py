"""The runner's values as messages: seconds become milliseconds, names and numbers stay."""

import math

import numpy as np
import pytest
from std_msgs.msg import Header

from anytime_dnn_ros.engines.factory import load_engine
from anytime_dnn_ros.frames import Counters, Frame, FrameSummary, Prediction
from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.msg import AnytimePrediction
from anytime_dnn_ros.nodes.messages import (
    image_message,
    prediction_message,
    profile_message,
    report_message,
)
from anytime_dnn_ros.planner import StopReason
from anytime_dnn_ros.quality.judge import Judgement
from anytime_dnn_ros.serving import ServingPath
from anytime_dnn_ros.timing.reference import ReferenceTimes
from anytime_dnn_ros.timing.slowdown import StageTimes
from ladders import LABELS, make_ladder

HEADER = Header(frame_id='camera')
ANSWER = Answer(2, np.array([0.2, 0.7, 0.1], np.float32), 0.7)
JUDGEMENT = Judgement(ANSWER, ANSWER, 0.6, (math.nan,), (1, 0))
FRAME = Frame(
    seq=41,
    decode=lambda: None,
    received_s=1.0,
    age_at_receipt_s=0.01,
    budget_s=0.1,
    due_s=1.09,
    header=HEADER,
)
PREDICTION = Prediction(
    frame=FRAME,
    judgement=JUDGEMENT,
    num_stages=3,
    is_final=True,
    stop_reason=StopReason.DEADLINE,
    budget_s=0.1,
    elapsed_s=0.05,
    age_s=0.06,
    slack_s=0.04,
)


def test_a_prediction_keeps_the_header_and_turns_seconds_into_milliseconds():
    msg = prediction_message(PREDICTION, LABELS, top_k=2)
    assert msg.header == HEADER
    assert (msg.frame_seq, msg.stage, msg.num_stages, msg.is_final) == (41, 2, 3, True)
    assert [(s.class_id, s.name) for s in msg.scores] == [('1', 'green'), ('0', 'red')]
    assert [s.score for s in msg.scores] == pytest.approx([0.7, 0.2])
    assert (msg.confidence, msg.expected_accuracy) == pytest.approx((0.7, 0.6))
    assert math.isnan(msg.expected_gain)
    assert list(msg.label_set) == [1, 0]
    times = (msg.elapsed_ms, msg.age_ms, msg.deadline_ms, msg.slack_ms)
    assert times == pytest.approx((50, 60, 100, 40))


def test_stop_reasons_are_the_constants_of_the_message():
    constants = {
        name.removeprefix('STOP_'): getattr(AnytimePrediction, name)
        for name in dir(AnytimePrediction)
        if name.startswith('STOP_')
    }
    assert constants == {reason.name: reason.value for reason in StopReason}


def test_a_report_is_in_milliseconds_and_counts_frames():
    summary = FrameSummary(
        frame=FRAME,
        image=np.zeros((1, 1, 3), np.uint8),
        color_order='rgb',
        judgement=JUDGEMENT,
        stop_reason=StopReason.DEADLINE,
        queue_s=0.001,
        preprocess_s=0.002,
        infer_s=0.003,
        publish_s=0.004,
        total_s=0.01,
        age_s=0.02,
        slack_s=-0.03,
        cut_to_result_s=math.nan,
        budget_s=0.1,
        deadline_missed=True,
        slowdown=1.5,
        margin=1.25,
    )
    counters = Counters(received=9, answered=5, forecast=1, missed=2)
    counters.dropped.update({'replaced': 3, 'stale': 1})
    msg = report_message(summary, counters)
    assert msg.header == HEADER
    assert (msg.frame_seq, msg.stages_run, msg.deadline_missed) == (41, 2, True)
    parts = (msg.queue_ms, msg.preprocess_ms, msg.infer_ms, msg.publish_ms)
    assert parts == pytest.approx((1, 2, 3, 4))
    whole = (msg.total_ms, msg.age_ms, msg.deadline_ms, msg.slack_ms)
    assert whole == pytest.approx((10, 20, 100, -30))
    assert (msg.slowdown, msg.margin) == (1.5, 1.25)
    assert (msg.confidence, msg.expected_accuracy) == pytest.approx((0.7, 0.6))
    assert (msg.frames_received, msg.frames_dropped, msg.frames_missed) == (9, 4, 2)
    assert msg.frames_forecast == 1


def test_the_profile_adds_up_expected_times_under_the_present_slowdown(tmp_path):
    bundle = make_ladder(tmp_path / 'colours')
    path = ServingPath(bundle, load_engine(bundle))
    reference = ReferenceTimes(np.array([[0.001, 0.002, 0.003]] * 4))
    times = StageTimes(reference)
    for _ in range(100):
        times.begin_frame()
        times.observe(0, 0.002, 0.01)
    msg = profile_message('colours', path, reference, times, HEADER.stamp)
    assert (msg.model, msg.engine) == ('colours', 'onnxruntime')
    assert [s.name for s in msg.stages] == ['exit1', 'exit2', 'exit3']
    assert [s.reference_time_ms for s in msg.stages] == pytest.approx([1, 2, 3])
    assert [s.expected_time_ms for s in msg.stages] == pytest.approx([2, 4, 6])
    assert [s.cumulative_time_ms for s in msg.stages] == pytest.approx([2, 6, 12])
    assert [s.time_p99_ms for s in msg.stages] == pytest.approx([2, 4, 6])
    assert [s.macs for s in msg.stages] == [s.macs for s in bundle.manifest.stages]
    assert {s.precision for s in msg.stages} == {'float32'}


def test_a_stage_that_always_takes_more_has_a_longer_tail_too(tmp_path):
    bundle = make_ladder(tmp_path / 'colours')
    path = ServingPath(bundle, load_engine(bundle))
    reference = ReferenceTimes(np.array([[0.001, 0.002, 0.003]] * 4))
    times = StageTimes(reference)
    for _ in range(100):
        times.begin_frame()
        for stage, took_s in enumerate((0.003, 0.002, 0.003)):
            times.observe(stage, took_s, 0.01)
    msg = profile_message('colours', path, reference, times, HEADER.stamp)
    assert msg.stages[0].expected_time_ms > 2
    for stage in msg.stages:
        assert stage.time_p99_ms == pytest.approx(stage.expected_time_ms)


def test_a_picture_goes_out_whole_even_if_it_is_a_view():
    picture = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)[:, ::2]
    msg = image_message(picture, HEADER)
    assert (msg.height, msg.width, msg.step, msg.encoding) == (4, 3, 9, 'bgr8')
    np.testing.assert_array_equal(np.frombuffer(msg.data, np.uint8).reshape(4, 3, 3), picture)
