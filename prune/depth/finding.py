"""Which residual branches can go whole: found by their blocks' structure, and proved by a cut."""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from regrow.logs import log
from regrow.models.modes import double_precision
from regrow.models.task import Task
from regrow.prune.channels.disturbing import disturb_
from regrow.prune.channels.exactness import sift
from regrow.prune.channels.records import (
    WEIGHTED_TYPES,
    Branch,
    Group,
    Groups,
    named_tensor,
    width,
)
from regrow.prune.channels.surgery import clone, exact_copy
from regrow.prune.depth.blocks import NoBranch, parts_of
from regrow.prune.depth.skipping import inputs_of, is_lost
from regrow.prune.memory import is_out_of_memory

MAX_TOLD = 3  # groups whose reason is logged


def with_branches(task: Task, found: Groups, images: Tensor | None = None) -> Groups:
    """Mark the groups whose units may all go, since that leaves a constant of a residual branch.

    With all units of the group at zero, what reads it gives its bias everywhere, and what follows
    up to the addition must make one value a channel of it: batch norms, activations and squeeze
    and excitation do, a padded convolution does not. The block becomes the shortcut plus these
    values. Of several groups in a branch only the last one counts. All branches are proved
    together, as cuts of channels are: masked in one float64 copy, removed from another.

    Args:
        task: The task; its network stays as it is.
        found: The groups of its network.
        images: Real images for the proof, besides those made up, uint8 (b, 3, h, w).

    Returns:
        The groups, with their branches, and the reason for every group that has none.
    """
    left: dict[str, str] = {}
    branches = _likely(task, found.groups, left)
    marked = [replace(g, branch=branches[g.layer]) for g in found.groups if g.layer in branches]
    disturbed = clone(task)
    disturb_(disturbed.net)
    plan = [(group, list(range(group.num_units))) for group in marked]
    sound, refused = sift(disturbed, plan, images=images, needs_signal=False)
    proved = {group.layer: group for group, _ in sound}
    groups = [proved.get(group.layer, group) for group in found.groups]
    left |= refused
    told = [f"{layer} ({reason})" for layer, reason in left.items()]
    names = [group.branch.block for group in proved.values() if group.branch is not None]
    log.info(f"branches that can go whole: {', '.join(names) or 'none'}")
    if told:
        log.info(f"all channels of these cannot go: {'; '.join(told[:MAX_TOLD])}")
    return replace(found, groups=groups, branches_left=left)


def _likely(task: Task, groups: list[Group], left: dict[str, str]) -> dict[str, Branch]:
    """Return the branch of each group that has one by structure; add reasons for the others."""
    twin = exact_copy(task)
    around = {group.layer: _blocks_around(group, twin.net) for group in groups}
    names = {name for blocks in around.values() for name in blocks}
    with double_precision():
        inputs = inputs_of(twin, twin.example_images(2), names) if names else {}
        found: dict[str, Branch] = {}
        for group in groups:
            try:
                branch = _branch(twin.net, group, around[group.layer], inputs)
            except NoBranch as reason:
                left[group.layer] = str(reason)
                continue
            earlier = [layer for layer, other in found.items() if other.block == branch.block]
            for layer in earlier:  # groups are in the order of their layers
                left[layer] = f"the branch of {branch.block} goes with the units of {group.layer}"
                del found[layer]
            found[group.layer] = branch
    return found


def _blocks_around(group: Group, net: nn.Module) -> list[str]:
    """Return the modules that hold all layers of a group, the innermost first."""
    paths = [member.layer.split(".") for member in group.members]
    shared = 0
    while all(len(path) > shared + 1 and path[shared] == paths[0][shared] for path in paths):
        shared += 1
    return [".".join(paths[0][:count]) for count in range(shared, 0, -1)]


def _branch(
    net: nn.Module, group: Group, blocks: list[str], inputs: Mapping[str, Tensor]
) -> Branch:
    """Return the branch of a group by the innermost block around it that has one.

    Raises:
        NoBranch: If there is none.
    """
    readers = _readers(net, group)
    reason = "no block holds all layers that make or read it"
    for name in blocks:
        if name not in inputs:
            continue
        own = [reader.removeprefix(f"{name}.") for reader in readers]
        try:
            parts = parts_of(net.get_submodule(name), inputs[name], own)
        except NoBranch as problem:
            reason = f"{name} {problem}"
            continue
        # Whatever a block raises when it is run by itself, it is no such block.
        except Exception as problem:
            if is_out_of_memory(problem):
                raise
            reason = f"{name} does not run by itself"
            continue
        branch = Branch(name, parts.shortcut, parts.activation, f"{name}.{parts.reader}")
        if not all(is_lost(member.layer, branch) for member in group.members):
            raise NoBranch(f"the shortcut of {name} makes or reads it too")
        return branch
    raise NoBranch(reason)


def _readers(net: nn.Module, group: Group) -> list[str]:
    """Return the layers that read nothing but a group.

    Raises:
        NoBranch: If a layer has other channels too.
    """
    readers = []
    for member in group.members:
        owner, attribute = named_tensor(net, member.layer)
        part = getattr(owner, attribute)
        if not isinstance(part, nn.Module):
            continue
        if len(member.channels(range(group.num_units))) < (width(part, member.side) or 0):
            raise NoBranch(f"{member.layer} has other channels besides")
        if member.side == "in" and isinstance(part, WEIGHTED_TYPES):
            readers.append(member.layer)
    return readers
