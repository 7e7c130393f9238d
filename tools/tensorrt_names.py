"""Which TensorRT names the package uses, and which versions of TensorRT have them.

`python tools/tensorrt_names.py` writes test/engines/tensorrt_names.json. It fetches the Python
bindings of each version with pip (1 MB each) and imports them against empty libraries, so a C
compiler is needed and neither TensorRT nor a GPU. Run it after a new name has come into use.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / 'test' / 'engines' / 'tensorrt_names.json'
PACKAGE = ROOT / 'src' / 'anytime_dnn_ros'
# What is claimed, and the wheel with the bindings of each.
WHEELS = {
    '8.6.1': 'tensorrt-bindings==8.6.1',
    '10.3.0': 'tensorrt-cu12-bindings==10.3.0',
    '10.13.3': 'tensorrt-cu12-bindings==10.13.3.9',
    '10.16.1': 'tensorrt-cu13-bindings==10.16.1.11',
    '11.0.0': 'tensorrt-cu13-bindings==11.0.0.114',
    '11.4.0': 'tensorrt-cu13-bindings==11.4.0.106',
    'rtx 1.7.1': 'tensorrt-rtx-cu13-bindings==1.7.1.116',
}
MODULE_ALIASES = {'trt_', '_trt'}
# Imports the bindings in the folder argv[1] and prints each name with its docstring.
DUMP = """
import json, sys
sys.path.insert(0, sys.argv[1])
import importlib
module = importlib.import_module(sys.argv[2])
names = {}
def walk(prefix, thing, depth):
    for name in dir(thing):
        if not name.startswith('__'):
            value = getattr(thing, name)
            names[prefix + name] = (getattr(value, '__doc__', '') or '') if callable(value) else ''
            if isinstance(value, type) and depth < 3:
                walk(prefix + name + '.', value, depth + 1)
walk('', module, 0)
json.dump(names, sys.stdout)
"""


class _Uses(ast.NodeVisitor):
    """Collects the TensorRT names of one file.

    A name is reached through `library.module`, through what is annotated as of a type of
    TensorRT, or in a class that is derived from one.
    """

    def __init__(self, tree: ast.Module) -> None:
        self.names: set[str] = set()
        self._aliases = set(MODULE_ALIASES)
        # What is annotated, and a class that was given another name, by the last identifier.
        self._types: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
                target = node.arg if isinstance(node, ast.arg) else _identifier(node.target)
                found = re.search(r'\btrt\.([\w.]+)', ast.unparse(node.annotation))
                if found:
                    self._types[target] = found[1]
            elif isinstance(node, ast.Assign) and self._is_module(node.value):
                self._aliases |= {_identifier(target) for target in node.targets}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and self._resolved(node.value):
                self._types |= {_identifier(t): self._resolved(node.value) for t in node.targets}
        self.visit(tree)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._resolved(node)
        if not name and _identifier(node.value) in self._types:
            name = f'{self._types[_identifier(node.value)]}.{node.attr}'
        if name and '__' not in name:
            self.names.add(name)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Attribute) and _identifier(node.func.value) in self._types:
            method = f'{self._types[_identifier(node.func.value)]}.{node.func.attr}'
            self.names |= {f'{method}({k.arg})' for k in node.keywords if k.arg}
        self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for base in filter(None, map(self._resolved, node.bases)):
            methods = [f for f in node.body if isinstance(f, ast.FunctionDef)]
            self.names |= {f'{base}.{f.name}' for f in methods if not f.name.startswith('_')}
        self.generic_visit(node)

    def _is_module(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute) and node.attr == 'module':
            return _identifier(node.value).lstrip('_') == 'library'
        return _identifier(node) in self._aliases and not isinstance(node, ast.Call)

    def _resolved(self, node: ast.AST) -> str:
        """`X.Y` for an expression `library.module.X.Y`; empty for any other."""
        if not isinstance(node, ast.Attribute):
            return ''
        if self._is_module(node.value):
            return node.attr
        before = self._resolved(node.value)
        return f'{before}.{node.attr}' if before else ''


def used_names(package: Path = PACKAGE) -> set[str]:
    """The TensorRT names in the sources, `Class.member`, keywords as `Class.method(keyword)`."""
    files = [f for f in package.rglob('*.py') if re.search('tensorrt|trt', f.read_text('utf-8'))]
    return set().union(*(_Uses(ast.parse(f.read_text('utf-8'))).names for f in files))


def _identifier(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ''


def _names_of(requirement: str, folder: Path) -> dict[str, str]:
    """Every name of one version and its docstring."""
    folder.mkdir()
    pip = [sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--only-binary', ':all:']
    subprocess.run([*pip, '-d', folder, requirement], check=True)
    with ZipFile(next(folder.glob('*.whl'))) as wheel:
        wheel.extractall(folder)
    binding = next(folder.rglob('tensorrt*.so'))
    _make_empty_libraries(binding, folder)
    environment = {**os.environ, 'LD_LIBRARY_PATH': str(folder)}
    module = f'{binding.parent.name}.{binding.name.partition(".")[0]}'
    dump = subprocess.run(
        [sys.executable, '-c', DUMP, folder, module],
        check=True,
        env=environment,
        capture_output=True,
    )
    names: dict[str, Any] = json.loads(dump.stdout)
    return names


def _make_empty_libraries(binding: Path, folder: Path) -> None:
    """Libraries that have what the bindings want of NVIDIA's, so that they can be imported."""
    dynamic, wanted = (
        subprocess.run([*command, binding], check=True, capture_output=True, text=True).stdout
        for command in (('readelf', '-d'), ('nm', '-D', '--undefined-only'))
    )
    symbols = re.findall(r' U ((?:create|get(?:Builder|Nv|Plugin)|initLib|_Z\w*nv)\w*)', wanted)
    source = folder / 'empty.c'
    source.write_text(''.join(f'void *{s}(void) {{ return 0; }}\n' for s in symbols), 'utf-8')
    for library in re.findall(r'\[(lib(?:nv|tensorrt)[\w.]+)\]', dynamic):
        options = ['-shared', '-fPIC', f'-Wl,-soname,{library}']
        subprocess.run(['cc', *options, '-o', folder / library, source], check=True)


def _has(names: dict[str, str], name: str) -> bool:
    name, _, keyword = name.partition('(')
    if not keyword:
        return name in names
    return bool(re.search(rf'\b{keyword[:-1]}: ', names.get(name, '')))


def main() -> None:
    """Writes the table."""
    used = sorted(used_names())
    table: dict[str, list[str]] = {name: [] for name in used}
    with tempfile.TemporaryDirectory() as folder:
        for version, requirement in WHEELS.items():
            print(version)
            names = _names_of(requirement, Path(folder) / version.replace(' ', '-'))
            for name in used:
                if _has(names, name):
                    table[name].append(version)
    rows = ',\n'.join(f'  {json.dumps(name)}: {json.dumps(table[name])}' for name in used)
    TABLE.write_text(f'{{\n{rows}\n}}\n', encoding='utf-8')


if __name__ == '__main__':
    main()
