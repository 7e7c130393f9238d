"""Where a ready-made torch module can be cut, and the pieces that a cut makes."""

from __future__ import annotations

import copy
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils.flop_counter import FlopCounterMode

from anytime_dnn_ros.errors import ConfigurationError
from anytime_dnn_ros.forge.staged import IMAGE

# A cut may stand this far from its balanced place, as a share of one piece's cost, where the
# tensors that cross it are smaller there.
SLACK = 0.25
# What may follow the last feature map and still be no part of it.
POOLING = (nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.AvgPool2d, nn.Dropout, nn.Identity)
POOLING_FUNCTIONS = (
    nn.functional.adaptive_avg_pool2d,
    nn.functional.adaptive_max_pool2d,
    nn.functional.avg_pool2d,
    nn.functional.dropout,
)
# A dropped tail that costs more than this share of all is hardly just a classifier.
MAX_TAIL_SHARE = 0.5


@dataclass(frozen=True)
class Piece:
    """One piece of a trunk.

    Attributes:
        module: From the tensors in `reads` to one tensor or a tuple, one per name in `writes`.
        shapes: Of the tensors it writes, for the example's batch.
        macs: Multiply-accumulates for the example's batch.
    """

    module: fx.GraphModule
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    macs: int


class _Tracer(fx.Tracer):  # type: ignore[misc] # torch is not typed here
    """Remembers behind which operation each module's work is done."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[str, list[fx.Node]] = {}

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        given = super().call_module(m, forward, args, kwargs)
        self.ends.setdefault(self.path_of_module(m), []).append(next(reversed(self.graph.nodes)))
        return given


class _Meter(fx.Interpreter):  # type: ignore[misc]
    """Runs a traced module and keeps each operation's cost and the shape of what it gives."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.macs: dict[fx.Node, int] = {}
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        with FlopCounterMode(display=False) as counter:
            given = super().run_node(n)
        self.macs[n] = counter.get_total_flops() // 2
        # Only what an exit can read and a file can carry counts as a tensor to cut at.
        if isinstance(given, Tensor) and given.is_floating_point() and given.dim() > 1:
            self.shapes[n] = tuple(given.shape)
        return given


@dataclass(frozen=True)
class _Place:
    """Where an automatic cut may be: behind `node`, after `macs`, `numbers` crossing it."""

    node: fx.Node
    position: int
    macs: int
    numbers: int


@dataclass(frozen=True)
class _Trunk:
    module: nn.Module
    graph: fx.Graph
    ends: dict[str, list[fx.Node]]
    macs: dict[fx.Node, int]
    shapes: dict[fx.Node, tuple[int, ...]]

    def named(self, name: str, what: str) -> fx.Node:
        """The operation that ends the module, or is the operation, of this name."""
        operations = {node.name: [node] for node in self.graph.nodes if node.op[:4] == 'call'}
        known = operations | self.ends
        if name not in known:
            near = get_close_matches(name, known, n=8, cutoff=0.4) or [*self.ends][:8]
            raise ConfigurationError(
                f'{what} {name!r}: the network runs no module of this name; near it are '
                f'{", ".join(near)}'
            )
        if len(known[name]) > 1:
            raise ConfigurationError(
                f'{what} {name!r}: the module runs {len(known[name])} times, so its end is no '
                'one place; name a module that runs once, or one of the operations '
                f'{", ".join(node.name for node in known[name])}'
            )
        return known[name][0]


