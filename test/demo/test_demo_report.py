"""The report: one file, whole, well formed, with every chart and every photo."""

import re
from html.parser import HTMLParser

import pytest

from anytime_dnn_ros.demo.recording import Recording, summarize
from anytime_dnn_ros.demo.report import html_report
from demo.small_runs import OUTSIDE, answer, small_run

VOID = {'meta', 'img', 'br'}


class Balance(HTMLParser):
    """Complains about a tag that is closed in the wrong place, or never."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def report(run: Recording, **changes) -> str:
    usual = {'thumbnails': {'coffee': b'jpeg'}, 'debug_png': b'png'}
    return html_report(run, summarize(run, **OUTSIDE), **{**usual, **changes})


def test_the_page_is_well_formed_and_needs_nothing_beside_it():
    page = report(small_run())
    balance = Balance()
    balance.feed(page)
    assert balance.open == []
    assert page.count('<svg') == 3
    for link in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert link.startswith(('data:', '#'))
    assert not re.search(r'<(?:script|link)\b|@import', page)


def test_units_burst_deadline_and_misses_are_on_the_charts():
    page = report(small_run())
    for text in ('time (s)', 'slack (ms)', 'final answers per second', 'percent', 'CPU burst'):
        assert f'>{text}<' in page
    for text in ('deadline', 'missed', 'stage 1', 'stage 2', 'CPU busy'):
        assert f'>{text}<' in page


def test_forecasts_have_a_colour_of_their_own_where_there_are_any():
    run = small_run()
    assert '>forecast<' not in report(run)
    run.answers.append(answer(5, 0, 'cup', is_final=True))
    assert '>forecast<' in report(run)


def test_names_are_escaped():
    page = report(small_run())
    assert 'cat &lt;1&gt;' in page
    assert 'tabby &amp; co' in page
    assert 'python &lt;3&gt;' in page
    assert 'cat <1>' not in page


def test_a_calm_run_has_no_burst_and_no_misses():
    run = small_run()
    run.burst_s = None
    run.frames.pop()
    page = report(run, debug_png=None)
    assert 'CPU burst' not in page
    assert '>missed<' not in page
    assert '~/debug_image' not in page


@pytest.mark.parametrize('run', [Recording(deadline_ms=50.0), Recording(50.0, burst_s=(1.0, 2.0))])
def test_a_run_without_answers_still_makes_a_page(run):
    page = report(run)
    assert page.count('<svg') == 3
    assert '0 of 0' in page
    assert 'unknown' in page
