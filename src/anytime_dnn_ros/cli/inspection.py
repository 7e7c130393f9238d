"""`anytime-dnn inspect`: what a ladder bundle holds, after every check on it has passed.

With `--engine` it is what TensorRT made of it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from anytime_dnn_ros.engines.tensorrt_options import PRECISIONS
from anytime_dnn_ros.errors import ConfigurationError, MissingDependencyError
from anytime_dnn_ros.ladder.bundle import Bundle, find_bundle, read_bundle
from anytime_dnn_ros.ladder.manifest import StageSpec
from anytime_dnn_ros.timing.profile_cache import NO_CACHE

COLUMNS = ('stage', 'precision', 'MMACs', 'parameters (M)', 'input', 'agreement', 'file (MB)')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn inspect`."""
    parser.add_argument(
        'bundle',
        help='name of a shipped bundle, or the folder of one; with --engine also the file of an '
        'engine, or of what trtexec --exportLayerInfo wrote',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write the figures here')
    engine = parser.add_argument_group('layers of the TensorRT engines, on the GPU they are for')
    engine.add_argument(
        '--engine',
        action='store_true',
        help='show layers, precisions, kernels and memory; engines that are not kept are built',
    )
    engine.add_argument('--html', type=Path, metavar='FILE', help='draw the layers as a page here')
    engine.add_argument(
        '--precision',
        choices=PRECISIONS,
        default='auto',
        help="of a bundle's engines (default: auto, int8 where quantised, else fp16)",
    )
    engine.add_argument(
        '--cache-dir',
        default='',
        metavar='DIR',
        help=f'where engines are kept (default: the usual place; {NO_CACHE!r}: nowhere)',
    )


def run(args: argparse.Namespace) -> int:
    """Prints the bundle's stages, or the layers of its engines.

    Raises:
        BundleError: There is no such bundle, or it is damaged.
        ConfigurationError: An option does not fit the others, or there is no GPU for `--engine`.
        EngineError: An engine cannot be built, loaded or read.
    """
    if args.engine:
        return _run_engine(args)
    if args.html:
        raise ConfigurationError('--html draws the layers of engines: give --engine as well')
    bundle = read_bundle(find_bundle(args.bundle))
    figures = bundle_figures(bundle)
    print(describe(figures))
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + '\n', encoding='utf-8')
    return 0


def _run_engine(args: argparse.Namespace) -> int:
    # Not what a robot that only inspects a bundle must have.
    from anytime_dnn_ros.cli import engine_inspection as inspection  # noqa: PLC0415

    lead, engines = inspection.inspect_engines(
        args.bundle, precision=args.precision, cache_dir=args.cache_dir
    )
    print(lead)
    for engine in engines:
        print(f'\n{inspection.describe_engine(engine)}')
    if args.json:
        inspection.write_figures(args.json, engines)
    if args.html:
        try:
            from anytime_dnn_ros.evaluate.engine_page import engine_page  # noqa: PLC0415
            from anytime_dnn_ros.evaluate.versions import versions  # noqa: PLC0415
        except ImportError as error:
            raise MissingDependencyError(
                f'--html needs more than a robot has ({error}): pip install '
                "'anytime_dnn_ros[demo]', or take --json"
            ) from error
        args.html.write_text(engine_page(engines, lead, versions()), encoding='utf-8')
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