def cut(
    module: nn.Module, example: Tensor, cuts: Sequence[str] | int, features: str = ''
) -> list[Piece]:
    """Cuts a trained module, without its classifier, into pieces that run one after another.

    The module itself is left as it is; the pieces are of a copy in evaluation mode.

    Args:
        module: From one float tensor [batch, channels, height, width] to anything.
        example: An input of it, of the size that the pieces will read.
        cuts: Names of modules (`layer2.0`) or traced operations (`add_3`) to cut behind; or how
            many pieces of equal cost to make.
        features: The module or operation that gives the last feature tensor; everything behind
            it is dropped. Found where left out: what global pooling or flattening reads.

    Raises:
        ConfigurationError: The module cannot take the example or be traced, a name is unknown
            or out of order, or something other than feature tensors crosses a cut.
    """
    trunk = _traced(module, example)
    last = trunk.named(features, 'features') if features else _last_feature(trunk)
    if last not in trunk.shapes:
        raise ConfigurationError(
            f'features {features!r} gives no float tensor with a batch axis; name another module'
        )
    order = {node: i for i, node in enumerate(trunk.graph.nodes)}
    needed = _needed(last)
    nodes = [node for node in trunk.graph.nodes if node in needed]
    if isinstance(cuts, int):
        ends = _balanced(trunk, nodes, cuts)
    else:
        ends = [trunk.named(name, 'cut') for name in cuts]
        if any(end not in needed for end in ends) or any(
            order[b] <= order[a] for a, b in pairwise([*ends, last])
        ):
            raise ConfigurationError(
                f'cuts {", ".join(cuts)}: they must stand in running order, each once, and on '
                f'the way to the last features ({last.name}), before their end'
            )
    return _split(trunk, nodes, ends)


def _needed(last: fx.Node) -> set[fx.Node]:
    needed, waiting = {last}, [last]
    while waiting:
        for source in waiting.pop().all_input_nodes:
            if source not in needed:
                needed.add(source)
                waiting.append(source)
    return needed


def _traced(module: nn.Module, example: Tensor) -> _Trunk:
    trunk = copy.deepcopy(module).eval()
    for part in trunk.modules():
        # An exit must see a tensor as it was before the next piece works on it.
        if hasattr(part, 'inplace'):
            part.inplace = False
    name = type(module).__name__
    with torch.no_grad():
        try:
            trunk(example)
        except Exception as error:
            raise ConfigurationError(
                f'{name} cannot take the example input {list(example.shape)}: {error}; give the '
                'channels and the image size it is made for'
            ) from error
        tracer = _Tracer()
        try:
            graph = tracer.trace(trunk)
        except Exception as error:
            raise ConfigurationError(
                f'{name} cannot be traced by torch.fx: {error}; take branches and loops that '
                'depend on tensor values out of its forward, or give the part without them'
            ) from error
        _without_inplace(graph)
        meter = _Meter(fx.GraphModule(trunk, graph))
        meter.run(example)
    by_name = {node.name: node for node in graph.nodes}
    return _Trunk(
        trunk,
        graph,
        tracer.ends,
        {by_name[node.name]: macs for node, macs in meter.macs.items()},
        {by_name[node.name]: shape for node, shape in meter.shapes.items()},
    )


def _without_inplace(graph: fx.Graph) -> None:
    for node in graph.nodes:
        if node.kwargs.get('inplace'):
            node.kwargs = {**node.kwargs, 'inplace': False}
        if node.op == 'call_function' and node.target in (operator.iadd, operator.imul):
            node.target = getattr(operator, node.target.__name__[1:])
        if node.op == 'call_method' and node.target.endswith('_') and node.target[:2] != '__':
            if not node.users:
                raise ConfigurationError(
                    f'the network changes a tensor in place ({node.name}) and goes on with the '
                    f'tensor; let it go on with what {node.target} returns'
                )
            node.target = node.target[:-1]


def _last_feature(trunk: _Trunk) -> fx.Node:
    """What the last flattening reads, from before the global pooling."""
    maps = {node for node, shape in trunk.shapes.items() if len(shape) == 4}
    flattened = [
        source
        for node in trunk.graph.nodes
        for source in node.all_input_nodes
        if source in maps and node in trunk.shapes and node not in maps
    ]
    last = (
        flattened[-1] if flattened else next(n for n in reversed(trunk.graph.nodes) if n in maps)
    )
    modules = dict(trunk.module.named_modules())
    while isinstance(modules.get(str(last.target)), POOLING) or last.target in POOLING_FUNCTIONS:
        last = last.all_input_nodes[0]
    total = sum(trunk.macs.values())
    if sum(trunk.macs[node] for node in _needed(last)) < (1 - MAX_TAIL_SHARE) * total:
        raise ConfigurationError(
            'the last feature tensor is not clear: what pooling or flattening reads '
            f'({last.name}) leaves most of the network behind it; name it with features=…'
        )
    return last


