"""Figures of measured ladders: several on one pair of axes, told apart without colour too."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import cycle, islice
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anytime_dnn_ros.evaluate.curve import Budget, Cost, LadderCurve
from anytime_dnn_ros.evaluate.exit_probabilities import Reliability
from anytime_dnn_ros.evaluate.monotone import FALLS

STYLE = {
    'svg.fonttype': 'none',
    'font.family': 'sans-serif',
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.axisbelow': True,
    'grid.color': '#e4e7eb',
    'hatch.linewidth': 0.8,
}
# Okabe and Ito, "Color universal design" (2008), without the yellow that paper swallows.
COLORS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X')
DASHES = ('-', '--', '-.', ':')
HATCHES = ('', '//', '..', 'xx', '\\\\', '++', 'oo')
PERCENT = 100
MMAC = 1e6
UNITS = {'macs_sequential': MMAC, 'time_ms': 1.0}
# Two columns of labels up to this long are as wide as a figure.
SHORT_LABEL = 48
# A bin with a smaller share of the answers says more about chance than about the ladder.
LEAST_BIN_SHARE = 0.005


def _looks(count: int) -> list[dict[str, Any]]:
    """Colour, marker and dashes of each ladder; when the colours run out the others change."""
    return [
        {
            'color': COLORS[i % len(COLORS)],
            'marker': MARKERS[(i + i // len(COLORS)) % len(MARKERS)],
            'linestyle': DASHES[i // len(COLORS) % len(DASHES)],
        }
        for i in range(count)
    ]


def curve_figure(
    ladders: Sequence[LadderCurve], title: str, macs: Budget, times_ms: Budget
) -> Figure:
    """Accuracy against sequential MMAC and against milliseconds, all ladders on both.

    Args:
        ladders: Measured on the same images.
        title: Names the data and the number of images.
        macs: What the area in the legend is counted over, multiply-accumulates.
        times_ms: How far the axis of time goes, milliseconds.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2))
        left, right = figure.subplots(1, 2, sharey=True)
        for ladder, look in zip(ladders, _looks(len(ladders)), strict=True):
            label = f'{ladder.name} ({ladder.kind}): {ladder.area(macs, "macs_sequential"):.1%}'
            _draw_steps(left, ladder, 'macs_sequential', macs.high, {**look, 'label': label})
            _draw_steps(right, ladder, 'time_ms', times_ms.high, look)
        left.set_ylabel('accuracy (top-1, %)')
        left.set_xlabel('sequential cost (MMAC)')
        right.set_xlabel('time of all stages so far, 1 thread (ms)')
        for axes, budget, unit in ((left, macs, MMAC), (right, times_ms, 1.0)):
            axes.set_xlim(budget.low / unit, budget.high / unit * 1.02)
        figure.suptitle(title, fontsize=11)
        over = f'mean accuracy over {macs.low / MMAC:.4g} to {macs.high / MMAC:.4g} MMAC'
        _legend_below(figure, over)
    return figure


def _draw_steps(
    axes: Axes,
    ladder: LadderCurve,
    cost: Cost,
    end: float,
    look: dict[str, Any],
) -> None:
    """The newest finished exit's accuracy: a step up (or down) at each exit's cost."""
    scale = UNITS[cost]
    x = [getattr(e, cost) / scale for e in ladder.exits]
    y = [PERCENT * e.top1 for e in ladder.exits]
    axes.plot(
        [*x, max(x[-1], end / scale)],
        [*y, y[-1]],
        drawstyle='steps-post',
        markevery=slice(0, len(x)),
        markersize=6,
        lw=1.8,
        **look,
    )


