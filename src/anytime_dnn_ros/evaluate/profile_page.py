"""The stage times of a ladder on this machine as one HTML page with plots."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from anytime_dnn_ros.evaluate.page import html_table, inline_svg, page_of
from anytime_dnn_ros.evaluate.plots import COLORS, STYLE
from anytime_dnn_ros.evaluate.profile import MS, PERCENT, Profile, rows

BODY = """<h2>Quality against time</h2>
<p>{quality} The solid line steps where half of the rounds have that answer, the dashed one where
99 % have it: a deadline there is met 99 times in 100 while the machine is as it was then. Under
load the node multiplies these times by the slowdown that it sees.</p>
{curve}
<h2>Each stage alone</h2>
<p>Every dot is one round. A box holds the middle half of them, its line is the median, its
whiskers end at 1 and 99 %.</p>
{boxes}
<h2>Figures</h2>
{table}"""
DECLARED = "The accuracy that the bundle's quality data declare for the answer after each stage."
NOT_DECLARED = (
    'This bundle declares no accuracy: it has none that was counted on held-out images. The axis '
    'counts the stages that have answered; `anytime-dnn calibrate` gives a bundle an accuracy.'
)
GREY = '#52606d'
# More names than this do not fit side by side.
MANY_STAGES = 7


def profile_page(profile: Profile, versions: Mapping[str, str]) -> str:
    """The page.

    Args:
        profile: From `measure_profile`.
        versions: Of whatever made the figures, by name.
    """
    body = BODY.format(
        quality=DECLARED if _is_declared(profile) else NOT_DECLARED,
        curve=inline_svg(quality_figure(profile)),
        boxes=inline_svg(stage_figure(profile)),
        table=html_table(rows(profile)),
    )
    title = f'{profile.bundle.manifest.name} on this machine'
    return page_of(title, profile.origin[0].upper() + profile.origin[1:] + '.', body, versions)


def _is_declared(profile: Profile) -> bool:
    return all(stage.expected_accuracy is not None for stage in profile.stages)


def quality_figure(profile: Profile) -> Figure:
    """Declared accuracy, or stages that have answered, against the time since the frame came."""
    declared = _is_declared(profile)
    stages = profile.stages
    if declared:
        heights = [PERCENT * (s.expected_accuracy or 0.0) for s in stages]
        # Room below the first answer, where there is none yet.
        floor = min(heights) - max(1.0, 0.3 * (max(heights) - min(heights)))
    else:
        heights, floor = [float(k) for k in range(1, len(stages) + 1)], 0.0
    middle, late = [s.answer_ms for s in stages], [s.answer_p99_ms for s in stages]
    begin, end = middle[0] / 1.3, 1.2 * late[-1]
    x = sorted([begin, *middle, *late, end])
    levels = np.array([floor, *heights])
    half, most = (levels[np.searchsorted(at, x, side='right')] for at in (middle, late))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2))
        axes = figure.subplots()
        axes.fill_between(x, most, half, step='post', color=COLORS[0], alpha=0.12, lw=0)
        axes.step(x, half, where='post', color=COLORS[0], lw=1.8, label='half of the rounds')
        axes.step(x, most, where='post', color=COLORS[1], lw=1.8, ls='--', label='99 % of them')
        axes.plot(middle, heights, 'o', color=COLORS[0], markersize=6)
        axes.plot(late, heights, 's', color=COLORS[1], markersize=5)
        for number, (stage, height) in enumerate(zip(stages, heights, strict=True), start=1):
            axes.annotate(
                str(number),
                (stage.answer_ms, height),
                xytext=(-4, 4),
                textcoords='offset points',
                ha='right',
                fontsize=9,
                color=GREY,
            )
        # By ratio: load multiplies times, and their tails are long.
        axes.set(xscale='log', xlim=(begin, end), xlabel='time from the frame to the answer (ms)')
        _name_ticks(axes.xaxis)
        top = max(heights) + 0.12 * (max(heights) - floor)
        if declared:
            axes.set(ylim=(floor, min(top, PERCENT)), ylabel='declared accuracy (top-1, %)')
        else:
            axes.set(ylim=(floor, top), ylabel='stages that have answered')
            axes.set_yticks(levels)
        axes.legend(loc='upper left', frameon=False)
        figure.set_layout_engine('constrained')
    return figure


def stage_figure(profile: Profile) -> Figure:
    """Box and dots of every stage's own time, in ladder order."""
    samples_ms = MS * profile.times.samples_s
    runs, count = samples_ms.shape
    # Beside the box, in the order of the rounds: a drift while measuring shows as a slant.
    spread = np.linspace(0.0, 0.35, runs)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 4.2))
        axes = figure.subplots()
        for k in range(count):
            axes.scatter(k + spread, samples_ms[:, k], s=9, color=COLORS[0], alpha=0.45, lw=0)
        axes.boxplot(
            list(samples_ms.T),
            positions=[k - 0.16 for k in range(count)],
            widths=0.2,
            whis=(1, 99),
            showfliers=False,
            boxprops={'color': GREY},
            whiskerprops={'color': GREY},
            capprops={'color': GREY},
            medianprops={'color': COLORS[1], 'lw': 2},
        )
        names = [f'{k} {stage.name}' for k, stage in enumerate(profile.stages, start=1)]
        axes.set_xticks(range(count), names, rotation=30 if count > MANY_STAGES else 0)
        axes.grid(visible=False, axis='x')
        axes.set(yscale='log', ylabel='time of the stage alone (ms)')
        _name_ticks(axes.yaxis)
        figure.set_layout_engine('constrained')
    return figure


def _name_ticks(axis: Axis) -> None:
    """Plain numbers along a logarithmic axis, 1, 2 and 5 of each power of ten."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter('{x:g}')
    axis.set_minor_formatter(NullFormatter())