def _balanced(trunk: _Trunk, nodes: list[fx.Node], pieces: int) -> list[fx.Node]:
    """The operations to cut behind, so that pieces cost alike and little crosses."""
    if pieces < 1:
        raise ConfigurationError(f'{pieces} pieces: give 1 or more')
    position = {node: i for i, node in enumerate(nodes)}
    last_use = {
        node: max((position[user] for user in node.users if user in position), default=len(nodes))
        for node in nodes
    }
    places: list[_Place] = []
    passed = 0
    for i, node in enumerate(nodes[:-1]):
        passed += trunk.macs[node]
        crossing = [n for n in nodes[: i + 1] if last_use[n] > i and n.op != 'get_attr']
        if passed and all(n in trunk.shapes and n.op != 'placeholder' for n in crossing):
            numbers = sum(torch.Size(trunk.shapes[n]).numel() for n in crossing)
            places.append(_Place(node, i, passed, numbers))
    total = passed + trunk.macs[nodes[-1]]
    chosen: list[_Place] = []
    for k in range(1, pieces):
        wanted = total * k / pieces
        done = chosen[-1].macs if chosen else 0
        free = [place for place in places if done < place.macs < total]
        if not free:
            raise ConfigurationError(
                f'the network cannot be cut into {pieces} pieces; ask for at most {k}'
            )
        nearest = min(abs(place.macs - wanted) for place in free)
        reach = max(nearest, SLACK * total / pieces)
        near = [place for place in free if abs(place.macs - wanted) <= reach]
        # Of places that are alike the last: behind BatchNorm and activation, which cost nothing.
        chosen.append(min(near, key=lambda p: (p.numbers, abs(p.macs - wanted), -p.position)))
    return [place.node for place in chosen]


def _split(trunk: _Trunk, nodes: list[fx.Node], ends: list[fx.Node]) -> list[Piece]:
    order = {node: i for i, node in enumerate(nodes)}
    edges = [order[end] for end in ends]
    piece_of = {node: sum(edge < i for edge in edges) for node, i in order.items()}
    names: dict[fx.Node, str] = {}
    pieces: list[Piece] = []
    for k in range(len(ends) + 1):
        own = [n for n in nodes if piece_of[n] == k and n.op not in ('placeholder', 'get_attr')]
        needed = dict.fromkeys(source for node in own for source in node.all_input_nodes)
        crossing = [n for n in needed if n.op != 'get_attr' and n not in own]
        for node in crossing:
            if node.op != 'placeholder' and node not in trunk.shapes:
                raise ConfigurationError(
                    f'cut {k}: {node.name}, which is no feature tensor, is needed on both '
                    'sides; cut elsewhere, or ask for a number of pieces'
                )
        given = [
            node
            for node in own
            if node is nodes[-1] or any(piece_of.get(user, 0) > k for user in node.users)
        ]
        graph = fx.Graph()
        copies = {node: graph.placeholder(node.name) for node in crossing}
        for node in [n for n in needed if n.op == 'get_attr'] + own:
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[node] for node in given))
        reads = tuple(names.get(node, IMAGE) for node in crossing)
        writes = tuple(f'features_{k + 1}_{i}' for i in range(1, len(given) + 1))
        names |= dict(zip(given, writes, strict=True))
        pieces.append(
            Piece(
                fx.GraphModule(trunk.module, graph),
                reads,
                writes,
                tuple(trunk.shapes.get(node, ()) for node in given),
                sum(trunk.macs[node] for node in own),
            )
        )
    return pieces
