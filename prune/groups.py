"""Finding the channels that must be removed together, on torch-pruning's dependency graph."""

import random
import warnings
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
import torch_pruning
from torch import Tensor, nn
from torch_pruning.ops import OPTYPE
from torchvision.ops import FrozenBatchNorm2d

from regrow.data.errors import BadInput
from regrow.models.modes import evaluating, thawed
from regrow.models.task import Task
from regrow.prune import surgery
from regrow.prune.channels import (
    NORM_TYPES,
    TRANSPOSED_TYPES,
    WEIGHTED_TYPES,
    Group,
    Groups,
    Member,
    Side,
    is_depthwise,
    num_blocks,
    width,
)

# More pairs of coupled channels than any network needs whose channels can be told apart.
MAX_PAIRS = 1_000_000
# Share of every group that is removed to prove that it can be.
PROBED_SHARE = 0.25
CUTTABLE_TYPES = (*WEIGHTED_TYPES, *NORM_TYPES, nn.PReLU, FrozenBatchNorm2d)
STATISTICS_TYPES = (nn.LayerNorm, nn.GroupNorm, nn.LocalResponseNorm)


class _Channel(NamedTuple):
    """A channel of some layer, and the channel of the root that it goes with.

    The names are those that torch-pruning's index mappings read.
    """

    idx: int
    root_idx: int


class _LeftWhole(Exception):
    """Why a layer's outputs cannot be pruned."""


def find_groups(task: Task) -> Groups:
    """Find the coupled groups of channels that can be removed without changing anything else.

    Each group is proved: a quarter of its units is set to zero in one float64 copy of the network
    and cut out of another, both with disturbed weights, and both must give the same outputs.

    Args:
        task: The task; its network keeps its weights, mode and `requires_grad` flags.

    Returns:
        The groups, and the reason for every layer that is left whole.

    Raises:
        BadInput: If the network cannot be traced.
    """
    net = task.net
    graph = _trace(task)
    names: dict[object, str] = {module: name for name, module in net.named_modules()}
    names |= {parameter: name for name, parameter in net.named_parameters()}
    protected = {*task.output_layers(), *(entry.layer for entry in task.class_rows())}
    check = partial(_refuse_operation, names=names, protected=protected, tied=_tied(net))
    found = Groups([])
    seen: set[str] = set()
    for name, module in net.named_modules():
        is_traced = module in graph.module2node
        if name in seen or not is_traced or not isinstance(module, WEIGHTED_TYPES):
            continue
        try:
            pairs = _closure(graph, module, check)
            seen |= {names[n.module] for n, side in pairs if side == "out" and n.module in names}
            found.groups.append(_group(name, pairs, names))
        except _LeftWhole as refusal:
            found.left_whole[name] = str(refusal)
    _prove(task, found)
    covered = {member.layer for group in found.groups for member in group.members}
    for name, layer in net.named_modules():
        if isinstance(layer, WEIGHTED_TYPES) and name not in covered:
            reason = "its outputs go with those of a layer that is left whole"
            unseen = "its weights are used outside of it, or not at all"
            found.left_whole.setdefault(name, reason if layer in graph.module2node else unseen)
    return found


def _trace(task: Task) -> torch_pruning.DependencyGraph:
    """Build torch-pruning's graph, and leave the network as it was."""
    graph = torch_pruning.DependencyGraph()

    def raw_outputs(_: nn.Module, images: Tensor) -> list[Tensor]:
        return [out for out in task.outputs(images).values() if out.grad_fn is not None]

    # Everything is traced, frozen parts too.
    with (
        evaluating(task.net),
        torch.inference_mode(False),
        torch.enable_grad(),
        thawed(task.net),
        warnings.catch_warnings(),
    ):
        # Its guesses of shapes warn by the thousand; wrong ones are found out by the proof.
        warnings.simplefilter("ignore")
        images = task.prepare(task.example_images(1)).detach()
        try:
            return graph.build_dependency(
                task.net,
                images,
                forward_fn=raw_outputs,
                customized_pruners={FrozenBatchNorm2d: surgery.FROZEN_BATCH_NORM},
                verbose=False,
            )
        # The network is anyone's, and torch-pruning raises what Python raises.
        except Exception as error:
            raise BadInput(
                f"{type(task.net).__name__}: cannot be traced for pruning ({error}); "
                "it must run on `task.example_images()` and be made of tensor operations"
            ) from error


