"""The benchmark of all networks and rules: which rows it keeps from an earlier run."""

import importlib.util
import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

pytest.importorskip('matplotlib', reason='matplotlib is not installed (the forge extra)')
pytest.importorskip('rich', reason='rich is not installed (the forge extra)')

SPEC = importlib.util.spec_from_file_location(
    'networks_and_rules', Path(__file__).parents[1] / 'benchmarks' / 'networks_and_rules.py'
)
benchmark = importlib.util.module_from_spec(SPEC)
# A dataclass looks its own module up.
sys.modules[SPEC.name] = benchmark
SPEC.loader.exec_module(benchmark)

OPTIONS = Namespace(data=Path('data'), mmac=10.0, epochs=6, limit=15000, lr=0.1, batch=64)
# In place of `anytime-dnn`: leaves what `train` leaves of its command, or nothing.
TRAINS = """
import json, pathlib, shlex, sys
bundle = pathlib.Path(sys.argv[sys.argv.index('--out') + 1])
bundle.mkdir(exist_ok=True)
command = shlex.join(['anytime-dnn', *sys.argv[1:]])
(bundle / 'manifest.json').write_text(json.dumps({'provenance': {'command': command}}))
"""


def command_of(row):
    return json.loads((row.bundle / 'manifest.json').read_text())['provenance']['command']


@pytest.fixture
def row(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, 'COMMAND', [sys.executable, '-c', TRAINS])
    return benchmark.Row('msdnet', 'sum', tmp_path / 'msdnet-sum')


def test_a_row_of_the_same_command_is_kept(row, monkeypatch):
    benchmark.train(row, OPTIONS)
    monkeypatch.setattr(benchmark.subprocess, 'run', None)
    benchmark.train(row, OPTIONS)
    assert row.log.read_text() == f'{command_of(row)}\n'


def test_a_row_of_other_options_is_trained_anew(row):
    benchmark.train(row, OPTIONS)
    longer = Namespace(**{**vars(OPTIONS), 'epochs': 7})
    benchmark.train(row, longer)
    assert '--epochs 7' in command_of(row)
    assert benchmark.is_trained(row, longer)
    assert not benchmark.is_trained(row, OPTIONS)
