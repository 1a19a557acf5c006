"""Removal of residual branches: a block becomes its shortcut, with a constant for each channel."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from regrow.models.modes import double_precision
from regrow.models.record.branches import CONSTANT, ShortcutBlock, replace_
from regrow.models.task import Task
from regrow.prune.channels.records import (
    Branch,
    Group,
    Member,
    Plan,
    Removed,
    width,
)
from regrow.prune.depth.blocks import NoBranch, parts_of

# How far values may differ that count as one, over the largest of them: rounding of float64.
ROUNDING = 1e-12


def emptied(plan: Plan) -> list[Branch]:
    """Return the branches that a plan removes: it takes all units of their groups."""
    found = {
        group.branch.block: group.branch
        for group, units in plan
        if group.branch is not None and len(units) == group.num_units
    }
    # A block in a branch that goes, goes with it.
    return [
        branch
        for name, branch in found.items()
        if not any(is_lost(name, other) for key, other in found.items() if key != name)
    ]


def is_lost(layer: str, branch: Branch) -> bool:
    """Whether a layer, or a tensor of one, goes with a branch, by its name in the network."""
    inside = layer.removeprefix(f"{branch.block}.")
    kept = {branch.shortcut, branch.activation}
    return inside != layer and inside.split(".")[0] not in kept


def is_lost_with(layer: str, branches: Iterable[Branch]) -> bool:
    """Whether a layer, or a tensor of one, goes with one of some branches."""
    return any(is_lost(layer, branch) for branch in branches)


def without_branches(groups: Iterable[Group], branches: Sequence[Branch]) -> list[Group]:
    """Return groups as they are in a network without some branches.

    Constants are coupled with what the branch's last layer was. A group keeps its name, even where
    the layer of that name goes.
    """
    left = []
    for group in groups:
        members: list[Member] = []
        for member in group.members:
            branch = next((one for one in branches if is_lost(member.layer, one)), None)
            if branch is None:
                members.append(member)
            elif (member.layer, member.side) == (branch.reader, "out"):
                members.append(Member(f"{branch.block}.{CONSTANT}", "in", member.units, 0))
        made = [m for m in members if m.side == "out" and not m.is_count]
        if len(members) == len(group.members) and members[0] == group.members[0]:
            left.append(group)
        elif made:
            first = made[0]
            members.sort(key=lambda member: member is not first)
            left.append(replace(group, members=tuple(members)))
    return left


def followed(
    groups: Iterable[Group], removed: Removed, units: Mapping[str, Sequence[int]]
) -> list[Group]:
    """Return groups as they are after a cut, with or without branches.

    Args:
        groups: The groups before.
        removed: The channels that left each side of each layer, as `cut_` returned them.
        units: The units that left each group, by the group's layer.
    """
    groups = list(groups)
    branches = emptied([(group, units.get(group.layer, ())) for group in groups])
    return [
        group.after(removed, units.get(group.layer, ()))
        for group in without_branches(groups, branches)
    ]


def skip_(net: nn.Module, masked: Task, plan: Plan) -> Plan:
    """Remove the branches that a plan empties, in place, and return the rest of the plan.

    Args:
        net: The network before the plan is carried out.
        masked: The same in float64 and evaluation mode, with what the plan takes at zero.
        plan: Groups of the network with the units to remove.

    Raises:
        ValueError: If a branch does not give one constant for each channel.
    """
    branches = emptied(plan)
    for branch in branches:
        block = net.get_submodule(branch.block)
        constant, trailing = _constant(masked, branch)
        channels = len(constant)
        small = ShortcutBlock(block, branch.shortcut, branch.activation, channels, trailing)
        lost = [p for n, p in block.named_parameters() if is_lost(f"{branch.block}.{n}", branch)]
        small.constant.data.copy_(constant)
        small.constant.requires_grad_(any(parameter.requires_grad for parameter in lost))
        replace_(net, branch.block, small)
    units = {group.layer: chosen for group, chosen in plan}
    rest = without_branches([group for group, _ in plan], branches)
    return [(group, units[group.layer]) for group in rest]


def _constant(masked: Task, branch: Branch) -> tuple[Tensor, int]:
    """Return what a branch gives when its group is at zero, (channels,), and how it is laid out.

    The layout is the number of dimensions behind that of the channels.
    """
    block = masked.net.get_submodule(branch.block)
    own = branch.reader.removeprefix(f"{branch.block}.")
    count = width(block.get_submodule(own), "out")
    with double_precision():
        x = inputs_of(masked, masked.example_images(2), [branch.block])[branch.block]
        try:
            given = parts_of(block, x, [own]).given
        except NoBranch as reason:
            raise ValueError(f"{branch.block} {reason}") from reason
    for dim in dict.fromkeys((1, given.ndim - 1)):
        if given.shape[dim] != count:
            continue
        rows = given.movedim(dim, -1).flatten(0, -2)
        if bool((rows - rows[0]).abs().max() <= ROUNDING * rows.abs().max()):
            return rows[0].clone(), given.ndim - 1 - dim
    raise ValueError(
        f"without {branch.reader} the branch of {branch.block} does not give the same everywhere"
    )


class _Enough(Exception):
    """Ends a pass when all that is looked for has run."""


@torch.no_grad()
def inputs_of(task: Task, images: Tensor, names: Collection[str]) -> dict[str, Tensor]:
    """Return the first input of modules, for those that are called with one tensor alone.

    Args:
        task: The task; its network is run as it is.
        images: The images.
        names: The modules.
    """
    found: dict[str, Tensor] = {}
    missing = set(names)

    def look(name: str) -> Any:
        def hook(_: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any]) -> None:
            is_one = len(inputs) == 1 and not options and isinstance(inputs[0], Tensor)
            if name in missing and is_one and inputs[0].is_floating_point():
                found[name] = inputs[0].clone()
            missing.discard(name)
            if not missing:
                raise _Enough

        return hook

    modules = {name: task.net.get_submodule(name) for name in names}
    handles = [m.register_forward_pre_hook(look(n), with_kwargs=True) for n, m in modules.items()]
    try:
        with suppress(_Enough):
            task(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def lost_parameters(net: nn.Module, branches: Collection[Branch]) -> dict[str, nn.Parameter]:
    """Return the parameters of a network that go with some branches, by name."""
    named = net.named_parameters()
    return {name: tensor for name, tensor in named if is_lost_with(name, branches)}


def count_constants(net: nn.Module, branches: Iterable[Branch], removed: Removed) -> int:
    """Count the constants that come in the place of branches.

    Args:
        net: The network before.
        branches: The branches that go.
        removed: The channels that go too.
    """
    sizes = [
        (width(net.get_submodule(branch.reader), "out") or 0)
        - len(removed.get((branch.reader, "out"), ()))
        for branch in branches
    ]
    return sum(sizes)
