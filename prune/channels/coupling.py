"""Coupled channels as the dependency graph of a network shows them, before any proof."""

from collections import defaultdict
from collections.abc import Collection
from functools import partial
from typing import Any

from timm.models.metaformer import Scale
from torch import Tensor, nn
from torch_pruning.dependency import Node
from torchvision.models import VisionTransformer

from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.prune.channels.heads import reading
from regrow.prune.channels.records import (
    NORM_TYPES,
    STATISTICS_TYPES,
    TRANSPOSED_TYPES,
    WEIGHTED_TYPES,
    Group,
    Groups,
    Member,
    Side,
    is_depthwise,
    num_blocks,
    per_channel,
    width,
)
from regrow.prune.channels.tracing import Effort, LeftWhole, Pairs, closure, is_output, trace_

CUTTABLE_TYPES = (*WEIGHTED_TYPES, *NORM_TYPES, nn.PReLU, nn.Embedding)
# Counts that networks keep besides the layers or parameters whose channels they count; of a tuple
# the place.
MIRRORS: dict[tuple[type[nn.Module], str], tuple[str, int | None]] = {
    (VisionTransformer, "conv_proj"): ("hidden_dim", None),
    (Scale, "scale"): ("shape", 0),
}


def coupled_groups(
    task: Task,
    twin: Task,
    fixed: Collection[str] = (),
    *,
    makers: set[str],
    effort: Effort,
) -> tuple[Groups, set[str]]:
    """Find the coupled groups of channels in the dependency graph; nothing proves them yet.

    Args:
        task: The task.
        twin: Its copy to trace, which is given up for this.
        fixed: The names of the parameters of the copy that are buffers of the task.
        makers: The layers that make heads of attention.
        effort: The work that it may take.

    Returns:
        The groups, with reasons for layers left whole, and the names of the layers in the graph.
    """
    effort.watch_(twin.net)
    graph = trace_(twin)
    net = twin.net
    names: dict[object, str] = {module: name for name, module in net.named_modules()}
    names |= {parameter: name for name, parameter in net.named_parameters()}
    check = partial(
        _refuse_operation,
        names=names,
        protected=fixed_layers(task),
        tied=_tied(task.net),
        padded=graph.padded,
    )
    found = Groups([])
    seen = set(makers)
    for name, module in net.named_modules():
        is_traced = module in graph.module2node
        if name in seen or not is_traced or not isinstance(module, WEIGHTED_TYPES):
            continue
        try:
            pairs = closure(graph, module, check, effort)
            seen |= {names[n.module] for n, side in pairs if side == "out" and n.module in names}
            found.groups.append(_group(name, pairs, names, net, fixed))
        except LeftWhole as refusal:
            found.left_whole[name] = str(refusal)
        # torch-pruning's maps from one layer's channels to another's raise what Python raises.
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError):
            found.left_whole[name] = "its channels are not followed to the layers that read them"
    return found, {name for name, layer in net.named_modules() if layer in graph.module2node}


def fixed_layers(task: Task) -> set[str]:
    """Return the names of the layers whose output width must stay."""
    try:
        rows = task.class_rows()
    except BadInput:  # which row is which class's matters to growth alone
        rows = []
    return {*task.output_layers(), *(entry.layer for entry in rows)}


def _refuse_operation(
    node: Node,
    side: Side,
    *,
    names: dict[object, str],
    protected: set[str],
    tied: set[str],
    padded: Collection[Node],
) -> None:
    """Refuse an operation that must not lose channels, or that is not understood."""
    module, name = node.module, names.get(node.module)
    if is_output(node, side) or (side == "out" and name in protected):
        raise LeftWhole(f"its channels are outputs of {name or 'the network'} and must stay")
    if name in tied:
        raise LeftWhole(f"{name} shares its weights with another layer")
    if isinstance(module, STATISTICS_TYPES) and width(module, side) is None:
        raise LeftWhole(f"{name} takes statistics over its channels ({type(module).__name__})")
    if name is None:
        _refuse_function(node, padded)
    elif isinstance(module, nn.Parameter):
        return
    elif not _is_cuttable(module):
        raise LeftWhole(f"{name} is a {type(module).__name__}, which is not cut")
    else:
        _refuse_layer(module, name)


def _is_cuttable(module: nn.Module) -> bool:
    return isinstance(module, (*CUTTABLE_TYPES, *STATISTICS_TYPES)) or bool(per_channel(module))


def _refuse_function(node: Node, padded: Collection[Node]) -> None:
    operation = getattr(node.grad_fn, "name", str)()
    if node in padded:
        raise LeftWhole("its channels are padded with zeros, as in an option A shortcut")
    if "Shuffle" in operation and not operation.startswith("Pixel"):
        raise LeftWhole(f"its channels are reordered ({operation.rstrip('0123456789')})")


def _refuse_layer(module: nn.Module, name: str) -> None:
    if num_blocks(module) > 1 and isinstance(module, TRANSPOSED_TYPES):
        raise LeftWhole(f"{name} is a transposed convolution in groups")
    is_tracking = getattr(module, "track_running_stats", False)
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and is_tracking:
        raise LeftWhole(f"{name} is an instance norm with running statistics")
    # torch-pruning takes a convolution for depthwise by its outputs alone.
    looks_depthwise = getattr(module, "groups", 1) == getattr(module, "out_channels", 0) > 1
    if looks_depthwise and not is_depthwise(module):
        raise LeftWhole(f"{name} is a convolution in as many groups as outputs, not inputs")


