"""What a forge command prints and writes of the ladder it built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from anytime_dnn_ros.forge.lite_ladder import IMAGE, Candidate
from anytime_dnn_ros.ladder.manifest import CombineSpec


def candidate_table(candidates: Sequence[Candidate]) -> Table:
    """What each candidate costs and how faithful it is."""
    table = Table(title='candidates (1 thread; right answers on the odd photos, optimistic)')
    for column in ('net', 'MMAC', 'MB', 'float ms', 'int8 ms', 'agreement', 'float', 'int8'):
        table.add_column(column, justify='left' if column == 'net' else 'right', no_wrap=True)
    for c in candidates:
        table.add_row(
            c.name.removesuffix('_int8'),
            f'{c.count.macs / 1e6:.0f}',
            f'{len(c.model) / 1e6:.2f}',
            f'{c.float_ms:.2f}',
            f'{c.int8_ms:.2f}',
            f'{c.agreement:.3f}',
            f'{c.float_accuracy:.3f}',
            f'{c.int8_accuracy:.3f}',
        )
    return table


def rule_table(stages: Sequence[Candidate], figures: dict[str, list[list[float]]]) -> Table:
    """How right each combination rule is after each stage; see `rule_figures`."""
    table = Table(title='combined prefix on the odd photos: right answers / nats')
    table.add_column('up to')
    for rule in figures:
        table.add_column(rule, justify='right')
    for k, stage in enumerate(stages):
        table.add_row(
            stage.name.removesuffix('_int8'),
            *(f'{rows[k][0]:.3f} / {rows[k][1]:.3f}' for rows in figures.values()),
        )
    return table


def report(
    candidates: Sequence[Candidate],
    stages: Sequence[Candidate],
    spec: CombineSpec,
    figures: dict[str, list[list[float]]],
) -> dict[str, Any]:
    """All figures of a build, for JSON."""
    return {
        'candidates': [
            {
                'name': c.name,
                'macs': c.count.macs,
                'int8_share': c.count.int8_share,
                'parameters': c.count.parameters,
                'bytes': len(c.model),
                'float_ms': c.float_ms,
                'int8_ms': c.int8_ms,
                'agreement': c.agreement,
                'float_accuracy': c.float_accuracy,
                'int8_accuracy': c.int8_accuracy,
            }
            for c in candidates
        ],
        'stages': [c.name for c in stages],
        'weights': spec.weights,
        'prefix_accuracy_and_nll_by_rule': figures,
        'image': {'resize': IMAGE.resize, 'interpolation': IMAGE.interpolation},
    }
