"""TensorRT on the GPU of this machine, in one command: builds, agreement, latency, deadlines.

Measured in one run against torch eager and ONNX Runtime CUDA, each in stages and as one graph with
all heads. A part that cannot be here is left out and says why; one that fails leaves the others as
they are. Exit code: 0 = TensorRT ran and every figure is reached, 1 = a part failed or a figure is
not reached, 2 = no NVIDIA GPU (and no --dry-run), 3 = TensorRT is not here or does not serve this
GPU, all else is done.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from contenders import LeftOutError
from gpu_ladders import Ladder, Setting, forged_ladder, shipped_ladder
from gpu_page import DONE, FAILED, LEFT_OUT, goals, gpu_page
from gpu_parts import (
    PartFailedError,
    agreement,
    build,
    deadlines,
    latency,
    machine,
    same_answers,
    tensorrt_for,
)
from rich.console import Console

from anytime_dnn_ros.engines.tensorrt_library import find_device
from anytime_dnn_ros.errors import AnytimeError
from anytime_dnn_ros.whole_file import check_can_write, write_whole

CONSOLE = Console(highlight=False, soft_wrap=True)
NO_GPU, NO_TENSORRT = 2, 3
STYLES = {DONE: 'green', LEFT_OUT: 'yellow', FAILED: 'red'}


class Check:
    """Runs parts one after another and keeps what became of them."""

    def __init__(self) -> None:
        self.parts: list[dict[str, Any]] = []

    def run(
        self, kind: str, part: Callable[[], Any], ladder: str = '', precision: str = ''
    ) -> Any:
        """What the part gives; None where it gave nothing.

        Args:
            kind: What it is about.
            part: Raises `LeftOutError` where it cannot be here.
            ladder: Which it is about, if one.
            precision: Likewise.
        """
        name = ' '.join(filter(None, (kind, ladder, precision)))
        begin = time.perf_counter()
        result, figures, status, why = None, None, DONE, ''
        try:
            result = part()
            figures = result if isinstance(result, dict) else None
        except LeftOutError as error:
            status, why = LEFT_OUT, str(error)
        except PartFailedError as error:
            status, why, figures = FAILED, str(error), error.figures
        except AnytimeError as error:
            status, why = FAILED, str(error)
        # Whatever a library raises: the parts that follow are still to be done.
        except Exception as error:  # noqa: BLE001
            status, why = FAILED, f'{type(error).__name__}: {error}'
        seconds = time.perf_counter() - begin
        self.parts.append(
            {
                'name': name,
                'kind': kind,
                'ladder': ladder,
                'precision': precision,
                'status': status,
                'why': why,
                'seconds': seconds,
                'figures': figures,
            }
        )
        CONSOLE.print(
            f'[{STYLES[status]}]{status:8}[/] {seconds:6.1f} s  {name}', end='  ' if why else '\n'
        )
        if why:
            CONSOLE.print(why, markup=False)
        return result


def check(args: argparse.Namespace, setting: Setting) -> dict[str, Any]:
    """All parts; never raises because of one."""
    parts, lacking = Check(), _why_no_tensorrt(setting)
    parts.run('machine', lambda: machine(setting))
    ladders: list[Ladder | None] = [
        parts.run('ladder', lambda name=name: shipped_ladder(name, setting), name)
        for name in args.bundle
    ]
    if args.network:
        network = parts.run(
            'ladder', lambda: forged_ladder(args.network, args.image_size, setting), args.network
        )
        ladders.append(network)
    for ladder in filter(None, ladders):
        name = ladder.name
        parts.run('one graph', lambda one=ladder: same_answers(one), name)
        for precision, stages, whole in ladder.variants():
            parts.run(
                'build', lambda a=(stages, whole, precision): build(*a, setting), name, precision
            )
            parts.run(
                'agreement', lambda a=(stages, precision): agreement(*a, setting), name, precision
            )
        parts.run('latency', lambda one=ladder: latency(one, setting), name)
    engine = 'onnxruntime' if lacking else 'tensorrt'
    parts.run('deadlines', lambda: deadlines(setting, engine))
    document = {
        'dry_run': setting.dry,
        'why_no_tensorrt': lacking,
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
        'parts': parts.parts,
    }
    return {**document, 'goals': goals(document)}


def _why_no_tensorrt(setting: Setting) -> str:
    """Why TensorRT runs nothing here; empty if it does."""
    try:
        tensorrt_for(setting)
    except LeftOutError as error:
        return str(error)
    return ''


def main(words: list[str] | None = None) -> int:
    """Runs the check and writes `gpu_check.json` and `gpu_check.html`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('--out', type=Path, default=Path('build/gpu-check'), help='folder (%(default)s)')
    add('--dry-run', action='store_true', help='without a GPU: all that needs none')
    add('--bundle', nargs='*', default=['fashion', 'lite'], help='shipped names or folders')
    add(
        '--network',
        default='efficientnet_lite0',
        help="of the forge, exported here so that torch can run the same (%(default)s); '' = none",
    )
    add('--image-size', type=int, default=224, help='of that network, pixels (%(default)s)')
    add('--photos', type=Path, metavar='DIR', help='to compare answers on (synthetic frames)')
    add('--rounds', type=int, default=200, help='timed passes of each library (%(default)s)')
    add('--frames', type=int, default=600, help='of each pass of the bench (%(default)s)')
    add(
        '--target',
        default='8.6',
        help='compute capability to build for where there is no GPU that TensorRT for RTX serves '
        '(%(default)s)',
    )
    args = parser.parse_args(words)
    device = find_device()
    if device is None and not args.dry_run:
        print(
            'gpu_check: no NVIDIA GPU here (the CUDA driver finds none); with --dry-run, or `make '
            'gpu-check GPU_CHECK=--dry-run`, it does all that needs no GPU',
            file=sys.stderr,
        )
        return NO_GPU
    json_file, page = args.out / 'gpu_check.json', args.out / 'gpu_check.html'
    try:
        for file in (json_file, page):
            check_can_write(file)
        with tempfile.TemporaryDirectory() as folder:
            setting = Setting(
                device=None if args.dry_run else device,
                target=args.target,
                folder=Path(folder),
                rounds=args.rounds,
                frames=args.frames,
                photos=args.photos,
            )
            document = check(args, setting)
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(json_file, f'{text}\n'.encode())
        write_whole(page, gpu_page(document).encode())
    except AnytimeError as error:
        print(f'gpu_check: {error}', file=sys.stderr)
        return 1
    for goal in document['goals']:
        word = '[green]reached[/]' if goal['reached'] else '[red]NOT REACHED[/]'
        CONSOLE.print(f'{word}  {goal["figure"]}: {goal["value"]:.2f} ({goal["target"]})')
    CONSOLE.print(f'{json_file}\n{page}')
    failed = any(part['status'] == FAILED for part in document['parts'])
    if failed or not all(goal['reached'] for goal in document['goals']):
        return 1
    if document['why_no_tensorrt'] and not args.dry_run:
        print(
            f'gpu_check: TensorRT ran nothing here: {document["why_no_tensorrt"]}',
            file=sys.stderr,
        )
        return NO_TENSORRT
    return 0


if __name__ == '__main__':
    sys.exit(main())
