"""Removing channels: masked to zero, or cut out of the network."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch_pruning import ops
from torch_pruning.pruner import function

from regrow.errors import BadInput
from regrow.models.masks import carried
from regrow.models.modes import copied
from regrow.models.nets.attention import convert_, is_convertible
from regrow.models.nets.padded_norm import cut_norm_, is_paddable, pad_
from regrow.models.task import Task
from regrow.prune.channels.optimizer_state import follow_, lost_places, sliced_state, without
from regrow.prune.channels.records import (
    STATISTICS_TYPES,
    Member,
    Plan,
    Removed,
    members_of,
    named_tensor,
    per_channel,
    removal,
    width,
)
from regrow.prune.depth.skipping import emptied, skip_


class FrozenNormPruner(function.BasePruningFunc):  # type: ignore[misc]
    """Cut frozen batch norms of any library, which torch-pruning does not know."""

    def prune_out_channels(self, layer: nn.Module, idxs: Sequence[int]) -> nn.Module:
        """Drop entries of all buffers."""
        before = width(layer, "out") or 0
        for name, dim in per_channel(layer).items():
            setattr(layer, name, without(layer.get_buffer(name), dim, list(idxs)))
        if getattr(layer, "num_features", None) == before:
            layer.num_features = before - len(idxs)  # type: ignore[assignment]
        return layer

    # One function for both sides tells torch-pruning that the layer keeps the width.
    prune_in_channels = prune_out_channels

    def get_out_channels(self, layer: nn.Module) -> int:
        """Count the channels."""
        return width(layer, "out") or 0

    get_in_channels = get_out_channels


FROZEN_NORM = FrozenNormPruner()


def clone(task: Task) -> Task:
    """Copy a task so that its network can be cut: a network of its own, all else shared.

    Momenta are shared too: a cut gives a task new ones, and changes none.

    Raises:
        BadInput: If the network keeps tensors that cannot be copied.
    """
    twin = copy.copy(task)
    # A shallow copy shares the dicts in which a module keeps its children and buffers.
    twin.__dict__["_modules"] = dict(task._modules)
    twin.__dict__["_buffers"] = dict(task._buffers)
    try:
        twin.net = copied(task.net)
    except RuntimeError as error:
        computed, name = _computed(task.net), type(task.net).__name__
        if computed is None:
            raise BadInput(f"{name}: cannot be copied: {error}") from error
        raise BadInput(
            f"{name}: cannot be copied, since {computed} is computed from other tensors; let it "
            "keep no tensors of a forward pass, and weights only as `torch.nn.utils.parametrize` "
            "does"
        ) from error
    return twin


def _computed(net: nn.Module) -> str | None:
    """Return the first attribute that is no parameter and part of an autograd graph, by name."""
    for name, module in net.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor) and value.grad_fn is not None:
                return f"{name}.{attribute}".lstrip(".")
    return None


def exact_copy(task: Task) -> Task:
    """Copy a task in float64, with its network in evaluation mode."""
    twin = clone(task)
    twin.net.double().eval()
    for name, buffer in twin._buffers.items():
        if buffer is not None and buffer.is_floating_point():
            twin._buffers[name] = buffer.double()
    return twin


@torch.no_grad()
def mask_(task: Task, plan: Plan) -> Removed:
    """Set chosen channels to zero in every layer that makes or reads them.

    Args:
        task: The task whose network is masked in place; its shapes stay.
        plan: Groups with the units to mask.

    Returns:
        The masked channels of each side of each layer.

    Examples:
        >>> from torch import nn
        >>> from regrow.prune import as_task, find_groups, mask_
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        >>> task = as_task(net, size=(8, 8))
        >>> (group,) = find_groups(task).groups
        >>> masked = mask_(task, [(group, [2, 5])])
        >>> masked["0", "out"], int(net[0].weight[[2, 5]].count_nonzero())
        ([2, 5], 0)
    """
    for name, places in lost_places(task.net, plan).items():
        owner, attribute = named_tensor(task.net, name)
        tensor = getattr(owner, attribute)
        for dim, gone in places.items() if not _is_divisor(owner, attribute) else ():
            tensor.index_fill_(dim, torch.tensor(gone, device=tensor.device), 0)
    return removal(plan)


def _is_divisor(norm: nn.Module, name: str) -> bool:
    """Whether a norm may divide by a tensor, such as a variance, which must not be zero then."""
    if name in ("weight", "bias", "running_mean", "running_var") or name not in per_channel(norm):
        return name == "running_var"
    return bool((norm.get_buffer(name) > 0).all())


@torch.no_grad()
def cut_(task: Task, plan: Plan, optimizer: torch.optim.Optimizer | None = None) -> Removed:
    """Remove channels in place from every layer that makes or reads them, through torch-pruning.

    The modules stay the same objects, in their mode and with their hooks; parameters are new
    ones, which require a gradient if the old ones did, and single weights keep their masks.
    Attention that cannot have fewer heads as it is gets the class that can, see
    `regrow.models.nets.attention`, and so do norms over channels, whose statistics go on to count
    those that are gone, see `regrow.models.nets.padded_norm`. A residual branch whose group loses
    all units is removed: its block becomes a `ShortcutBlock`. The momenta of the task are cut with
    the weights. A moving average of the weights is cut by the same plan, in a call of its own.

    Args:
        task: The task whose network is cut in place.
        plan: Groups of this very network with the units to remove.
        optimizer: An optimizer of these parameters, which goes on with the new ones: its state is
            sliced as they are, or begins anew where it cannot be, see `optimizer_state.follow_`.

    Returns:
        The removed channels of each side of each layer, in the old numbering.

    Raises:
        ValueError: If a layer would be left without channels, and is in no branch that can go.

    Examples:
        A training loop of one's own, plain or Lightning's, cuts between two epochs:

        >>> import torch
        >>> from torch import nn
        >>> from regrow.prune import Magnitude, as_task, cut_, find_groups, lowest, score_groups
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        >>> # ... train for some epochs, and then:
        >>> task = as_task(net, size=(8, 8))
        >>> groups = find_groups(task).groups
        >>> plan = lowest(groups, score_groups(task, groups, Magnitude()), share=0.5)
        >>> removed = cut_(task, plan, optimizer)
        >>> net[0].out_channels, net[3].in_features
        (4, 144)
        >>> # ... and train on, with the same network and the same optimizer.
    """
    before, removed = dict(task.net.named_parameters()), removal(plan)
    if emptied(plan):
        masked = exact_copy(task)
        mask_(masked, plan)
        plan = skip_(task.net, masked, plan)
    flags = {name: p.requires_grad for name, p in task.net.named_parameters()}
    places = lost_places(task.net, plan)
    with carried(task.net):
        for member, channels in members_of(plan):
            _cut_member_(task.net, member, channels)
    for name, parameter in task.net.named_parameters():
        parameter.requires_grad_(flags[name])
    # Moving nothing anywhere makes modules drop what they keep of their weights, as timm's do.
    task.net._apply(lambda tensor: tensor)
    task.momenta = {
        name: sliced_state(state, before[name].shape, places.get(name, {}))
        for name, state in task.momenta.items()
        if name in flags
    }
    if optimizer is not None:
        follow_(optimizer, before, task.net, places)
    return removed | removal(plan)


def pruner_of(module: nn.Module) -> function.BasePruningFunc:
    """Return torch-pruning's functions for a layer."""
    if per_channel(module):
        return FROZEN_NORM
    return function.PrunerBox[ops.module2type(module)]


