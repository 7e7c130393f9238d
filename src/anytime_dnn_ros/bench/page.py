"""A bench as one HTML page with plots."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import anytime_dnn_ros
from anytime_dnn_ros.bench.deadlines import Deadline
from anytime_dnn_ros.bench.outcome import FrameOutcome, Pass
from anytime_dnn_ros.bench.policies import ORACLE, OURS, STATIC
from anytime_dnn_ros.bench.rows import SETTLING_S, WHAT_IS_COUNTED
from anytime_dnn_ros.bench.table import HEADS, cells
from anytime_dnn_ros.evaluate.page import html_table, inline_svg, page_of
from anytime_dnn_ros.evaluate.plots import COLORS, STYLE

PERCENT, MS = 100, 1e3
# Shown over time: one panel each.
TIMELINE = (OURS, 'alert', 'fixed_p99', 'greedy')
# The oracle is a ring, so that it can be seen around a policy that is as good.
LOOKS: dict[str, dict[str, Any]] = {
    OURS: {'marker': 'o', 'color': COLORS[0], 'markersize': 9, 'zorder': 4},
    'alert': {'marker': 's', 'color': COLORS[1], 'markersize': 7},
    'fixed_p99': {'marker': '^', 'color': COLORS[2], 'markersize': 7},
    'greedy': {'marker': 'v', 'color': COLORS[3], 'markersize': 7},
    STATIC: {'marker': 'd', 'color': COLORS[5], 'markersize': 7},
    ORACLE: {'marker': 'o', 'color': '#000000', 'markersize': 14, 'fillstyle': 'none'},
}
GREY, SHADE = '#52606d', '#f5d6c6'
# Miss rates are told apart from here on; below, the axis is linear down to 0.
LEAST_MISS_PERCENT = 0.1
MISSED_COLOR = '#d55e00'

BODY = """<h2>Accuracy against missed deadlines</h2>
<p>Upper left is better: more right answers, fewer missed deadlines. The dashed line is the miss
rate that was asked for. A small number at a diamond is the k of static_k, a plain network of that
cost.</p>
{scatter}
<h2>Over time</h2>
<p>Each dot is the final answer of one frame: its age when it was out (a missed one as a cross)
and the stages behind it. Load is on where it is shaded; its first seconds, darker, are counted
apart. The grey line is the deadline.</p>
{timelines}
<h2>Figures</h2>
<p>{counted}</p>
{tables}"""


def bench_page(
    passes: Sequence[Pass],
    rows: Sequence[dict[str, Any]],
    setup: dict[str, Any],
    deadlines: Sequence[Deadline],
    miss_target: float,
) -> str:
    """The page.

    Args:
        passes: At least one.
        rows: Theirs, in the same order.
        setup: What was run.
        deadlines: And why.
        miss_target: Share of missed deadlines that was asked for, 0..1.
    """
    loads = list(dict.fromkeys(p.load for p in passes))
    title = f'{setup["bundle"]} under load: {", ".join(loads)}'
    lead = (
        f'{setup["frames"]} frames a pass at {setup["rate_hz"]:g} Hz, {setup["data"]}; asked for: '
        f'at most {miss_target:.2%} missed. '
        + ' '.join(f'{d.ms:g} ms: {d.why}.' for d in deadlines)
    )
    body = BODY.format(
        scatter=''.join(
            f'<h3>{escape(load)}</h3>{inline_svg(scatter_figure(load, rows, miss_target))}'
            for load in loads
        ),
        timelines=''.join(_timelines(passes, load, deadlines) for load in loads),
        counted=escape(WHAT_IS_COUNTED),
        tables=''.join(_tables(rows)),
    )
    versions = {
        'anytime_dnn_ros': anytime_dnn_ros.__version__,
        'python': platform.python_version(),
        'engine': str(setup.get('engine', 'as recorded')),
        'machine': f'{platform.machine()}, {os.cpu_count()} cores',
    }
    return page_of(title, lead, body, versions)


def _tables(rows: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f'<h3>{escape(load)}, {deadline_ms:g} ms</h3>'
        + html_table([HEADS, *(cells(r) for r in group)])
        for (load, deadline_ms), group in groupby(
            rows, key=lambda r: (r['load'], r['deadline_ms'])
        )
    ]


def scatter_figure(load: str, rows: Sequence[dict[str, Any]], miss_target: float) -> Figure:
    """Accuracy per frame against the miss rate, one panel per deadline.

    Args:
        load: Whose rows are shown.
        rows: Of all loads.
        miss_target: 0..1.
    """
    mine = [r for r in rows if r['load'] == load and r['miss_rate'] is not None]
    deadlines = sorted({r['deadline_ms'] for r in mine})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.9))
        panels = figure.subplots(1, max(1, len(deadlines)), sharey=True, squeeze=False)[0]
        for axes, deadline_ms in zip(panels, deadlines, strict=False):
            for r in (r for r in mine if r['deadline_ms'] == deadline_ms):
                _draw_policy(axes, r)
            axes.axvline(PERCENT * miss_target, color=GREY, lw=1, ls='--')
            axes.set_xscale('symlog', linthresh=LEAST_MISS_PERCENT, linscale=0.5)
            ticks = [0, 0.1, 1, 10, 100]
            axes.set_xticks(ticks, [f'{tick:g}' for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_xlim(-0.03, 130)
            axes.set_title(f'deadline {deadline_ms:g} ms')
            axes.set_xlabel('missed deadlines (%)')
        panels[0].set_ylabel('right and in time (% of frames)')
        # A policy may be missing in one panel: the legend is of all.
        handles: dict[str, Any] = {}
        for axes in panels:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                handles.setdefault(label, handle)
        figure.legend(
            handles.values(), handles.keys(), loc='outside lower center', ncols=6, frameon=False
        )
        figure.set_layout_engine('constrained')
    return figure


def _draw_policy(axes: Axes, r: dict[str, Any]) -> None:
    is_static = r['policy'].startswith(STATIC)
    kind = STATIC if is_static else r['policy']
    look = LOOKS[kind]
    axes.plot(
        PERCENT * r['miss_rate'],
        PERCENT * r['accuracy'],
        ls='none',
        clip_on=False,
        label='static_k' if is_static else kind,
        **look,
    )
    if is_static:
        axes.annotate(
            r['policy'].removeprefix(STATIC),
            (PERCENT * r['miss_rate'], PERCENT * r['accuracy']),
            xytext=(5, 4),
            textcoords='offset points',
            fontsize=8,
            color=GREY,
        )


def _timelines(passes: Sequence[Pass], load: str, deadlines: Sequence[Deadline]) -> str:
    parts = []
    for deadline in deadlines:
        shown = [
            p
            for name in TIMELINE
            for p in passes
            if (p.load, p.deadline_ms, p.policy) == (load, deadline.ms, name)
        ]
        if shown:
            parts.append(f'<h3>{escape(load)}, {deadline.ms:g} ms</h3>')
            parts.append(inline_svg(timeline_figure(shown)))
    return ''.join(parts)


def timeline_figure(passes: Sequence[Pass]) -> Figure:
    """Age and stages of the final answers over time, one column per policy.

    Args:
        passes: Of one load and one deadline.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2))
        grid = figure.subplots(
            2, len(passes), sharex=True, sharey='row', squeeze=False, height_ratios=(2, 1)
        )
        for column, one in enumerate(passes):
            ages, stages = grid[0][column], grid[1][column]
            _draw_ages(ages, one)
            _draw_stages(stages, one)
            for axes in (ages, stages):
                _shade(axes, one)
            ages.set_title(one.policy)
            stages.set_xlabel('time (s)')
        grid[0][0].set_ylabel('age of the answer (ms)')
        grid[1][0].set_ylabel('stage')
        deepest = max(
            (p.stage for one in passes for f in one.frames for p in f.published), default=1
        )
        grid[1][0].set_ylim(-0.3, deepest + 0.3)
        # One frame that was held up for long is not to press all others into a line.
        highest = max(np.percentile(_ages_ms(p.frames) or [p.deadline_ms], 99.5) for p in passes)
        grid[0][0].set_ylim(0, 1.15 * max(float(highest), passes[0].deadline_ms))
        figure.set_layout_engine('constrained')
    return figure


