"""The figures of a bench on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from anytime_dnn_ros.bench.outcome import Pass
from anytime_dnn_ros.bench.rows import row

PERCENT = 100
HEADS = (
    'policy',
    'missed',
    'first 2 s',
    'right',
    'of oracle',
    'streaming',
    'declared',
    'stages',
    'age p50',
    'age p99',
    'cut p99',
)
UNITS = (
    'missed to declared in %; ages and cut in ms; cut: from the planned instant of the timer to '
    'the answer out'
)
# Narrow enough for a terminal of 80 columns.
SHORT_HEADS = (
    *('policy', 'miss', '2 s', 'right', 'oracle', 'stream', 'decl.'),
    *('stages', 'p50', 'p99', 'cut'),
)


def figures_table(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """One table per load and deadline, in the order of the rows."""
    tables: dict[tuple[str, float], Table] = {}
    for r in rows:
        key = (r['load'], r['deadline_ms'])
        if key not in tables:
            title = f'{escape(r["load"])}, deadline {r["deadline_ms"]:g} ms'
            tables[key] = Table(title=title, title_justify='left', box=SIMPLE, padding=0)
            for i, head in enumerate(SHORT_HEADS):
                tables[key].add_column(head, justify='right' if i else 'left', no_wrap=True)
        tables[key].add_row(*cells(r))
    return list(tables.values())


def cells(r: dict[str, Any]) -> tuple[str, ...]:
    """A row as texts, in the order of `HEADS`."""
    return (
        r['policy'],
        *_percents(
            r[key]
            for key in (
                'miss_rate',
                'miss_rate_first_2s',
                'accuracy',
                'share_of_oracle',
                'accuracy_streaming',
                'declared_accuracy',
            )
        ),
        _shown(r['stages_mean']),
        _shown(r['age_p50_ms']),
        _shown(r['age_p99_ms']),
        _shown(r['cancel_to_result_ms']['p99']),
    )


def pass_line(one: Pass) -> str:
    """One line on a pass that has just ended."""
    r = row(one)
    missed, first, accuracy = _percents(
        r[key] for key in ('miss_rate', 'miss_rate_first_2s', 'accuracy')
    )
    return (
        f'{one.load:8s} {one.deadline_ms:6.1f} ms  {one.policy:10s} missed {missed:>6s} %  '
        f'first 2 s {first:>6s} %  accuracy {accuracy:>6s} %  '
        f'{_shown(r["stages_mean"])} stages'
    )


def _percents(values: Iterable[float | None]) -> list[str]:
    return [_shown(None if v is None else PERCENT * v) for v in values]


def _shown(value: float | None) -> str:
    return '-' if value is None else f'{value:.2f}'
