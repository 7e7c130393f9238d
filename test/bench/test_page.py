"""The page and its figures: whatever was or was not counted, they can be drawn."""

from html.parser import HTMLParser

import pytest

from anytime_dnn_ros.bench.deadlines import Deadline
from anytime_dnn_ros.bench.outcome import FrameOutcome, Pass
from anytime_dnn_ros.bench.page import bench_page, scatter_figure, timeline_figure
from anytime_dnn_ros.bench.policies import policy_names
from anytime_dnn_ros.bench.replay import replay
from anytime_dnn_ros.bench.rows import with_oracle
from anytime_dnn_ros.evaluate.plots import rendered
from anytime_dnn_ros.planner import Goals
from bench.small_recordings import noisy_recording

SETUP = {'bundle': 'by <hand>', 'data': 'none', 'frames': 100, 'rate_hz': 16.0}
DEADLINES = (Deadline(12.0, 'as <given>'), Deadline(40.0, 'as given'))


@pytest.fixture(scope='module')
def passes():
    made = noisy_recording(200)
    return [replay(made, d.ms, name, Goals()) for d in DEADLINES for name in policy_names(3)]


def page(passes):
    rows = with_oracle(passes, 'replayed')
    return bench_page(passes, rows, SETUP, DEADLINES, 0.01)


def test_the_page_is_whole_escaped_and_needs_nothing_beside_it(passes):
    text = page(passes)

    class Tags(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open, self.sources = [], []

        def handle_starttag(self, tag, attrs):
            if tag not in {'meta', 'path', 'use', 'rect', 'image'}:
                self.open.append(tag)
            self.sources += [v for k, v in attrs if k in {'src', 'href'} and v]

        def handle_startendtag(self, tag, attrs):
            self.sources += [v for k, v in attrs if k in {'src', 'href'} and v]

        def handle_endtag(self, tag):
            if tag not in {'path', 'use', 'rect', 'image'}:
                assert self.open.pop() == tag

    tags = Tags()
    tags.feed(text)
    assert not tags.open
    assert not any(source.startswith('http') for source in tags.sources)
    assert 'by &lt;hand&gt;' in text
    assert 'as &lt;given&gt;' in text
    for name in policy_names(3):
        assert name in text
    # One scatter, a timeline for each deadline.
    assert text.count('<svg') == 1 + len(DEADLINES)


def test_the_same_passes_give_the_same_page(passes):
    assert page(passes) == page(passes)


def test_frames_without_any_answer_can_be_drawn():
    frames = tuple(FrameOutcome(0.1 * i, 0.1 * i + 0.01, 0, dropped='stale') for i in range(40))
    silent = Pass('none', 12.0, 'ours', frames, None)
    assert rendered(timeline_figure([silent]), 'png')
    assert '<svg' in page([silent])


def test_nothing_counted_can_be_drawn():
    empty = Pass('none', 12.0, 'ours', (), None)
    assert rendered(scatter_figure('none', with_oracle([empty], 'live'), 0.01), 'png')
    assert '<svg' in page([empty])