def reliability_figure(ladder: LadderCurve) -> Figure:
    """Accuracy against confidence for every exit, before and after the temperature."""
    panels: list[tuple[str, tuple[Reliability, ...], list[float]]] = [
        ('temperature 1', ladder.reliability, [e.ece for e in ladder.exits])
    ]
    if ladder.reliability_calibrated is not None:
        calibrated = [e.ece_calibrated or 0.0 for e in ladder.exits]
        panels.append(("the bundle's temperatures", ladder.reliability_calibrated, calibrated))
    shades = mpl.colormaps['viridis'](np.linspace(0, 0.85, len(ladder.exits)))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.4))
        for axes, (title, exits, errors) in zip(figure.subplots(1, 2), panels, strict=False):
            axes.plot([0, 1], [0, 1], color='#52606d', lw=1, ls='--')
            markers = islice(cycle(MARKERS), len(exits))
            for k, (bins, marker, error) in enumerate(zip(exits, markers, errors, strict=True)):
                shown = bins.share >= LEAST_BIN_SHARE
                axes.plot(
                    bins.confidence[shown],
                    bins.accuracy[shown],
                    color=shades[k],
                    marker=marker,
                    markersize=4,
                    lw=1.3,
                    label=f'exit {k + 1}: ECE {error:.1%}',
                )
            axes.set(xlim=(0, 1), ylim=(0, 1), title=title)
            axes.set_xlabel('confidence of the answer (0..1)')
            axes.set_ylabel('share of right answers (0..1)')
            axes.legend(loc='upper left', frameon=False, fontsize=9)
        for axes in figure.axes[len(panels) :]:
            axes.set_axis_off()
        figure.set_layout_engine('constrained')
    return figure


def rule_figure(ladder: LadderCurve) -> Figure:
    """What leaving early by a rule of the bundle gives, beside the exits themselves."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.0))
        axes = figure.subplots()
        end = ladder.exits[-1].macs_sequential
        look = {'color': '#52606d', 'marker': '|', 'label': 'every image to the same exit'}
        _draw_steps(axes, ladder, 'macs_sequential', end, look)
        names = list(dict.fromkeys(point.rule for point in ladder.exit_rules))
        for name, style in zip(names, _looks(len(names)), strict=True):
            points = [p for p in ladder.exit_rules if p.rule == name]
            axes.plot(
                [p.mean_macs / MMAC for p in points],
                [PERCENT * p.top1 for p in points],
                label=name.replace('_', ' '),
                lw=1.3,
                markersize=5,
                **style,
            )
        axes.set_xlim(0, 1.02 * end / MMAC)
        axes.set_xlabel('mean sequential cost per image (MMAC)')
        axes.set_ylabel('accuracy (top-1, %)')
        axes.legend(loc='lower right', frameon=False)
        figure.set_layout_engine('constrained')
    return figure


def monotone_figure(ladders: Sequence[LadderCurve]) -> Figure:
    """Bars of the images whose later answer is worse, by how much worse, per ladder."""
    keys = [*(f'p_true_falls_over_{d:g}' for d in FALLS), 'right_then_wrong']
    names = [*(f'p(true class) falls\nby more than {d:g}' for d in FALLS), 'right, then\nwrong']
    width = 0.8 / len(ladders)
    at = np.arange(len(keys))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 3.6))
        axes = figure.subplots()
        for i, ladder in enumerate(ladders):
            axes.bar(
                at + (i - (len(ladders) - 1) / 2) * width,
                [PERCENT * ladder.monotone_violations[key] for key in keys],
                width * 0.92,
                color=COLORS[i % len(COLORS)],
                hatch=HATCHES[i % len(HATCHES)],
                edgecolor='white',
                label=ladder.name,
            )
        axes.set_xticks(at, names)
        axes.grid(visible=False, axis='x')
        axes.set_ylabel('images (%)')
        _legend_below(figure)
    return figure


def _legend_below(figure: Figure, title: str = '') -> None:
    """One legend for all axes, under them; the figure grows by as much."""
    handles, labels = figure.axes[0].get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) <= SHORT_LABEL else 1
    rows = -(-len(labels) // columns) + bool(title)
    figure.set_figheight(figure.get_figheight() + 0.22 * rows)
    figure.legend(
        handles,
        labels,
        title=title or None,
        loc='outside lower center',
        ncols=columns,
        frameon=False,
    )
    figure.set_layout_engine('constrained')


def rendered(figure: Figure, form: str) -> bytes:
    """The figure as the bytes of a file, `svg` or `png`; the same for the same figure."""
    data = io.BytesIO()
    with mpl.rc_context({**STYLE, 'svg.hashsalt': 'anytime_dnn_ros'}):
        metadata = {'Date': None} if form == 'svg' else {}
        figure.savefig(data, format=form, metadata=metadata, dpi=150)
    return data.getvalue()
