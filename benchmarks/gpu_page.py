"""What the GPU check found, as a page, and the figures that it is to reach."""

from __future__ import annotations

from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from anytime_dnn_ros.engines.agreement import LEAST_TOP1
from anytime_dnn_ros.evaluate.page import html_table, inline_svg, page_of
from anytime_dnn_ros.evaluate.plots import STYLE

DONE, LEFT_OUT, FAILED = 'done', 'left out', 'FAILED'
PERCENT = 100
MOST_OVERHEAD = 0.05
# torch2trt on a Jetson AGX, mobilenet_v2, 224 px: 14.4 ms in PyTorch, then 1.53 and 1.30 ms.
LEAST_SPEEDUP = {'fp16': 9.4, 'int8': 11.1}
# A bar is named in the plot if it is this share of the longest.
NAMED_SHARE = 0.06
# Of viridis, from where on it is too light for white letters.
LIGHT = 0.6
BENCH = ('load', 'deadline_ms', 'policy', 'miss_rate', 'accuracy', 'stages_mean', 'age_p99_ms')

BODY = """<h2>Figures to reach</h2>
{goals}
<h2>Parts</h2>
<p>Each part ran by itself: one that fails, or that cannot be here, leaves the others as they
are.</p>
{parts}
<h2>Latency</h2>
<p>One frame of batch 1, from the image on the host to the last answer on the host, all libraries
in turns in one run. A bar is the median; its pieces are the stages, and what is one piece ran as
one graph with all heads.</p>
{latency}
<h2>Stages over one graph</h2>
<p>What it costs to have an answer after each stage.</p>
{overhead}
<h2>Builds</h2>
{builds}
<h2>Agreement with ONNX Runtime</h2>
{agreement}
<h2>Deadlines</h2>
{bench}"""


