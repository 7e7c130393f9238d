"""Measured ladders as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from matplotlib.figure import Figure

from anytime_dnn_ros.evaluate.curve import LadderCurve
from anytime_dnn_ros.evaluate.judged import percent
from anytime_dnn_ros.evaluate.measurement import Measurement
from anytime_dnn_ros.evaluate.monotone import FALLS
from anytime_dnn_ros.evaluate.plots import (
    MMAC,
    curve_figure,
    monotone_figure,
    reliability_figure,
    rendered,
    rule_figure,
)

SHELL = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff;
  max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
h1 {{ font-size: 1.6rem; margin-bottom: 0 }}
h2 {{ font-size: 1.15rem; margin: 2.2rem 0 .2rem }}
h3 {{ font-size: 1rem; margin: 1.6rem 0 .2rem }}
p {{ margin: .2rem 0 .6rem; color: #52606d }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; width: 100%; font-size: .9rem }}
td, th {{ text-align: left; padding: .35rem .6rem; border-bottom: 1px solid #e4e7eb }}
td.n, th.n {{ text-align: right; font-variant-numeric: tabular-nums }}
svg {{ width: 100%; height: auto }}
footer {{ margin: 2.5rem 0 1rem; color: #52606d; font-size: .85rem }}
</style></head><body>
<h1>{title}</h1>
<p>{lead}</p>
{body}
<footer>{versions}</footer>
</body></html>
"""

BODY = """{ladders}
<h2>Accuracy against cost</h2>
<p>The answer of the newest finished exit. The cost is sequential: everything that was computed
until that answer was out, also what a contract ladder computes twice.</p>
{curves}
<h2>Exits</h2>
<p>NLL is the mean of -log p(true class) in nats; ECE the expected calibration error over 15 equal
bins of confidence; both at temperature 1 and at the bundle's own temperatures.</p>
{exits}
<h2>What is published</h2>
<p>After each exit a guard publishes an answer that weighs all answers so far (<i>product</i>), or
the most confident one so far (<i>caching</i>). Declared is the mean of the accuracy that each
answer claims for itself; a label set holds the true class as often as stated.</p>
{published}
{rules}
<h2>Later is worse</h2>
<p>Images whose probability of the true class falls from some exit to a later one by more than
so much (temperature 1), and images answered right at some exit and wrong at a later one.</p>
{monotone}
{violations}
<h2>Reliability</h2>
<p>On the dashed line a confidence of 0.8 is right 8 times in 10. Below it the ladder claims too
much. Bins with fewer than 0.5 % of the answers are left out.</p>
{reliability}"""

RULES_LEAD = (
    "Each image leaves at the exit where a rule of the bundle's quality data says its answer is "
    'good enough; one point per mean cost that a rule was fitted for. Simulated on these images.'
)


def html_page(measurement: Measurement, versions: Mapping[str, str]) -> str:
    """The page.

    Args:
        measurement: At least one ladder.
        versions: Of whatever made the figures, by name.
    """
    m = measurement
    lead = (
        f'AUC is the mean accuracy over a budget of {m.macs.low / MMAC:.4g} to '
        f'{m.macs.high / MMAC:.4g} MMAC ({m.macs_note}) and of {m.times_ms.low:.4g} to '
        f'{m.times_ms.high:.3g} ms ({m.times_note}); a guess counts before the first '
        'exit. By chance of the sample alone, an accuracy of '
        f'{m.num_images} images is known to about ±{m.margin:.1%} (95 %). '
        f'{m.timing_note}'
    )
    body = BODY.format(
        ladders=html_table(_ladder_rows(m)),
        curves=inline_svg(curve_figure(m.ladders, m.title, m.macs, m.times_ms)),
        exits=''.join(
            f'<h3>{escape(ladder.name)}</h3><p>{escape(_origin(ladder))}</p>'
            f'{html_table(_exit_rows(ladder))}'
            for ladder in m.ladders
        ),
        published=''.join(
            f'<h3>{escape(ladder.name)}</h3><p>{escape(_guard(ladder))}</p>'
            f'{html_table(_published_rows(ladder))}'
            for ladder in m.ladders
        ),
        rules=''.join(
            f'<h2>Exit rules: {escape(ladder.name)}</h2><p>{RULES_LEAD}</p>'
            f'{inline_svg(rule_figure(ladder))}'
            for ladder in m.ladders
            if ladder.exit_rules
        ),
        monotone=inline_svg(monotone_figure(m.ladders)),
        violations=html_table(_violation_rows(m.ladders)),
        reliability=''.join(
            f'<h3>{escape(ladder.name)}</h3>{inline_svg(reliability_figure(ladder))}'
            for ladder in m.ladders
        ),
    )
    return page_of(m.title, lead, body, versions)


def page_of(title: str, lead: str, body: str, versions: Mapping[str, str]) -> str:
    """A page of ours around its own part.

    Args:
        title: Plain text.
        lead: Plain text.
        body: HTML.
        versions: Of whatever made the figures, by name.
    """
    return SHELL.format(
        title=escape(title),
        lead=escape(lead),
        body=body,
        versions=escape(' · '.join(f'{k} {v}' for k, v in versions.items())),
    )