# Each layer or operation that sees a root's channels, by side, with the channels it sees.
_Pairs = dict[tuple[torch_pruning.dependency.Node, Side], set[_Channel]]


def _closure(
    graph: torch_pruning.DependencyGraph,
    root: nn.Module,
    check: Callable[[torch_pruning.dependency.Node, Side], None],
) -> _Pairs:
    """Follow all output channels of a layer through the graph until nothing is added.

    torch-pruning's own search compares whole lists of channels, and does not end on some nets.
    """
    pruner = graph.get_pruner_of_module(root)
    start = [_Channel(i, i) for i in range(pruner.get_out_channels(root))]
    pairs: _Pairs = defaultdict(set)
    stack = [(graph.module2node[root], pruner.prune_out_channels, start)]
    count = 0
    while stack:
        node, prune, channels = stack.pop()
        # Layers that keep the width have one function for both sides.
        side: Side = "out" if graph.is_out_channel_pruning_fn(prune) else "in"
        if (node, side) not in pairs:
            check(node, side)
        known = pairs[node, side]
        new = [channel for channel in channels if channel not in known]
        known.update(new)
        count += len(new)
        if count > MAX_PAIRS:
            raise _LeftWhole("its channels are coupled with too many others")
        for dependency in node.dependencies if new else ():
            if dependency.is_triggered_by(prune):
                mapped = new
                for mapping in dependency.index_mapping:
                    mapped = mapped if mapping is None else mapping(mapped)
                if mapped:
                    stack.append((dependency.target, dependency.handler, mapped))
    return pairs


def _refuse_operation(
    node: torch_pruning.dependency.Node,
    side: Side,
    *,
    names: dict[object, str],
    protected: set[str],
    tied: set[str],
) -> None:
    """Raise for what must not lose channels, or is not understood."""
    module, name = node.module, names.get(node.module)
    is_last = node.type == OPTYPE.OUTPUT or (side == "out" and not node.outputs)
    if is_last or (side == "out" and name in protected):
        raise _LeftWhole(f"its channels are outputs of {name or 'the network'} and must stay")
    if name in tied:
        raise _LeftWhole(f"{name} shares its weights with another layer")
    if isinstance(module, STATISTICS_TYPES):
        raise _LeftWhole(f"{name} takes statistics over its channels ({type(module).__name__})")
    if name is None:
        _refuse_function(node.grad_fn)
    elif isinstance(module, nn.Parameter):
        return
    elif not isinstance(module, CUTTABLE_TYPES):
        raise _LeftWhole(f"{name} is a {type(module).__name__}, which is not cut")
    else:
        _refuse_layer(module, name)


def _refuse_function(grad_fn: object) -> None:
    operation = getattr(grad_fn, "name", str)()
    # Padding beyond height and width pads the channels.
    if operation.startswith("ConstantPad") and any(getattr(grad_fn, "_saved_pad", ())[4:]):
        raise _LeftWhole("its channels are padded with zeros, as in an option A shortcut")
    if "Shuffle" in operation:
        raise _LeftWhole(f"its channels are reordered ({operation.rstrip('0123456789')})")


def _refuse_layer(module: nn.Module, name: str) -> None:
    if num_blocks(module) > 1 and isinstance(module, TRANSPOSED_TYPES):
        raise _LeftWhole(f"{name} is a transposed convolution in groups")
    is_tracking = getattr(module, "track_running_stats", False)
    if isinstance(module, nn.modules.instancenorm._InstanceNorm) and is_tracking:
        raise _LeftWhole(f"{name} is an instance norm with running statistics")
    # torch-pruning takes a convolution for depthwise by its outputs alone.
    looks_depthwise = getattr(module, "groups", 1) == getattr(module, "out_channels", 0) > 1
    if looks_depthwise and not is_depthwise(module):
        raise _LeftWhole(f"{name} is a convolution in as many groups as outputs, not inputs")


