"""The benchmark of the house: what it takes for torch, and that it says why it has no figures."""

import importlib.util
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

SPEC = importlib.util.spec_from_file_location(
    'overhead', Path(__file__).parents[1] / 'benchmarks' / 'overhead.py'
)
overhead = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(overhead)


@pytest.mark.parametrize(
    ('path', 'expected'),
    [
        ('/venv/lib/python3.11/site-packages/torch/_C.so', True),
        ('/usr/lib/x86_64-linux-gnu/libtorch_cpu.so.2', True),
        ('/home/me/torch_robot/venv/lib/libfastrtps.so', False),
        ('[heap]', False),
    ],
)
def test_torch_is_told_from_a_folder_with_its_name(path, expected):
    assert overhead.is_torch(path) is expected


def test_a_node_that_answers_nothing_is_said_so(monkeypatch):
    watcher = SimpleNamespace(
        active=True, reports=[], spin_until=lambda *_: None, destroy_node=lambda: None
    )

    @contextmanager
    def program(*_):
        yield psutil.Process()

    monkeypatch.setattr(overhead, 'Watcher', lambda: watcher)
    monkeypatch.setattr(overhead, 'program', program)
    monkeypatch.setattr(overhead.subprocess, 'Popen', lambda _command: nullcontext())
    with pytest.raises(RuntimeError, match='with model x answered none of 30 frames of 1280x720'):
        overhead.serve('x', (720, 1280), 30)