def _group(
    root: str, pairs: Pairs, names: dict[object, str], net: nn.Module, fixed: Collection[str]
) -> Group:
    """Return a group made of the channels that each layer sees."""
    cut = {
        (names[node.module], side): (node, channels)
        for (node, side), channels in pairs.items()
        if node.module in names
        and (isinstance(node.module, nn.Parameter) or _is_cuttable(node.module))
        # Bare parameters and PReLU may have one entry for all channels.
        and (size := _size(node, side)) is not None
        # A buffer that has not these channels, such as a filter or a mask of places, stays.
        and not (names[node.module] in fixed and any(c.idx >= size for c in channels))
    }
    units = _units(cut)
    if len(set(units.values())) < 2:
        raise LeftWhole("its channels can only be removed all at once")
    numbers = {unit: number for number, unit in enumerate(sorted(set(units.values())))}
    members: list[Member] = []
    for (name, side), (node, channels) in cut.items():
        by_unit: list[set[int]] = [set() for _ in numbers]
        for channel in channels:
            by_unit[numbers[units[channel.root_idx]]].add(channel.idx)
        _refuse_uneven(name, node, side, by_unit)
        members += _members(name, side, node, net, tuple(tuple(sorted(unit)) for unit in by_unit))
    members.sort(key=lambda member: (member.layer, member.side) != (root, "out"))
    is_normed = any(
        isinstance(node.module, nn.LayerNorm) or getattr(node.module, "num_groups", 0) == 1
        for node, _ in cut.values()
    )
    return Group(root, tuple(members), is_normed)


def _members(
    name: str, side: Side, node: Node, net: nn.Module, units: tuple[tuple[int, ...], ...]
) -> list[Member]:
    """Return the members for one side of one layer, and for the counts that follow it."""
    module = node.module
    # What is not called may well be a reader, whose inputs nobody sees.
    members = [Member(name, side, units)]
    if isinstance(module, nn.Parameter):
        members = [Member(name, "in", units, node.pruning_dim)]
    unseen = reading(name, net)
    if unseen:
        members = [Member(unseen, "in", units, 1)]
    if _norm_groups(module) > 1:
        size = module.num_channels // module.num_groups
        groups = tuple(tuple(sorted({channel // size for channel in unit})) for unit in units)
        members.append(Member(f"{name}.num_groups", "out", groups, is_count=True))
    owner, _, own = name.rpartition(".")
    attribute, place = MIRRORS.get((type(net.get_submodule(owner)), own), (None, None))
    if attribute and (side == "out" or isinstance(module, nn.Parameter)):
        counted = f"{owner}.{attribute}" if owner else attribute
        members.append(Member(counted, "out", units, place, is_count=True))
    return members


def _norm_groups(module: object) -> int:
    return module.num_groups if isinstance(module, nn.GroupNorm) else 1


def _size(node: Node, side: Side) -> int | None:
    if isinstance(node.module, nn.Parameter):
        return int(node.module.shape[node.pruning_dim])
    return width(node.module, side)


def _units(cut: dict[Any, Any]) -> dict[int, int]:
    """Join the root's channels that meet in one place: return for each the first of its unit."""
    first: dict[int, int] = {}

    def find(channel: int) -> int:
        while first.setdefault(channel, channel) != channel:
            channel = first[channel]
        return channel

    for (_, side), (node, channels) in cut.items():
        blocks = num_blocks(node.module) if isinstance(node.module, nn.Module) else 1
        # A grouped convolution loses one channel of every block at once.
        size = (_size(node, side) or 0) // blocks
        # A group norm loses its groups whole, so that the statistics of the others stay.
        run = size // _norm_groups(node.module) if _norm_groups(node.module) > 1 else 1
        places: dict[int, int] = {}
        for channel in channels:
            place = channel.idx % size if blocks > 1 else channel.idx // run
            one, other = find(channel.root_idx), find(places.setdefault(place, channel.root_idx))
            first[max(one, other)] = min(one, other)
    return {channel: find(channel) for channel in list(first)}


def _refuse_uneven(name: str, node: Node, side: Side, by_unit: list[set[int]]) -> None:
    size = _size(node, side) or 0
    blocks = num_blocks(node.module) if isinstance(node.module, nn.Module) else 1
    is_even = len({len(unit) for unit in by_unit if unit}) == 1
    if not is_even or max(map(max, filter(None, by_unit))) >= size:
        raise LeftWhole(f"{name} reads its channels unevenly, after a reshape or a slice")
    for unit in by_unit if blocks > 1 else ():
        if len(unit) != len({channel % (size // blocks) for channel in unit}) * blocks:
            raise LeftWhole(f"{name} is a grouped convolution that sees part of its channels")


def _tied(net: nn.Module) -> set[str]:
    """Return the names of the layers and parameters that share a tensor with others."""
    owners: dict[Tensor, set[str]] = defaultdict(set)
    for name, module in net.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            owners[parameter] |= {name, f"{name}.{own}" if name else own}
    return {name for names in owners.values() if len(names) > 2 for name in names}