def parts_of(document: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    """The parts of one kind that gave figures, also those that failed by their figures."""
    return [p for p in document['parts'] if p['kind'] == kind and p['figures']]


def goals(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Figures to reach: what, the value if there is one, the target, and whether it is reached."""
    found: list[dict[str, Any]] = []

    def add(figure: str, value: float, target: str, *, reached: bool) -> None:
        found.append({'figure': figure, 'value': value, 'target': target, 'reached': reached})

    for part in parts_of(document, 'latency'):
        for row in part['figures']['overhead']:
            if row['library'] == 'TensorRT':
                add(
                    f'{part["ladder"]}, {row["precision"]}: stages over one graph, %',
                    PERCENT * row['share'],
                    f'<= {PERCENT * MOST_OVERHEAD:g}',
                    reached=row['share'] <= MOST_OVERHEAD,
                )
        times = {
            (r['library'].split()[0], r['precision']): r['whole_ms']
            for r in part['figures']['rows']
            if 'whole_ms' in r and r['form'] == 'stages'
        }
        for precision, least in LEAST_SPEEDUP.items():
            if ('TensorRT', precision) in times and ('torch', 'fp32') in times:
                ratio = times['torch', 'fp32'] / times['TensorRT', precision]
                add(
                    f'{part["ladder"]}: torch eager FP32 over TensorRT {precision}, times',
                    ratio,
                    f'>= {least:g}',
                    reached=ratio >= least,
                )
    for part in parts_of(document, 'agreement'):
        least = LEAST_TOP1[part['precision']]
        value = min(stage['top1'] for stage in part['figures']['stages'])
        add(
            f'{part["ladder"]}, {part["precision"]}: same class as ONNX Runtime, %',
            PERCENT * value,
            f'>= {PERCENT * least:g}',
            reached=value >= least,
        )
    return found


def gpu_page(document: dict[str, Any]) -> str:
    """The page.

    Args:
        document: As `gpu_check.py` writes it.
    """
    machine = next((p['figures'] for p in document['parts'] if p['kind'] == 'machine'), None) or {}
    dry = 'A dry run on a machine without a GPU: the libraries ran on its CPU. '
    gpu = machine.get('gpu', 'no GPU')
    lead = f'{dry if document["dry_run"] else ""}{gpu}, {document["date"]}.'
    if document['why_no_tensorrt']:
        lead += f' TensorRT ran nothing here: {document["why_no_tensorrt"]}.'
    reached = [
        (g['figure'], f'{g["value"]:.2f}', g['target'], 'yes' if g['reached'] else 'NO')
        for g in document['goals']
    ]
    body = BODY.format(
        goals=_table(('figure', 'value', 'target', 'reached'), reached),
        parts=_table(
            ('part', 'how it went', 's', 'why'),
            [(p['name'], p['status'], f'{p["seconds"]:.1f}', p['why']) for p in document['parts']],
        ),
        latency=''.join(
            f'<h3>{escape(p["ladder"])}</h3>{inline_svg(latency_figure(p["figures"]["rows"]))}'
            f'{_table(LATENCY_HEAD, [_latency_row(r) for r in p["figures"]["rows"]])}'
            for p in parts_of(document, 'latency')
        ),
        overhead=_table(
            ('ladder', 'library', 'precision', 'stages over one graph, %'),
            [
                (p['ladder'], r['library'], r['precision'], f'{PERCENT * r["share"]:.1f}')
                for p in parts_of(document, 'latency')
                for r in p['figures']['overhead']
            ],
        ),
        builds=_table(
            ('ladder', 'precision', 'by', 'for', 'engines', 's', 's, one graph', 'MiB'),
            [_build_row(p) for p in parts_of(document, 'build')],
        ),
        agreement=_table(
            ('ladder', 'precision', 'stage', 'frames that count', 'same class, %', 'worst error'),
            [
                (
                    p['ladder'],
                    p['precision'],
                    s['name'],
                    str(s['counted']),
                    f'{PERCENT * s["top1"]:.1f}',
                    'not finite' if s['worst_error'] is None else f'{s["worst_error"]:.3g}',
                )
                for p in parts_of(document, 'agreement')
                for s in p['figures']['stages']
            ],
        ),
        bench=''.join(
            f'<p><code>{escape(p["figures"]["command"])}</code></p>'
            + _table(BENCH, [_bench_row(row) for row in p['figures']['rows']])
            for p in parts_of(document, 'deadlines')
        )
        or NOTHING,
    )
    return page_of('TensorRT on this GPU', lead, body, {k: str(v) for k, v in machine.items()})


NOTHING = '<p>Nothing: the table of parts says why.</p>'
LATENCY_HEAD = (
    'library',
    'form',
    'precision',
    'ms',
    'p99 ms',
    'each stage, ms',
    'of it on the GPU, ms',
    'why not',
)


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    return html_table([head, *rows]) if rows else NOTHING


def _latency_row(row: dict[str, Any]) -> tuple[str, ...]:
    who = (row['library'], row['form'], row['precision'])
    if 'whole_ms' not in row:
        return (*who, '-', '-', '-', '-', row.get('left_out') or row['failed'])
    each, device = (
        ' '.join(f'{ms:.3f}' for ms in row.get(name, ())) or '-'
        for name in ('stage_ms', 'device_ms')
    )
    return (*who, f'{row["whole_ms"]:.3f}', f'{row["whole_p99_ms"]:.3f}', each, device, '')


def _build_row(part: dict[str, Any]) -> tuple[str, ...]:
    figures = part['figures']
    stages = figures['stages']
    return (
        part['ladder'],
        part['precision'],
        figures['library'],
        figures['built_for'],
        str(stages['engines']),
        f'{stages["seconds"]:.2f}',
        f'{figures["one graph"]["seconds"]:.2f}',
        f'{stages["mib"]:.1f}',
    )


def _bench_row(row: dict[str, Any]) -> tuple[str, ...]:
    values = [row.get(name) for name in BENCH]
    return tuple('-' if v is None else v if isinstance(v, str) else f'{v:.4g}' for v in values)


def latency_figure(rows: list[dict[str, Any]]) -> Figure:
    """A bar per contender that ran, in pieces of its stages."""
    rows = [row for row in rows if 'whole_ms' in row]
    longest = max(row['whole_ms'] for row in rows)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(10, 0.9 + 0.34 * len(rows)))
        axes = figure.subplots()
        for place, row in enumerate(rows):
            left, count = 0.0, len(row['stage_ms'])
            # The sum of medians is not the median of sums.
            scale = row['whole_ms'] / sum(row['stage_ms'])
            for k, ms in enumerate(row['stage_ms']):
                # From dark to light, so white letters come first.
                shade = 0.25 + 0.6 * k / max(1, count - 1)
                color = mpl.colormaps['viridis'](shade)
                axes.barh(place, scale * ms, left=left, color=color, edgecolor='white', lw=0.8)
                if count > 1 and scale * ms > NAMED_SHARE * longest:
                    axes.text(
                        left + scale * ms / 2,
                        place,
                        f'{ms:.3g}',
                        color='white' if shade < LIGHT else 'black',
                        ha='center',
                        va='center',
                        size=8,
                    )
                left += scale * ms
            axes.text(left + 0.01 * longest, place, f'{row["whole_ms"]:.3g}', va='center', size=9)
        names = [f'{r["library"]}, {r["form"]}, {r["precision"]}' for r in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.invert_yaxis()
        axes.grid(visible=False, axis='y')
        axes.set(xlabel='median time of a frame (ms)', xlim=(0, 1.08 * longest))
        figure.set_layout_engine('constrained')
    return figure
