"""The frame as a person wants to see it: its label, how sure, how far, and with what slack."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from anytime_dnn_ros.frames import FrameSummary
from anytime_dnn_ros.ladder.frame_fit import CONVERSIONS

MAX_WIDTH = 640
PANEL_HEIGHT, MARGIN, BAR_HEIGHT = 70, 10, 12
FONT = cv2.FONT_HERSHEY_SIMPLEX
WHITE, GREY, GREEN, RED = (255, 255, 255), (110, 110, 110), (80, 200, 80), (60, 60, 230)
AMBER = (60, 180, 240)


def draw_debug_image(summary: FrameSummary, label: str, num_stages: int) -> NDArray[np.uint8]:
    """Draws a finished frame.

    Args:
        summary: The frame, its answer and its times.
        label: Name of the most likely class.
        num_stages: Stages of the ladder; the bar has one field for each.

    Returns:
        bgr8, uint8 [H + panel, W, 3], at most 640 wide.
    """
    image = summary.image
    if summary.color_order == 'gray':
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    elif summary.color_order == 'rgb':
        # Swapping red and blue is the same either way.
        image = np.asarray(cv2.cvtColor(image, CONVERSIONS['bgr', 'rgb']), np.uint8)
    rows, columns = image.shape[:2]
    width = min(columns, MAX_WIDTH)
    height = max(1, round(rows * width / columns))
    canvas = np.zeros((height + PANEL_HEIGHT, width, 3), np.uint8)
    canvas[:height] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)

    color = GREEN
    if summary.is_forecast:
        # Not seen in this frame: the answer to earlier ones.
        label, color = f'forecast: {label}', AMBER
    if summary.deadline_missed:
        color = RED
    first_line, second_line = height + 22, height + 44
    confidence = f'{100 * summary.answer.confidence:.0f} %'
    cv2.putText(canvas, label, (MARGIN, first_line), FONT, 0.6, WHITE, 1, cv2.LINE_AA)
    _put_right(canvas, confidence, first_line, WHITE)
    state = 'MISSED' if summary.deadline_missed else 'slack'
    times = (
        f'{state} {1e3 * summary.slack_s:.1f} ms of {1e3 * summary.budget_s:.0f} ms   '
        f'{summary.stop_reason.name.lower()}   slowdown {summary.slowdown:.2f}'
    )
    cv2.putText(canvas, times, (MARGIN, second_line), FONT, 0.45, color, 1, cv2.LINE_AA)
    _put_right(canvas, f'stage {summary.stages_run}/{num_stages}', second_line, color)
    top = height + PANEL_HEIGHT - BAR_HEIGHT - 5
    field = (width - 2 * MARGIN) / num_stages
    for stage in range(num_stages):
        left, right = MARGIN + round(stage * field), MARGIN + round((stage + 1) * field) - 3
        fill = color if stage < summary.stages_run else GREY
        cv2.rectangle(canvas, (left, top), (right, top + BAR_HEIGHT), fill, cv2.FILLED)
    return canvas


def _put_right(
    canvas: NDArray[np.uint8], text: str, baseline: int, color: tuple[int, int, int]
) -> None:
    (width, _), _ = cv2.getTextSize(text, FONT, 0.5, 1)
    origin = (canvas.shape[1] - MARGIN - width, baseline)
    cv2.putText(canvas, text, origin, FONT, 0.5, color, 1, cv2.LINE_AA)
