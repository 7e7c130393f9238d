"""`anytime-dnn inspect --engine`: the layers that TensorRT made of a stage."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from anytime_dnn_ros.engines.engine_cache import read_engine_file
from anytime_dnn_ros.engines.engine_layers import (
    EngineLayers,
    inspect_plan,
    parse_layers,
)
from anytime_dnn_ros.engines.stage_engines import stage_engine
from anytime_dnn_ros.engines.tensorrt_library import Device, TensorRT, find_device, find_tensorrt
from anytime_dnn_ros.errors import ConfigurationError, EngineError
from anytime_dnn_ros.ladder.bundle import find_bundle, read_bundle
from anytime_dnn_ros.timing.profile_cache import cache_folder

COLUMNS = ('layer', 'kind', 'precision', 'output', 'tactic')
# Names and tactics of fused layers run over hundreds of letters; JSON and page have them whole.
MOST_LETTERS = 48
say = partial(print, file=sys.stderr)


def inspect_engines(
    source: str, *, precision: str, cache_dir: str
) -> tuple[str, list[EngineLayers]]:
    """The engines of a bundle on this machine, built where none is kept, or that of a file.

    Args:
        source: An engine of our cache or any other, what trtexec --exportLayerInfo wrote, or the
            name or folder of a bundle.
        precision: Of a bundle's engines, one of `PRECISIONS`.
        cache_dir: Where those are kept, see `cache_folder`.

    Returns:
        One sentence about what they are, and the engines.

    Raises:
        AnytimeError: There is no such thing, or it cannot be looked into on this machine.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _from_file(path)
    bundle = read_bundle(find_bundle(source))
    library, device = _tensorrt_with_device('the engines of a bundle')
    folder = cache_folder(cache_dir, say)
    engines = []
    for index, stage in enumerate(bundle.manifest.stages):
        built = stage_engine(
            bundle, index, library, device, precision=precision, folder=folder, say=say
        )
        engines.append(inspect_plan(library, built.plan, stage.name))
    return f'{bundle.manifest.name} on {_place(library, device)}', engines


def _from_file(path: Path) -> tuple[str, list[EngineLayers]]:
    content = path.read_bytes()
    if content.lstrip()[:1] == b'{':
        text = content.decode('utf-8', errors='replace')
        return f'from {path.name}, as the inspector told it', [parse_layers(text, path.stem)]
    name, origin = path.name, f'{len(content) / 1e6:.2f} MB'
    try:
        header, content = read_engine_file(path)
    # One that another program built has no header of ours.
    except ValueError as error:
        if path.suffix == '.plan' and path.name.startswith('engine_'):
            raise EngineError(
                f'{path}: {error}; delete it, and it is built anew when it is needed'
            ) from error
    else:
        key = header['key']
        name = str(key.get('stage'))
        origin = (
            f'stage {name!r} for {key.get("device")} by {key.get("flavour")} '
            f'{key.get("version")}, {key.get("options", {}).get("precision")}, {origin}'
        )
    library, device = _tensorrt_with_device(f'{path.name} ({origin})')
    return f'{origin}, on {_place(library, device)}', [inspect_plan(library, content, name)]


def _tensorrt_with_device(what: str) -> tuple[TensorRT, Device]:
    library, device = find_tensorrt(), find_device()
    if device is None:
        raise ConfigurationError(
            f'{what}: an engine can be looked into only where it can be loaded, and this machine '
            'has no NVIDIA GPU (or no driver); run this on the robot, with --json or --html to '
            'take the result along'
        )
    return library, device


def _place(library: TensorRT, device: Device) -> str:
    return (
        f'{device.name} (compute capability {device.compute_capability}) with {library.flavour} '
        f'{library.version}'
    )


def engine_figures(engines: list[EngineLayers]) -> dict[str, Any]:
    """What `--json` writes."""
    return {
        'engines': [
            {
                **{k: v for k, v in asdict(engine).items() if k != 'layers'},
                'layers': [
                    {**asdict(layer), 'precision': layer.precision} for layer in engine.layers
                ],
            }
            for engine in engines
        ]
    }


def describe_engine(engine: EngineLayers) -> str:
    """One engine as text: a line about it, and one for each layer."""
    rows = [COLUMNS]
    for layer in engine.layers:
        shapes = ', '.join('x'.join(map(str, t.shape)) for t in layer.outputs)
        rows.append((layer.name, layer.kind, layer.precision, shapes, layer.tactic))
    cut = [[c if len(c) <= MOST_LETTERS else f'{c[: MOST_LETTERS - 1]}…' for c in r] for r in rows]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    lines = [f'{engine.name}: {engine.summary}']
    lines += ['  '.join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in cut]
    return '\n'.join(lines)


def write_figures(path: Path, engines: list[EngineLayers]) -> None:
    """Writes what `engine_figures` gives."""
    path.write_text(json.dumps(engine_figures(engines), indent=2) + '\n', encoding='utf-8')
