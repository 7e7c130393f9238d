"""A recording as one HTML page that needs nothing beside it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from anytime_dnn_ros.demo.recording import Recording, answers_by_photo

BIN_S = 0.5
BURST_COLOR, ANSWER_COLOR, MISSED_COLOR = '#f2c14e', '#2a6f97', '#c1121f'
FORECAST_COLOR = '#9aa5b1'
STYLE = {
    'svg.fonttype': 'none',
    'font.family': 'sans-serif',
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'axes.grid.axis': 'y',
    'axes.axisbelow': True,
    'grid.color': '#e4e7eb',
}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>anytime_dnn_ros: demo report</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff;
  max-width: 58rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.6rem; margin-bottom: 0 }}
h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .2rem }}
p {{ margin: .2rem 0 .6rem; color: #52606d }}
dl {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .8rem }}
dl div {{ border: 1px solid #e4e7eb; border-radius: 8px; padding: .6rem .9rem }}
dt {{ color: #52606d; font-size: .85rem }}
dd {{ margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums }}
table {{ border-collapse: collapse; width: 100% }}
td, th {{ text-align: left; padding: .4rem .8rem; border-bottom: 1px solid #e4e7eb }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}
td img {{ display: block; border-radius: 4px }}
svg, .wide {{ width: 100%; height: auto }}
.wide {{ max-width: 640px }}
footer {{ margin: 2.5rem 0 1rem; color: #52606d; font-size: .85rem }}
</style></head><body>
<h1>Demo report</h1>
<p>{lead}</p>
<dl>{tiles}</dl>
<h2>Answers per stage</h2>
<p>Final answers per second, by the stage they come from. Under load the ladder stops earlier.</p>
{answers}
<h2>Slack</h2>
<p>What was left of the deadline when the final answer was out. Below the line is a miss.</p>
{slack}
<h2>Load</h2>
<p>As monitor_node measured it on <code>system_load</code>.</p>
{load}
<h2>What it saw</h2>
<p>What is none of the ladder's classes gets the nearest one: ImageNet knows neither an astronaut
nor this flower.</p>
<table><thead><tr><th></th><th>photo</th><th>most frequent answer</th>
<th class="n">of its frames</th><th class="n">mean confidence</th></tr></thead>
<tbody>{photos}</tbody></table>
{debug}
<footer>{versions}</footer>
</body></html>
"""


def html_report(
    recording: Recording,
    summary: Mapping[str, Any],
    thumbnails: Mapping[str, bytes],
    debug_png: bytes | None,
) -> str:
    """The page.

    Args:
        recording: The run.
        summary: From `summarize`.
        thumbnails: JPEG of each photo, by name.
        debug_png: A frame of `~/debug_image`, if one came.
    """
    with mpl.rc_context(STYLE):
        charts = {
            'answers': _chart(recording, _draw_answers, 'final answers per second'),
            'slack': _chart(recording, _draw_slack, 'slack (ms)'),
            'load': _chart(recording, _draw_load, 'percent'),
        }
    debug = ''
    if debug_png:
        debug = (
            '<h2>One frame of <code>~/debug_image</code></h2>'
            f'<img class="wide" alt="camera frame with its answer" src="{_uri("png", debug_png)}">'
        )
    return PAGE.format(
        lead=_lead(recording),
        tiles=_tiles(summary),
        photos=_photo_rows(recording, thumbnails),
        debug=debug,
        versions=escape(' · '.join(f'{k} {v}' for k, v in summary['versions'].items())),
        **charts,
    )


def _lead(recording: Recording) -> str:
    last_s = max((f.at_s for f in recording.frames), default=0.0)
    text = f'{last_s:.0f} s of a 30 Hz camera, {recording.deadline_ms:g} ms for each frame'
    if recording.burst_s:
        text += f'; from {recording.burst_s[0]:.0f} s to {recording.burst_s[1]:.0f} s every core'
        text += ' had a busy neighbour (shaded)'
    return text + '.'


def _tiles(summary: Mapping[str, Any]) -> str:
    def shown(key: str, form: str, scale: float = 1.0) -> str:
        value = summary[key]
        return 'unknown' if value is None else form.format(value * scale)

    tiles = {
        'frames answered': f'{summary["frames_answered"]} of {summary["frames_received"]}',
        'deadlines missed': f'{summary["missed"]} ({shown("miss_rate", "{:.1f} %", 100)})',
        'mean stages run': shown('stages_mean', '{:.2f}'),
        'first answer, median': shown('first_answer_p50_ms', '{:.1f} ms'),
        'age of the final answer, median': shown('age_p50_ms', '{:.1f} ms'),
        'age, 99th percentile': shown('age_p99_ms', '{:.1f} ms'),
        'overhead per frame, median': shown('overhead_p50_ms', '{:.1f} ms'),
        'memory of anytime_node': shown('node_rss_mb', '{:.0f} MB'),
        'CPU of monitor_node': shown('monitor_cpu_percent', '{:.1f} % of a core'),
    }
    return ''.join(
        f'<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>' for k, v in tiles.items()
    )


