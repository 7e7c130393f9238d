"""`anytime-dnn ensemble`: a ladder made of whole nets, answers combined over the prefix."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options of `anytime-dnn ensemble`."""
    parser.add_argument('ladder', choices=['lite'], help='which ladder to build')
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        metavar='ZIP',
        help='one photo per ImageNet class, named <wnid>_<name>.jpg',
    )
    parser.add_argument('--out', type=Path, default=Path('build/lite'), help='the bundle folder')
    parser.add_argument('--max-mb', type=float, default=25.0, help='most size of all stages, MB')
    parser.add_argument(
        '--min-agreement',
        type=float,
        default=0.95,
        help='least share of photos on which a stage agrees with its float parent',
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures here')


def run(args: argparse.Namespace) -> int:
    """Builds the ladder that `args` ask for and prints what it measured.

    Raises:
        AnytimeError: The photos or weights are missing, or no stage fits.
        ModuleNotFoundError: The forge extra is missing; the command line names the mend.
    """
    # The command line must be able to show its help without the forge extra.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import track  # noqa: PLC0415

    from anytime_dnn_ros.forge import (  # noqa: PLC0415
        efficientnet_lite,
        ladder_tables,
        lite_ladder,
    )
    from anytime_dnn_ros.forge.photos import read_photos  # noqa: PLC0415

    console = Console()
    photos = read_photos(args.data, efficientnet_lite.NUM_CLASSES)
    candidates = [
        lite_ladder.build_candidate(net, resolution, photos)
        for net, resolution in track(
            lite_ladder.CANDIDATES, 'export, quantise, measure', console=console
        )
    ]
    console.print(ladder_tables.candidate_table(candidates))
    stages = lite_ladder.choose_stages(
        candidates, max_bytes=int(args.max_mb * 1e6), min_agreement=args.min_agreement
    )
    spec = lite_ladder.stack_spec(stages)
    figures = lite_ladder.rule_figures(stages, spec)
    console.print(ladder_tables.rule_table(stages, figures))
    bundle = lite_ladder.write_ladder(args.out, stages, spec, photos)
    size_mb = sum(len(stage.model) for stage in stages) / 1e6
    console.print(f'{bundle.path}: {len(stages)} stages, {size_mb:.1f} MB')
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        report = ladder_tables.report(candidates, stages, spec, figures)
        args.json.write_text(json.dumps(report, indent=2) + '\n', encoding='utf-8')
    return 0
