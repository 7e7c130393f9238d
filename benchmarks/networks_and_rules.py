"""Every network trained by every rule that makes sense for it, on the same data and budget.

Each row is one `anytime-dnn train`; the command stands in its log. Rows that the same command made
are kept, so that a run that was stopped goes on. Accuracy is counted once, on test images, by
`anytime-dnn report` over all the bundles.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console

from anytime_dnn_ros.forge.networks import NETWORKS, NetworkSpec, build
from anytime_dnn_ros.forge.rules import RULES, sensible_rules

CONSOLE = Console()
COMMAND = [sys.executable, '-m', 'anytime_dnn_ros.cli']
# A ladder of snapshots runs its members one after another: each may cost its share of the budget.
CYCLES = 2
SHAPE, CLASSES = (1, 28, 28), 10
FROM_SCRATCH = [name for name, network in NETWORKS.items() if not network.pretrained]


@dataclass(frozen=True)
class Row:
    """One network, one rule and the folder of their bundle."""

    network: str
    rule: str
    bundle: Path

    @property
    def log(self) -> Path:
        """What the training said."""
        return self.bundle.with_suffix('.log')


def sensible_rows(out: Path) -> list[Row]:
    """Every network with every rule that makes sense for it."""
    rows = []
    for network in FROM_SCRATCH:
        net = build(NetworkSpec(network, SHAPE, CLASSES))
        rows += [Row(network, rule, out / f'{network}-{rule}') for rule in sensible_rules(net)]
    return rows


def train_command(row: Row, args: argparse.Namespace) -> list[str]:
    """The arguments of `anytime-dnn` for one row."""
    snapshots = row.rule == 'snapshot'
    command = ['train', row.network, '--rule', row.rule, '--data', str(args.data)]
    command += ['--mmac', f'{args.mmac / (CYCLES if snapshots else 1):g}']
    if snapshots:
        command += ['--rule-option', f'cycles={CYCLES}']
    command += ['--epochs', str(args.epochs), '--limit', str(args.limit), '--lr', str(args.lr)]
    command += ['--batch', str(args.batch), '--threads', '1']
    return [*command, '--out', str(row.bundle)]


def is_trained(row: Row, args: argparse.Namespace) -> bool:
    """Whether the row's bundle is there, and is of these options and no others."""
    manifest = row.bundle / 'manifest.json'
    if not manifest.exists():
        return False
    command: str = json.loads(manifest.read_text(encoding='utf-8'))['provenance']['command']
    return command == f'anytime-dnn {shlex.join(train_command(row, args))}'


def train(row: Row, args: argparse.Namespace) -> None:
    """Trains one row, unless its bundle is there and came from the same command."""
    if is_trained(row, args):
        return
    command = train_command(row, args)
    CONSOLE.print(f'anytime-dnn {shlex.join(command)}', soft_wrap=True, highlight=False)
    with row.log.open('w', encoding='utf-8') as log:
        log.write(f'anytime-dnn {shlex.join(command)}\n')
        log.flush()
        done = subprocess.run([*COMMAND, *command], stdout=log, stderr=log, check=False)
    if done.returncode:
        CONSOLE.print(f'[red]failed:[/] {row.log}')


def markdown(ladders: list[dict[str, Any]]) -> str:
    """The table of the documentation, networks in their own order, best area first."""
    lines = [
        '| network | rule | kind | area | first exit | last exit | all exits, top-1 % |',
        '|---|---|---|---|---|---|---|',
    ]
    for ladder in ladders:
        network, rule = ladder['name'].split('-', 1)
        exits = ladder['exits']
        ends = [f'{e["top1"]:.1%} at {e["macs_sequential"] / 1e6:.1f} M' for e in exits]
        each = ' '.join(f'{100 * e["top1"]:.1f}' for e in exits)
        lines.append(
            f'| {network} | {rule} | {ladder["kind"]} | {ladder["auc"]:.2%} | {ends[0]} '
            f'| {ends[-1]} | {each} |'
        )
    return '\n'.join(lines) + '\n'


