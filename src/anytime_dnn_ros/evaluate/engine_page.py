"""The layers of engines as one HTML page: each engine drawn as a graph, and its table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from anytime_dnn_ros.engines.engine_layers import EngineLayers, Layer, LayerTensor
from anytime_dnn_ros.evaluate.page import html_table, page_of

HEADS = ('layer', 'kind', 'precision', 'output', 'weights (kB)', 'output (kB)', 'tactic')
# Widths and heights in pixels of a box and of the room between two.
BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, MARGIN = 250, 38, 22, 26, 8
COLORS = {'int8': '#2f855a', 'fp16': '#2b6cb0', 'fp32': '#b7791f'}
OTHER = '#52606d'
# Opaque, so that a line behind a box does not run through its text.
PALE = {'int8': '#e6f0eb', 'fp16': '#e5edf5', 'fp32': '#f6efe4'}
PALE_OTHER = '#eaecee'
NAME_LETTERS, KIND_LETTERS = 36, 24
LEGEND = (
    'Each box is one layer, which often does what several nodes of the ONNX file do; its colour '
    'is the type that it writes. Pointing at a box shows its kernel and where it comes from.'
)


def engine_page(engines: Sequence[EngineLayers], lead: str, versions: Mapping[str, str]) -> str:
    """The page.

    Args:
        engines: In running order.
        lead: What they were built for.
        versions: Of whatever made the figures, by name.
    """
    key = ' '.join(
        f'<span style="color:{color}">&#9632;</span> {name}'
        for name, color in (*COLORS.items(), ('other', OTHER))
    )
    parts = [f'<p>{LEGEND} {key}</p>']
    for engine in engines:
        parts += [
            f'<h2>{escape(engine.name)}</h2><p>{escape(engine.summary)}</p>',
            f'<div class="wide">{engine_svg(engine)}</div>',
            html_table([HEADS, *layer_rows(engine)]),
        ]
    return page_of('Inside the engines', lead, '\n'.join(parts), versions)


def layer_rows(engine: EngineLayers) -> list[tuple[str, ...]]:
    """A row for each layer, see `HEADS`."""
    return [
        (
            layer.name,
            layer.kind,
            layer.precision or '-',
            ', '.join('x'.join(map(str, t.shape)) for t in layer.outputs) or '-',
            _kilobytes(layer.weight_bytes),
            _kilobytes(sum(t.num_bytes for t in layer.outputs)),
            layer.tactic or '-',
        )
        for layer in engine.layers
    ]


def engine_svg(engine: EngineLayers) -> str:
    """The graph from top to bottom: a layer stands below all that it reads from."""
    boxes = _places(engine.layers)
    width = max((x for x, _ in boxes), default=0) + BOX_WIDTH + MARGIN
    height = max((y for _, y in boxes), default=0) + BOX_HEIGHT + MARGIN
    shapes = []
    for tensor, start, end in _edges(engine.layers):
        (x1, y1), (x2, y2) = boxes[start], boxes[end]
        x1, x2, y1 = x1 + BOX_WIDTH // 2, x2 + BOX_WIDTH // 2, y1 + BOX_HEIGHT
        middle = (y1 + y2) // 2
        shapes.append(
            f'<path d="M{x1} {y1}C{x1} {middle} {x2} {middle} {x2} {y2}" '
            f'fill="none" stroke="#9aa5b1"><title>{escape(_told(tensor))}</title></path>'
        )
    for layer, (x, y) in zip(engine.layers, boxes, strict=True):
        color = COLORS.get(layer.written_dtype, OTHER)
        hint = '\n'.join(
            filter(None, (layer.name, layer.tactic, *layer.onnx_nodes, *map(_told, layer.outputs)))
        )
        head = f'{_cut(layer.kind, KIND_LETTERS)} {layer.precision}'
        shapes.append(
            f'<g><title>{escape(hint)}</title>'
            f'<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5" '
            f'fill="{PALE.get(layer.written_dtype, PALE_OTHER)}" stroke="{color}"/>'
            f'<text x="{x + 8}" y="{y + 15}" font-weight="600">{escape(head)}</text>'
            f'<text x="{x + 8}" y="{y + 30}">{escape(_cut(layer.name, NAME_LETTERS))}</text></g>'
        )
    # A narrow graph is not blown up to the width of the page.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'style="max-width:{width}px" font-family="system-ui, sans-serif" font-size="11" '
        f'fill="#1f2933" role="img">{"".join(shapes)}</svg>'
    )


def _edges(layers: Sequence[Layer]) -> list[tuple[LayerTensor, int, int]]:
    """Each tensor with the layers that write and read it, by number."""
    writers = {tensor.name: i for i, layer in enumerate(layers) for tensor in layer.outputs}
    return [
        (tensor, writers[tensor.name], i)
        for i, layer in enumerate(layers)
        for tensor in layer.inputs
        # A layer that works in place reads what it writes.
        if writers.get(tensor.name, i) != i
    ]


def _places(layers: Sequence[Layer]) -> list[tuple[int, int]]:
    """The upper left corner of each layer's box."""
    above: dict[int, list[int]] = {}
    for _, start, end in _edges(layers):
        # TensorRT lists layers in running order; whoever reads comes later.
        above.setdefault(end, []).extend([start] if start < end else [])
    rows: list[int] = []
    places = []
    filled: dict[int, int] = {}
    for i in range(len(layers)):
        row = max((rows[start] + 1 for start in above.get(i, ())), default=0)
        rows.append(row)
        column = filled.get(row, 0)
        filled[row] = column + 1
        places.append((MARGIN + column * (BOX_WIDTH + GAP_X), MARGIN + row * (BOX_HEIGHT + GAP_Y)))
    return places


def _told(tensor: LayerTensor) -> str:
    return f'{tensor.name}: {"x".join(map(str, tensor.shape))} {tensor.format}'


def _cut(text: str, letters: int) -> str:
    return text if len(text) <= letters else f'{text[: letters - 1]}…'


def _kilobytes(number: int) -> str:
    return f'{number / 1e3:.1f}' if number else '-'