def _ladder_rows(m: Measurement) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [
        (
            'ladder',
            'kind',
            'AUC over MMAC, %',
            'AUC over ms, %',
            'exits',
            'first exit, %',
            'last exit, %',
            'MMAC in all',
        )
    ]
    for ladder in m.ladders:
        first, last = ladder.exits[0], ladder.exits[-1]
        rows.append(
            (
                ladder.name,
                ladder.kind,
                f'{100 * ladder.area(m.macs, "macs_sequential"):.2f}',
                f'{100 * ladder.area(m.times_ms, "time_ms"):.2f}',
                str(len(ladder.exits)),
                f'{100 * first.top1:.2f}',
                f'{100 * last.top1:.2f}',
                f'{last.macs_sequential / MMAC:.2f}',
            )
        )
    return rows


def _origin(ladder: LadderCurve) -> str:
    if ladder.quality_data is None:
        return f'{ladder.path}: no quality data, so no temperatures; see `anytime-dnn calibrate`'
    return f'{ladder.path}; temperatures T from {ladder.quality_data}'


def _exit_rows(ladder: LadderCurve) -> list[tuple[str, ...]]:
    def shown(value: float | None, form: str) -> str:
        return '-' if value is None else form.format(value)

    heads = ('exit', 'MMAC', 'ms', 'p99 ms', 'top-1 %', 'NLL', 'NLL at T', 'ECE %', 'ECE at T %')
    rows: list[tuple[str, ...]] = [(*heads, 'temperature T')]
    for number, e in enumerate(ladder.exits, start=1):
        rows.append(
            (
                f'{number} {e.name}',
                f'{e.macs_sequential / MMAC:.2f}',
                f'{e.time_ms:.3f}',
                f'{e.time_p99_ms:.3f}',
                f'{100 * e.top1:.2f}',
                f'{e.nll:.3f}',
                shown(e.nll_calibrated, '{:.3f}'),
                f'{100 * e.ece:.2f}',
                '-' if e.ece_calibrated is None else f'{100 * e.ece_calibrated:.2f}',
                shown(e.temperature, '{:.3f}'),
            )
        )
    return rows


def _guard(ladder: LadderCurve) -> str:
    falls = ladder.judged.declared_violations
    if falls is None:
        return f'guard: {ladder.judged.monotone}; nothing may be declared of this bundle'
    return f'guard: {ladder.judged.monotone}; what is declared falls for {falls:.2%} of the images'


def _published_rows(ladder: LadderCurve) -> list[tuple[str, ...]]:
    heads = ('exit', 'top-1 %', 'declared %', 'ECE %', 'coverage stated %', 'coverage %')
    rows: list[tuple[str, ...]] = [(*heads, 'classes in the set')]
    stated = ladder.label_coverage or (None,) * len(ladder.exits)
    for number, (e, said) in enumerate(zip(ladder.exits, ladder.judged.exits, strict=True), 1):
        rows.append(
            (
                f'{number} {e.name}',
                percent(said.accuracy),
                percent(said.declared_accuracy),
                percent(said.ece),
                percent(stated[number - 1]),
                percent(said.coverage),
                '-' if said.label_set_size is None else f'{said.label_set_size:.2f}',
            )
        )
    return rows


def _violation_rows(ladders: Sequence[LadderCurve]) -> list[tuple[str, ...]]:
    falls = [f'p(true) falls by > {d:g}, %' for d in FALLS]
    heads = ('ladder', *falls, 'right, then wrong, %', 'exits below an earlier one, %')
    rows: list[tuple[str, ...]] = [heads]
    for ladder in ladders:
        readings = [(ladder.name, ladder.monotone_violations)]
        if ladder.monotone_violations_calibrated:
            readings.append((f'{ladder.name}, at T', ladder.monotone_violations_calibrated))
        published = f'{ladder.name}, published ({ladder.judged.monotone})'
        readings.append((published, ladder.judged.monotone_violations))
        rows += [
            (name, *(f'{100 * share:.2f}' for share in shares.values()))
            for name, shares in readings
        ]
    return rows


def html_table(rows: Sequence[tuple[str, ...]]) -> str:
    """A table of plain texts, the first row its head."""
    head, *body = rows
    # A column of numbers is read from its right end.
    numbers = [all(_is_number(row[i]) for row in body) for i in range(len(head))]

    def cells(row: tuple[str, ...], tag: str) -> str:
        return ''.join(
            f'<{tag}{" class=" + chr(34) + "n" + chr(34) if number else ""}>{escape(text)}</{tag}>'
            for text, number in zip(row, numbers, strict=True)
        )

    lines = ''.join(f'<tr>{cells(row, "td")}</tr>' for row in body)
    return (
        f'<div class="wide"><table><thead><tr>{cells(head, "th")}</tr></thead>'
        f'<tbody>{lines}</tbody></table></div>'
    )


def _is_number(text: str) -> bool:
    return text == '-' or text.replace('.', '', 1).isdigit()


def inline_svg(figure: Figure) -> str:
    """The figure as a part of a page."""
    text = rendered(figure, 'svg').decode('utf-8')
    return text[text.index('<svg') :]
