"""Heads of attention as groups of channels: each head can be removed as a whole.

Attention reshapes its channels into heads, which no graph of operations shows. So its layout is
guessed from how its layers are called and how many heads it has, and the guess is proved like any
other group: what is wrong about it cannot pass.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from regrow.models.nets.attention import (
    HeadedAttention,
    HeadedWindowAttentionV2,
    convert_,
    is_convertible,
)
from regrow.prune.channels.records import NORM_TYPES, WEIGHTED_TYPES, Group, Member, width

# What makes queries, keys and values: in how many parts the heads may lie, most likely first.
MAKERS = {"qkv": (3, 1), "kv": (2, 1), "qk": (2, 1), "in_proj": (3, 1)} | dict.fromkeys(
    ("q", "k", "v", "q_proj", "k_proj", "v_proj", "gate"), (1, 1)
)
READERS = ("proj", "out_proj", "o_proj")
# Counts of heads, as timm and as transformers call them.
COUNTS = ("num_heads", "num_attention_heads")
# All three in one, in `nn.MultiheadAttention`.
PACKED = ("in_proj_weight", "in_proj_bias")
# Counts of the channels of all heads together.
WIDTHS = ("attn_dim", "key_attn_dim", "val_attn_dim", "all_head_dim", "out_dim")


class _Uneven(Exception):
    """Channels that cannot be those of so many heads."""


def find_heads(net: nn.Module) -> dict[str, list[Group]]:
    """Return guesses of the group of heads of each attention layer.

    Args:
        net: The network.

    Returns:
        For each attention layer by name the guesses, the likeliest first; one head is one unit.
    """
    found: dict[str, list[Group]] = {}
    for name, module in net.named_modules():
        counts = [getattr(module, key, 0) for key in COUNTS]
        heads = next((n for n in counts if type(n) is int and n > 1), 0)
        for choice in (0, 1) if heads else ():
            members = _members(name, module, heads, choice)
            group = Group(name, tuple(members)) if members else None
            if group and group not in found.get(name, []):
                found.setdefault(name, []).append(group)
    return found


def _members(name: str, module: nn.Module, heads: int, choice: int) -> list[Member]:
    """Return all members of a group of heads; none if the layer is not made as attention is."""
    readers = [(path, m) for part in READERS for path, m in _layers(module, name, part)]
    makers = [part for part in MAKERS if isinstance(getattr(module, part, None), nn.Module)]
    projections = [key for key in PACKED if isinstance(getattr(module, key, None), Tensor)]
    weighted = [(path, m) for path, m in readers if isinstance(m, WEIGHTED_TYPES)]
    if not weighted or not (makers or projections):
        return []
    try:
        path, reader = weighted[0]
        members = [Member(path, "in", _units(width(reader, "in"), heads, 1))]
        for part in makers:
            for path, layer in _layers(module, name, part):
                units = _units(width(layer, "out"), heads, MAKERS[part][choice])
                members.append(Member(path, "out", units))
        for key in projections:
            units = _units(len(getattr(module, key)), heads, 3)
            members.append(Member(_join(name, key), "out", units, 0))
    except _Uneven:
        return []
    return [
        *members,
        *_one_a_head(module, name, heads, {*makers, *READERS}),
        *_widths(module, name, heads),
    ]


def _layers(module: nn.Module, name: str, part: str) -> Iterator[tuple[str, nn.Module]]:
    child = getattr(module, part, None)
    if isinstance(child, nn.Module):
        for path, layer in child.named_modules(prefix=_join(name, part)):
            if isinstance(layer, (*WEIGHTED_TYPES, *NORM_TYPES)):
                yield path, layer


def _units(total: int | None, heads: int, parts: int) -> tuple[tuple[int, ...], ...]:
    """Return the channels of each head, where each part holds one run of channels a head."""
    if not total or total % (heads * parts):
        raise _Uneven
    size = total // (heads * parts)
    starts = [range(head * size, total, heads * size) for head in range(heads)]
    return tuple(
        tuple(start + channel for start in of_head for channel in range(size)) for of_head in starts
    )


def _one_a_head(module: nn.Module, name: str, heads: int, seen: set[str]) -> Iterator[Member]:
    """Yield what has one entry a head: biases of positions, temperatures, counts of heads."""
    one = tuple((head,) for head in range(heads))
    for path, layer in module.named_modules(prefix=name):
        for key in COUNTS:
            if getattr(layer, key, None) == heads:
                yield Member(_join(path, key), "out", one, is_count=True)
        # timm's biases of relative positions: places by places by heads.
        shape = getattr(layer, "bias_shape", ())
        if isinstance(shape, tuple) and shape.count(heads) == 1:
            yield Member(_join(path, "bias_shape"), "out", one, shape.index(heads), is_count=True)
        if path.removeprefix(name).strip(".").partition(".")[0] in seen:
            continue
        if isinstance(layer, WEIGHTED_TYPES):
            if width(layer, "out") == heads:
                yield Member(path, "out", one)
            continue
        for key, parameter in layer.named_parameters(recurse=False):
            places = [dim for dim, size in enumerate(parameter.shape) if size == heads]
            if key not in PACKED and len(places) == 1:
                yield Member(_join(path, key), "out", one, places[0])


def _widths(module: nn.Module, name: str, heads: int) -> Iterator[Member]:
    """Yield the counts of the channels of all heads together."""
    for key in WIDTHS:
        total = vars(module).get(key)
        if type(total) is int and not total % heads:
            yield Member(_join(name, key), "out", _units(total, heads, 1), is_count=True)


def _join(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def open_(net: nn.Module) -> list[nn.Module]:
    """Make attention call all its projections as layers, so that a graph sees what reads its input.

    What the network gives is of no use afterwards.

    Returns:
        The layers of which the graph must see the parts, not the whole.
    """
    opened: list[nn.Module] = []
    for module in list(net.modules()):
        if is_convertible(module):
            convert_(module)
        if type(module) is HeadedWindowAttentionV2:
            module.__class__ = _OpenedWindow
        elif type(module) is HeadedAttention:
            weight, bias = module.in_proj_weight, module.in_proj_bias
            module.in_proj = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
            module.in_proj.weight, module.in_proj.bias = weight, bias
            module.__class__ = _Opened
            opened.append(module)
    return opened


def reading(layer: str, net: nn.Module) -> str | None:
    """Return the name of the parameter behind a layer that only `open_` has made, if it has."""
    owner, _, own = layer.rpartition(".")
    is_made = isinstance(net.get_submodule(owner), HeadedAttention) and own == "in_proj"
    return f"{layer}_weight" if is_made else None


class _OpenedWindow(HeadedWindowAttentionV2):
    def _project(self, x: Tensor) -> Tensor:
        projected: Tensor = self.qkv(x)
        return projected


class _Opened(HeadedAttention):
    in_proj: nn.Linear

    def _project(self, tokens: list[Tensor], is_self: bool) -> tuple[Tensor, ...]:
        if is_self:
            projected: Tensor = self.in_proj(tokens[0])
            return projected.chunk(3, -1)
        # One weight reads all three, so they lose the same channels.
        read = self.in_proj(torch.cat(tokens, 1))
        lengths = [len(x[0]) for x in tokens]
        parts = zip(read.split(lengths, 1), range(3), strict=True)
        return tuple(part.chunk(3, -1)[which] for part, which in parts)
