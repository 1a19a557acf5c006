"""What follows a network through a cut: the state of its optimizer, and anything else by weight."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from regrow.prune.channels.records import Plan, channel_tensors, members_of, rows

# The places that each tensor of a network loses, by its name and dimension.
Places = dict[str, dict[int, list[int]]]


def lost_places(net: nn.Module, plan: Plan) -> Places:
    """Give the places that a plan takes from every parameter and buffer.

    Args:
        net: The network before the cut.
        plan: Groups of this very network with the units to remove.
    """
    places: Places = {}
    for member, channels in members_of(plan):
        if member.is_count:
            continue
        if member.dim is not None:
            places.setdefault(member.layer, {})[member.dim] = channels
            continue
        module = net.get_submodule(member.layer)
        for name, along in channel_tensors(module, member.side):
            found = rows(module, member.side, along, channels)
            places.setdefault(f"{member.layer}.{name}", {})[along] = found
    return places


def without(tensor: Tensor, dim: int, places: list[int]) -> Tensor:
    """Give a tensor without some places of one dimension."""
    gone = set(places)
    kept = [place for place in range(tensor.shape[dim]) if place not in gone]
    return tensor.index_select(dim, torch.tensor(kept, device=tensor.device))


def sliced(tensor: Tensor, places: Mapping[int, list[int]]) -> Tensor:
    """Give a tensor without some places of several dimensions."""
    for dim, gone in places.items():
        tensor = without(tensor, dim, gone)
    return tensor


def sliced_state(
    state: Mapping[str, Any], shape: torch.Size, places: Mapping[int, list[int]]
) -> dict[str, Any]:
    """Give the state that an optimizer keeps for one weight, as large as the cut weight.

    Args:
        state: Momentum and the like by name.
        shape: The shape of the weight before the cut.
        places: The places that the weight loses by dimension.

    Returns:
        The state: what has the weight's shape is sliced, numbers are kept. None of it, so that the
        weight begins anew, if there are tensors of another shape, as with Adafactor: nothing says
        how these follow.
    """
    tensors = [leaf for leaf in tree_leaves(dict(state)) if isinstance(leaf, Tensor) and leaf.ndim]
    if places and any(tensor.shape != shape for tensor in tensors):
        return {}
    return tree_map_only(Tensor, lambda t: sliced(t, places) if t.ndim else t, dict(state))


def follow_(
    optimizer: torch.optim.Optimizer,
    before: Mapping[str, nn.Parameter],
    net: nn.Module,
    places: Places,
) -> None:
    """Let an optimizer go on with the weights of the cut network, and its state with them.

    What it remembers of a weight is cut as `sliced_state` says. LBFGS remembers all weights as one
    vector, which cannot follow, so it begins anew.

    Args:
        optimizer: The optimizer; its groups keep their options.
        before: The weights before the cut, by name.
        net: The network after it.
        places: What the cut took, as `lost_places` gave it.
    """
    after = dict(net.named_parameters())
    names = {parameter: name for name, parameter in before.items()}
    for group in optimizer.param_groups:
        # In place: an optimizer may hold on to the list.
        group["params"][:] = [after.get(names.get(p, ""), p) for p in group["params"]]
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()
        optimizer._numel_cache = None
    for old, name in names.items():
        if old in optimizer.state and after[name] is not old:
            state = sliced_state(optimizer.state.pop(old), old.shape, places.get(name, {}))
            if state:
                optimizer.state[after[name]] = state
