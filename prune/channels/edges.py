"""Corrections of torch-pruning's graph: which channels pass from one layer to the next.

torch-pruning guesses the shapes of operations from the layers around them. Autograd knows them, and
the calls that a network makes can be watched.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch_pruning import DependencyGraph
from torch_pruning.dependency import Node
from torch_pruning.dependency.index_mapping import _ConcatIndexMapping, _SplitIndexMapping
from torch_pruning.ops import OPTYPE

CONCATENATIONS = (torch.cat, torch.concat, torch.concatenate)
# How far a parameter may be from what it is added to, in operations.
REACH = 4
# Autograd keeps some negative dimensions as what they are modulo this.
WRAP = 2**64

Mapping = Callable[[Sequence[Any]], list[Any]]


class Calls(TorchFunctionMode):
    """Records the concatenations that a network makes while it is traced.

    Attributes:
        joined: For each concatenation by its autograd function the length of each part; nothing if
            it cannot be channels that are joined.
    """

    def __init__(self) -> None:
        super().__init__()
        self.joined: dict[Any, list[int]] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run a function, and take note of it."""
        kwargs = kwargs or {}
        if func is F.glu:
            return _glu(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in CONCATENATIONS and result.grad_fn is not None:
            parts = args[0] if args else kwargs["tensors"]
            dim = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
            sizes = [part.shape[dim] for part in parts]
            # Tokens have their channels last. Where there are as many tokens, they are joined.
            is_tokens = result.ndim == 3 and dim % 3 == 1 and result.shape[-1] in sizes
            self.joined[result.grad_fn] = [] if is_tokens else sizes
        return result


def _glu(x: Tensor, dim: int = -1) -> Tensor:
    """Compute what `F.glu` does, in operations that show what goes with what."""
    value, gate = x.chunk(2, dim)
    return value * gate.sigmoid()


def correct_(
    graph: DependencyGraph, joined: dict[Any, list[int]]
) -> tuple[dict[Node, list[int]], set[Node]]:
    """Correct the channels that pass along the edges of a graph.

    Args:
        graph: The graph; it is changed.
        joined: What `Calls` has seen of its concatenations.

    Returns:
        The splits of channels into equal parts, with the first channel of each, and the operations
        that pad channels.
    """
    widths = _Widths(graph, joined)
    equal: dict[Node, list[int]] = {}
    padded: set[Node] = set()
    for node in list(graph.module2node.values()):
        if node.type == OPTYPE.PARAMETER:
            _turn_(node, widths)
    for node in list(graph.module2node.values()):
        if node.type == OPTYPE.SLICE:
            _correct_slice_(node, widths)
        elif node.type == OPTYPE.CONCAT:
            _correct_concatenation_(node, widths, joined)
        elif node.type == OPTYPE.SPLIT:
            sizes = _correct_split_(node, widths)
            if len(set(sizes)) == 1:
                equal[node] = list(range(0, sum(sizes), sizes[0]))
        elif node.type in (OPTYPE.ELEMENTWISE, OPTYPE.EXPAND):
            _stop_broadcasts_(node, widths)
            if _pads_channels(node, widths):
                padded.add(node)
    # Last, since what is a split or a joint before may have to be counted in other channels.
    for node in list(graph.module2node.values()):
        _correct_pixel_shuffle_(node)
    return equal, padded


class _Widths:
    """Counts the channels that operations give, from what layers and autograd say."""

    def __init__(self, graph: DependencyGraph, joined: dict[Any, list[int]]) -> None:
        self.graph, self.joined = graph, joined
        self.known: dict[Node, int | None] = {}

    def __call__(self, node: Node) -> int | None:
        stack = [node]
        while stack:
            top = stack[-1]
            if top in self.known:
                stack.pop()
                continue
            if top.type != OPTYPE.OUTPUT and (own := self.graph.get_out_channels(top)) is not None:
                self.known[top] = own
                continue
            waiting = [source for source in top.inputs if source not in self.known]
            if waiting and not set(waiting) & set(stack):
                stack += waiting
                continue
            self.known[top] = self._of(top)
        return self.known[node]

    def part(self, source: Node, node: Node) -> int | None:
        """Count the channels that one operation hands to another."""
        place = _parts(source, node)
        sizes = _split_sizes(source) if source.type == OPTYPE.SPLIT else None
        if sizes and place and sum(sizes[1]) == self(source):
            return sizes[1][place[0]]
        return self(source)

    def _of(self, node: Node) -> int | None:
        found = [self.known.get(source) for source in node.inputs]
        parts = self.joined.get(node.grad_fn)
        if parts and is_along_channels(node, found, parts):
            return sum(parts)
        found = [
            self.part(source, node) if source in self.known else None for source in node.inputs
        ]
        width = max((width for width in found if width is not None), default=None)
        up, down = _factors(node)
        return width if width is None else width // up**2 * down**2


def is_along_channels(node: Node, widths: Sequence[int | None], sizes: Sequence[int]) -> bool:
    """Whether a concatenation joins channels, as far as the widths of its parts are known."""
    places = _input_places(node)
    if len(places) != len(node.inputs) or len(sizes) != len(node.grad_fn.next_functions):
        return False
    pairs = [(width, sizes[place]) for width, place in zip(widths, places, strict=True)]
    known = [(width, size) for width, size in pairs if width is not None]
    return bool(known) and all(width == size for width, size in known)


def _input_places(node: Node) -> list[int]:
    """Return the place of each input of an operation among its arguments."""
    places = []
    inputs = list(node.inputs)
    for place, (function, _) in enumerate(node.grad_fn.next_functions):
        if inputs and function is not None and _is_function_of(inputs[0], function):
            places.append(place)
            inputs.pop(0)
    return places


def _is_function_of(node: Node, function: Any) -> bool:
    variable = getattr(function, "variable", None)
    return node.module is variable if variable is not None else True


def _parts(source: Node, node: Node) -> list[int]:
    """Return which outputs of an operation another one takes."""
    functions = getattr(node.grad_fn, "next_functions", ())
    return [number for function, number in functions if function is source.grad_fn]


def _between(one: Node, other: Node) -> list[Any]:
    """Return the edges from one operation to another, in order."""
    return [dependency for dependency in one.dependencies if dependency.target is other]


def _correct_concatenation_(node: Node, widths: _Widths, joined: dict[Any, list[int]]) -> None:
    """Correct the offsets of what a concatenation joins: constants and images count too."""
    sizes = joined.get(node.grad_fn)
    if sizes is None:
        return
    if not sizes:
        for source in node.inputs:
            for edge in (*_between(node, source), *_between(source, node)):
                edge.index_mapping[1] = None
        return
    if not is_along_channels(node, [widths.part(n, node) for n in node.inputs], sizes):
        return
    met: dict[Node, int] = {}
    for source, place in zip(node.inputs, _input_places(node), strict=True):
        start = sum(sizes[:place])
        offset = [start, start + sizes[place]]
        count = met[source] = met.get(source, -1) + 1
        _between(node, source)[count].index_mapping[1] = _ConcatIndexMapping(offset, reverse=True)
        _between(source, node)[count].index_mapping[1] = _ConcatIndexMapping(offset)


def _split_sizes(node: Node) -> tuple[int, list[int]] | None:
    """Return the dimension that a split goes along, and the length of each part."""
    shape = getattr(node.grad_fn, "_saved_self_sym_sizes", None)
    dim = getattr(node.grad_fn, "_saved_dim", None)
    if shape is None or dim is None:
        return None
    dim = (dim - WRAP if dim >= WRAP // 2 else dim) % len(shape)
    sizes = getattr(node.grad_fn, "_saved_split_sizes", None)
    if sizes is None:
        step = getattr(node.grad_fn, "_saved_split_size", shape[dim]) or 1
        sizes = [min(step, shape[dim] - start) for start in range(0, shape[dim], step)]
    return dim, list(sizes)


def _correct_split_(node: Node, widths: _Widths) -> list[int]:
    """Correct the channels of each part of a split, in whatever order the parts are used.

    Returns:
        The length of each part; nothing if it splits no channels.
    """
    sizes = _split_sizes(node)
    if sizes is None or len(sizes[1]) < 2 or sum(sizes[1]) != widths(node):
        return []
    met: dict[Node, int] = {}
    for reader in node.outputs:
        count = met[reader] = met.get(reader, -1) + 1
        taken = _parts(node, reader)
        if count >= len(taken):
            continue
        start = sum(sizes[1][: taken[count]])
        offset = [start, start + sizes[1][taken[count]]]
        _between(node, reader)[count].index_mapping[0] = _SplitIndexMapping(offset)
        _between(reader, node)[count].index_mapping[0] = _SplitIndexMapping(offset, reverse=True)
    return sizes[1]


def _correct_slice_(node: Node, widths: _Widths) -> None:
    """Correct a slice of rows or columns, which torch-pruning takes for one of channels.

    Swin has its channels last, and merges every second row and column.
    """
    sizes = getattr(node.grad_fn, "_saved_self_sym_sizes", ())
    dim = getattr(node.grad_fn, "_saved_dim", len(sizes))
    channels = [widths(source) for source in node.inputs]
    if dim >= len(sizes) or {None, sizes[dim]}.intersection(channels):
        return
    for source in node.inputs:
        for dependency in (*_between(node, source), *_between(source, node)):
            dependency.index_mapping[0] = None


def _factors(node: Node) -> tuple[int, int]:
    """Return the factors of a pixel shuffle and of its inverse; 1 where an operation is none."""
    up: int = getattr(node.grad_fn, "_saved_upscale_factor", 1)
    down: int = getattr(node.grad_fn, "_saved_downscale_factor", 1)
    return up, down


def _correct_pixel_shuffle_(node: Node) -> None:
    """Join the r^2 channels in a row that a pixel shuffle makes one of, or that it is undone to."""
    up, down = _factors(node)
    if max(up, down) == 1:
        return
    merge, spread = partial(_merged, count=up**2), partial(_spread, count=down**2)
    back, forth = partial(_merged, count=down**2), partial(_spread, count=up**2)
    for source in node.inputs:
        for edge in _between(source, node):
            edge.index_mapping[1] = _both(edge.index_mapping[1], merge, spread)
        for edge in _between(node, source):
            edge.index_mapping[0] = _both(back, forth, edge.index_mapping[0])


def _merged(channels: Sequence[Any], count: int) -> list[Any]:
    return [channel._replace(idx=channel.idx // count) for channel in channels]


def _spread(channels: Sequence[Any], count: int) -> list[Any]:
    return [
        channel._replace(idx=channel.idx * count + place)
        for channel in channels
        for place in range(count)
    ]


def _both(*mappings: Mapping | None) -> Mapping:
    """Return the mapping that does some others in turn."""

    def mapped(channels: Sequence[Any]) -> list[Any]:
        for mapping in mappings:
            channels = channels if mapping is None else mapping(channels)
        return list(channels)

    return mapped


def _stop_broadcasts_(node: Node, widths: _Widths) -> None:
    """Uncouple a map of one channel from the channels that it scales (broadcasting)."""
    found = {source: widths.part(source, node) for source in node.inputs}
    is_spread = node.type == OPTYPE.EXPAND and any(n.type != OPTYPE.EXPAND for n in node.inputs)
    for source, width in found.items():
        if width == 1 and (is_spread or max(w or 1 for w in found.values()) > 1):
            for dependency in (*_between(node, source), *_between(source, node)):
                dependency.index_mapping[0] = _none


def _none(_: Sequence[Any]) -> list[Any]:
    return []


def _pads_channels(node: Node, widths: _Widths) -> bool:
    """Whether an operation adds zeros to the channels, as an option A shortcut does."""
    pad = getattr(node.grad_fn, "_saved_pad", None)
    if pad is None:
        return False
    shape = node.grad_fn._input_metadata[0].shape  # of what autograd will be given, its output
    found = {widths(source) for source in node.inputs}
    ends = zip(pad[::2], pad[1::2], strict=True)
    added = {len(shape) - 1 - place: sum(both) for place, both in enumerate(ends)}
    padded = [dim for dim, count in added.items() if count]
    # Swin, whose channels come last, pads rows and columns.
    is_places = len(padded) > 1 and shape[-1] in found and not added.get(len(shape) - 1)
    return not is_places and any(shape[dim] - added[dim] in found for dim in padded)


def _turn_(node: Node, widths: _Widths) -> None:
    """Find the dimension of a bare parameter that its channels lie along.

    torch-pruning takes the last one, which is that of places where channels come first.
    """
    shape = node.module.shape
    found = _met(node, widths)
    if found is None or shape[node.pruning_dim] == found or found not in shape:
        return
    order = range(len(shape)) if len(shape) == 4 else reversed(range(len(shape)))
    node.pruning_dim = next(dim for dim in order if shape[dim] == found)
    widths.known.clear()


def _met(node: Node, widths: _Widths) -> int | None:
    """Count the channels of what a parameter is first put together with."""
    reached = [node]
    for _ in range(REACH):
        following = [reader for one in reached for reader in one.outputs]
        for reader in following:
            own = (
                widths.graph.get_in_channels(reader)
                if isinstance(reader.module, nn.Linear)
                else None
            )
            others = [widths.part(n, reader) for n in reader.inputs if n not in reached]
            known = [width for width in (own, *others) if width is not None]
            if known:
                return max(known)
        reached = following
    return None