def _ages_ms(frames: Sequence[FrameOutcome]) -> list[float]:
    return [MS * (f.final.at_s - f.arrival_s) for f in frames if f.final is not None]


def _draw_ages(axes: Axes, one: Pass) -> None:
    for met in (True, False):
        frames = [f for f in one.frames if f.final is not None and f.in_time is met]
        axes.plot(
            [f.arrival_s for f in frames],
            _ages_ms(frames),
            '.' if met else 'x',
            color=COLORS[0] if met else MISSED_COLOR,
            markersize=3 if met else 5,
            rasterized=True,
        )
    axes.axhline(one.deadline_ms, color=GREY, lw=1)


def _draw_stages(axes: Axes, one: Pass) -> None:
    answered = [(f.arrival_s, f.final.stage) for f in one.frames if f.final is not None]
    axes.plot(
        [at_s for at_s, _ in answered],
        [stage for _, stage in answered],
        '.',
        color=COLORS[0],
        markersize=3,
    )


def _shade(axes: Axes, one: Pass) -> None:
    """The time under load, and darker at its front where its first seconds are counted apart."""
    for begin_s, end_s in one.loaded_s:
        axes.axvspan(begin_s, end_s, color=SHADE, alpha=0.4, lw=0)
    if one.onset_s is not None and one.frames:
        end_s = min(one.frames[-1].arrival_s, one.onset_s + SETTLING_S)
        axes.axvspan(one.onset_s, end_s, color=SHADE, alpha=0.6, lw=0)