def _group(root: str, pairs: _Pairs, names: dict[object, str]) -> Group:
    """Make the record of a group from the channels that each layer sees."""
    cut = {
        (names[node.module], side): (node, channels)
        for (node, side), channels in pairs.items()
        if node.module in names
        and isinstance(node.module, (nn.Parameter, *CUTTABLE_TYPES))
        # Bare parameters and PReLU may have one entry for all channels.
        and _size(node, side) is not None
    }
    units = _units(cut)
    if len(set(units.values())) < 2:
        raise _LeftWhole("its channels can only be removed all at once")
    numbers = {unit: number for number, unit in enumerate(sorted(set(units.values())))}
    members = []
    for (name, side), (node, channels) in cut.items():
        by_unit: list[set[int]] = [set() for _ in numbers]
        for channel in channels:
            by_unit[numbers[units[channel.root_idx]]].add(channel.idx)
        _refuse_uneven(name, node, side, by_unit)
        dim = node.pruning_dim if isinstance(node.module, nn.Parameter) else None
        sorted_units = tuple(tuple(sorted(unit)) for unit in by_unit)
        members.append(Member(name, side, sorted_units, dim))
    members.sort(key=lambda member: (member.layer, member.side) != (root, "out"))
    return Group(root, tuple(members))


def _size(node: torch_pruning.dependency.Node, side: Side) -> int | None:
    if isinstance(node.module, nn.Parameter):
        return node.module.shape[node.pruning_dim]
    return width(node.module, side)


def _units(cut: dict) -> dict[int, int]:
    """Join the root's channels that meet in one place; give each the first of its unit."""
    first: dict[int, int] = {}

    def find(channel: int) -> int:
        while first.setdefault(channel, channel) != channel:
            channel = first[channel]
        return channel

    for (_, side), (node, channels) in cut.items():
        blocks = num_blocks(node.module) if isinstance(node.module, nn.Module) else 1
        # A grouped convolution loses one channel of every block at once.
        size = (_size(node, side) or 0) // blocks
        places: dict[int, int] = {}
        for channel in channels:
            place = channel.idx % size if blocks > 1 else channel.idx
            one, other = find(channel.root_idx), find(places.setdefault(place, channel.root_idx))
            first[max(one, other)] = min(one, other)
    return {channel: find(channel) for channel in list(first)}


def _refuse_uneven(
    name: str, node: torch_pruning.dependency.Node, side: Side, by_unit: list[set[int]]
) -> None:
    size = _size(node, side) or 0
    blocks = num_blocks(node.module) if isinstance(node.module, nn.Module) else 1
    is_even = len({len(unit) for unit in by_unit if unit}) == 1
    if not is_even or max(map(max, filter(None, by_unit))) >= size:
        raise _LeftWhole(f"{name} reads its channels unevenly, after a reshape or a slice")
    for unit in by_unit if blocks > 1 else ():
        if len(unit) != len({channel % (size // blocks) for channel in unit}) * blocks:
            raise _LeftWhole(f"{name} is a grouped convolution that sees part of its channels")


def _tied(net: nn.Module) -> set[str]:
    """Name the layers and parameters that share a tensor with others."""
    owners: dict[Tensor, set[str]] = defaultdict(set)
    for name, module in net.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            owners[parameter] |= {name, f"{name}.{own}" if name else own}
    return {name for names in owners.values() if len(names) > 2 for name in names}


def _prove(task: Task, found: Groups) -> None:
    """Move the groups that cannot be cut exactly to those that are left whole."""
    generator = random.Random(0)
    plan = []
    for group in found.groups:
        count = min(max(1, round(PROBED_SHARE * group.num_units)), group.num_units - 1)
        plan.append((group, sorted(generator.sample(range(group.num_units), count))))
    disturbed = surgery.clone(task)
    _disturb_(disturbed.net)
    sound, refused = surgery.sift(disturbed, plan)
    found.groups = [group for group, _ in sound]
    found.left_whole |= refused


@torch.no_grad()
def _disturb_(net: nn.Module) -> None:
    """Add noise to all parameters, so that weights that begin at zero hide nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.is_floating_point():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_((0.1 * parameter.abs().mean() + 0.01) * noise)


def without_layers(groups: Groups, refused: dict[str, str]) -> Groups:
    """Give the groups less those named, whose reasons join those of the layers left whole."""
    rest = [group for group in groups.groups if group.layer not in refused]
    return Groups(rest, groups.left_whole | refused)
