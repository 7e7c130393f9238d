"""A run as the watcher would have recorded it, small enough to count by hand."""

from anytime_dnn_ros.demo.recording import Answer, Frame, Load, Recording

OUTSIDE = {
    'frames_published': 7,
    'node_rss_mb': 200.0,
    'monitor_cpu_percent': 0.8,
    'versions': {'rclpy': '7.1.6', 'python': '<3>'},
}


def answer(seq: int, stage: int, label: str, *, is_final: bool = False, photo: str = 'coffee'):
    return Answer(
        at_s=seq / 10,
        frame_seq=seq,
        photo=photo,
        stage=stage,
        num_stages=2,
        is_final=is_final,
        label=label,
        confidence=0.5 + stage / 10,
        elapsed_ms=4.0 * stage + seq,
        age_ms=10.0 * seq,
    )


def frame(seq: int, stages: int, slack_ms: float, photo: str = 'coffee'):
    return Frame(
        at_s=seq / 10,
        frame_seq=seq,
        photo=photo,
        stages_run=stages,
        deadline_missed=slack_ms < 0,
        slack_ms=slack_ms,
        queue_ms=2.0,
        infer_ms=20.0,
        total_ms=22.0 + seq,
        frames_received=seq + 2,
        frames_dropped=2,
    )


def small_run() -> Recording:
    """Four frames: three of coffee, one of a cat, which missed its deadline."""
    return Recording(
        deadline_ms=50.0,
        answers=[
            answer(1, 1, 'cup'),
            answer(1, 2, 'espresso', is_final=True),
            answer(2, 1, 'cup', is_final=True),
            answer(3, 1, 'cup'),
            answer(3, 2, 'espresso', is_final=True),
            answer(4, 1, 'tabby & co', is_final=True, photo='cat <1>'),
        ],
        frames=[
            frame(1, 2, 20.0),
            frame(2, 1, 10.0),
            frame(3, 2, 15.0),
            frame(4, 1, -3.0, 'cat <1>'),
        ],
        loads=[Load(0.1, 30.0, float('nan')), Load(0.3, 100.0, float('nan'))],
        burst_s=(0.2, 0.35),
    )
