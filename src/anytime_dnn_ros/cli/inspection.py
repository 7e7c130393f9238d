"""`anytime-dnn inspect`: what a ladder bundle holds, after every check on it has passed."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.ladder.manifest import StageSpec

COLUMNS = ('stage', 'precision', 'MMACs', 'parameters (M)', 'input', 'agreement', 'file (MB)')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn inspect`."""
    parser.add_argument('bundle', help='name of a shipped bundle, or the folder of one')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')


def run(args: argparse.Namespace) -> int:
    """Prints the bundle's stages.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
    """
    bundle = read_bundle(find_bundle(args.bundle))
    figures = bundle_figures(bundle)
    print(describe(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
    return 0


def bundle_figures(bundle: Bundle) -> dict[str, Any]:
    """What `--json` writes: the bundle and its stages in running order."""
    manifest = bundle.manifest
    return {
        'name': manifest.name,
        'task': manifest.task,
        'kind': manifest.kind,
        'combine': manifest.combine.rule,
        'classes': manifest.num_classes,
        'accuracy_data': bundle.quality.data if bundle.quality else None,
        'stages': [_stage_figures(bundle, i, s) for i, s in enumerate(manifest.stages)],
    }


def _stage_figures(bundle: Bundle, index: int, stage: StageSpec) -> dict[str, Any]:
    return {
        'name': stage.name,
        'precision': stage.precision,
        'macs': stage.macs,
        'parameters': stage.parameters,
        'inputs': {t.source: list(t.shape) for t in stage.inputs},
        'agreement': stage.agreement,
        'file_bytes': bundle.stage_file(index).stat().st_size,
    }


def describe(figures: dict[str, Any]) -> str:
    """The bundle as text: one line about it, and one per stage.

    Args:
        figures: From `bundle_figures`.
    """
    rows = [COLUMNS]
    for stage in figures['stages']:
        agreement = stage['agreement']
        rows.append(
            (
                stage['name'],
                stage['precision'],
                f'{stage["macs"] / 1e6:.1f}',
                f'{stage["parameters"] / 1e6:.2f}',
                ', '.join('x'.join(map(str, shape[1:])) for shape in stage['inputs'].values()),
                f'{agreement["top1"]:.1%}' if agreement else '-',
                f'{stage["file_bytes"] / 1e6:.2f}',
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    head = (
        f'{figures["name"]}: {figures["task"]}, {figures["kind"]}, {figures["classes"]} classes, '
        f'answers combined by {figures["combine"]!r}; every hash is right'
    )
    lines = [head]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append('  '.join(cells).rstrip())
    data = {s['agreement']['data'] for s in figures['stages'] if s['agreement']}
    lines += [f'agreement with the float parent: {name}' for name in sorted(data)]
    return '\n'.join(lines)