def _photo_rows(recording: Recording, thumbnails: Mapping[str, bytes]) -> str:
    rows = []
    for photo, answer in answers_by_photo(recording).items():
        picture = ''
        if photo in thumbnails:
            picture = f'<img width="96" alt="" src="{_uri("jpeg", thumbnails[photo])}">'
        rows.append(
            f'<tr><td>{picture}</td><td>{escape(photo)}</td><td>{escape(answer.label)}</td>'
            f'<td class="n">{answer.share:.0%} of {answer.frames}</td>'
            f'<td class="n">{answer.confidence:.2f}</td></tr>'
        )
    return ''.join(rows)


def _uri(kind: str, data: bytes) -> str:
    return f'data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}'


def _chart(recording: Recording, draw: Any, ylabel: str) -> str:
    """One chart over time, as an SVG element; all charts share the time axis."""
    figure = Figure(figsize=(9, 2.9))
    figure.subplots_adjust(left=0.07, right=0.84, top=0.95, bottom=0.17)
    axes = figure.subplots()
    draw(axes, recording)
    if recording.burst_s:
        axes.axvspan(
            *recording.burst_s, color=BURST_COLOR, alpha=0.3, lw=0, zorder=0, label='CPU burst'
        )
    times = [f.at_s for f in recording.frames] + [s.at_s for s in recording.loads]
    axes.set_xlim(0, max(times, default=1.0))
    axes.set_xlabel('time (s)')
    axes.set_ylabel(ylabel)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc='center left', bbox_to_anchor=(1.0, 0.5), frameon=False)
    text = io.StringIO()
    figure.savefig(text, format='svg', metadata={'Date': None})
    svg = text.getvalue()
    return svg[svg.index('<svg') :]


def _draw_answers(axes: Axes, recording: Recording) -> None:
    finals = [a for a in recording.answers if a.is_final]
    num_stages = max((a.num_stages for a in finals), default=1)
    end_s = max((a.at_s for a in finals), default=0.0)
    edges = np.arange(0, end_s + BIN_S, BIN_S)
    below = np.zeros(max(len(edges) - 1, 0))
    # Ordered data, ordered shades: the last stage is the darkest.
    shades = mpl.colormaps['Blues'](np.linspace(0.25, 0.95, num_stages))
    series = [(f'stage {stage}', stage, shade) for stage, shade in enumerate(shades, start=1)]
    if any(a.stage == 0 for a in finals):
        series.insert(0, ('forecast', 0, FORECAST_COLOR))
    for label, stage, color in series:
        times = [a.at_s for a in finals if a.stage == stage]
        rate = np.histogram(times, edges)[0] / BIN_S if len(edges) > 1 else below
        axes.bar(
            edges[:-1],
            rate,
            BIN_S * 0.92,
            below,
            align='edge',
            color=color,
            label=label,
        )
        below = below + rate
    # Room above the bars, where the shading of the burst is seen.
    axes.set_ylim(0, 1.12 * below.max(initial=1.0))


def _draw_slack(axes: Axes, recording: Recording) -> None:
    for missed, color, label in (
        (False, ANSWER_COLOR, 'answered'),
        (True, MISSED_COLOR, 'missed'),
    ):
        frames = [f for f in recording.frames if f.deadline_missed is missed]
        if frames:
            x, y = [f.at_s for f in frames], [f.slack_ms for f in frames]
            axes.scatter(x, y, s=9, color=color, lw=0, label=label)
    axes.axhline(0, color=MISSED_COLOR, lw=1.2, label='deadline')


def _draw_load(axes: Axes, recording: Recording) -> None:
    times = [load.at_s for load in recording.loads]
    axes.plot(
        times, [s.cpu_percent for s in recording.loads], color=ANSWER_COLOR, label='CPU busy'
    )
    pressure = [s.psi_cpu_some10 for s in recording.loads]
    if np.isfinite(pressure).any():
        axes.plot(times, pressure, color='#7b2cbf', label='tasks waited\n(last 10 s)')
    axes.set_ylim(0, 103)
