"""The debug image: a forecast does not look like an answer to the frame."""

from types import SimpleNamespace

import numpy as np

from anytime_dnn_ros.ladder.answer import Answer
from anytime_dnn_ros.nodes.debug_image import AMBER, GREEN, RED, draw_debug_image
from anytime_dnn_ros.planner import StopReason


def picture(stage, *, missed=False):
    summary = SimpleNamespace(
        image=np.zeros((240, 320, 3), np.uint8),
        color_order='rgb',
        answer=Answer(stage, np.array([0.9, 0.1], np.float32), 0.9),
        is_forecast=stage == 0,
        stages_run=stage,
        stop_reason=StopReason.FORECAST if stage == 0 else StopReason.FINISHED,
        deadline_missed=missed,
        budget_s=0.05,
        slack_s=-0.001 if missed else 0.001,
        slowdown=1.0,
    )
    return draw_debug_image(summary, 'dress', num_stages=3)


def has(image, color):
    return bool((image == np.array(color, np.uint8)).all(-1).any())


def test_an_answer_is_green_a_forecast_amber_and_a_miss_red():
    shown = [picture(3), picture(0), picture(3, missed=True), picture(0, missed=True)]
    colors = [[c for c in (GREEN, AMBER, RED) if has(image, c)] for image in shown]
    assert colors == [[GREEN], [AMBER], [RED], [RED]]
    assert {image.shape for image in shown} == {shown[0].shape}


def test_a_forecast_names_itself_before_the_class():
    label_row = slice(240, 266)
    answer, forecast = picture(3)[label_row, :250], picture(0)[label_row, :250]
    assert (forecast > 0).sum() > 1.5 * (answer > 0).sum()