def _cut_member_(net: nn.Module, member: Member, channels: list[int]) -> None:
    owner, attribute = named_tensor(net, member.layer)
    if is_convertible(owner):
        convert_(owner)
    if member.is_count:
        _count_down_(net, member, len(channels))
        return
    if member.dim is not None:
        tensor = getattr(owner, attribute)
        rest = without(tensor, member.dim, channels)
        setattr(owner, attribute, nn.Parameter(rest) if isinstance(tensor, nn.Parameter) else rest)
        return
    module = net.get_submodule(member.layer)
    if len(channels) >= (width(module, member.side) or 0):
        raise ValueError(f"{member.layer} would be left without channels")
    if isinstance(module, STATISTICS_TYPES):
        if is_paddable(module):
            pad_(module)
        gone = set(channels)
        cut_norm_(module, [c for c in range(width(module, "out") or 0) if c not in gone])
        return
    pruner = pruner_of(module)
    prune = pruner.prune_out_channels if member.side == "out" else pruner.prune_in_channels
    prune(module, channels)


def _count_down_(net: nn.Module, member: Member, lost: int) -> None:
    owner, attribute = named_tensor(net, member.layer)
    counts = getattr(owner, attribute)
    left = (counts if member.dim is None else counts[member.dim]) - lost
    if left < 1:
        raise ValueError(f"{member.layer} would be left without channels")
    if member.dim is not None:
        left = (*counts[: member.dim], left, *counts[member.dim + 1 :])
    setattr(owner, attribute, left)