def plot(ladders: list[dict[str, Any]], path: Path, title: str) -> None:
    """One panel per network, one line per rule, all on the same axes."""
    mpl.use('agg')
    figure, panels = plt.subplots(2, 3, figsize=(13, 8), sharex=True, sharey=True)
    colors = dict(zip(RULES, plt.get_cmap('tab10').colors, strict=False))
    markers = dict(zip(RULES, 'osD^v<>PX*', strict=False))
    for name, panel in zip(FROM_SCRATCH, panels.flat, strict=False):
        panel.set_title(name)
        panel.grid(alpha=0.3)
        for ladder in ladders:
            network, rule = ladder['name'].split('-', 1)
            if network == name:
                macs = [e['macs_sequential'] / 1e6 for e in ladder['exits']]
                top1 = [100 * e['top1'] for e in ladder['exits']]
                panel.plot(macs, top1, color=colors[rule], marker=markers[rule], ms=5, lw=1.2)
    values = [100 * e['top1'] for ladder in ladders for e in ladder['exits']]
    panels[0, 0].set_ylim(max(0.0, float(np.percentile(values, 4))), max(values) + 0.5)
    figure.supxlabel('sequential cost, million multiply-accumulates')
    figure.supylabel('top-1 accuracy, % of test images')
    figure.suptitle(title)
    handles = [
        mpl.lines.Line2D([], [], color=colors[r], marker=markers[r], label=r) for r in RULES
    ]
    figure.legend(handles=handles, loc='outside right center')
    figure.set_layout_engine('constrained')
    figure.savefig(path, dpi=90)


def main() -> int:
    """Trains, measures, writes `table.md`, `curves.png` and `report.json` into the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--out', type=Path, default=Path('build/bench/networks_and_rules'))
    parser.add_argument('--data', type=Path, default=Path('fashion-mnist'))
    parser.add_argument('--mmac', type=float, default=10.0, help='of all stages (%(default)s)')
    parser.add_argument('--epochs', type=int, default=4, help='(%(default)s)')
    parser.add_argument('--limit', type=int, default=12000, help='training images (%(default)s)')
    # Small steps are many: a short training needs them.
    parser.add_argument('--batch', type=int, default=64, help='(%(default)s)')
    parser.add_argument('--lr', type=float, default=0.1, help='(%(default)s)')
    parser.add_argument('--jobs', type=int, default=1, help='trainings at once, 1 thread each')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = sensible_rows(args.out)
    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(lambda row: train(row, args), rows))
    bundles = [row.bundle for row in rows if is_trained(row, args)]
    if not bundles:
        CONSOLE.print(f'no row could be trained; the logs in {args.out} say why', style='red')
        return 1
    report = args.out / 'report.json'
    command = ['report', *map(str, bundles), '--data', str(args.data), '--json', str(report)]
    command += ['--budget-mmac', f'0,{args.mmac:g}']
    subprocess.run([*COMMAND, *command], check=True, stdout=subprocess.DEVNULL)
    ladders = json.loads(report.read_text(encoding='utf-8'))['ladders']
    ladders.sort(key=lambda x: (FROM_SCRATCH.index(x['name'].split('-', 1)[0]), -x['auc']))
    title = (
        f'{args.data}, {args.limit} training images, {args.epochs} epochs, '
        f'at most {args.mmac:g} MMAC in all'
    )
    (args.out / 'table.md').write_text(markdown(ladders), encoding='utf-8')
    plot(ladders, args.out / 'curves.png', title)
    CONSOLE.print(f'{len(ladders)} of {len(rows)} rows: {args.out}/table.md, curves.png')
    return 0 if len(ladders) == len(rows) else 1


if __name__ == '__main__':
    sys.exit(main())
