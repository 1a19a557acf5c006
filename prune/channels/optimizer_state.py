"""Optimizer state through a cut: momenta are sliced as the weights are."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map_only

from regrow.prune.channels.records import Plan, channel_tensors, members_of, rows

# The places that each tensor of a network loses, by its name and dimension.
Places = dict[str, dict[int, list[int]]]


def lost_places(net: nn.Module, plan: Plan) -> Places:
    """Return the indices that a plan removes from every parameter and buffer.

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
    """Return a tensor without some indices of one dimension."""
    gone = set(places)
    kept = [place for place in range(tensor.shape[dim]) if place not in gone]
    return tensor.index_select(dim, torch.tensor(kept, device=tensor.device))


def sliced(tensor: Tensor, places: Mapping[int, list[int]]) -> Tensor:
    """Return a tensor without some indices of several dimensions."""
    for dim, gone in places.items():
        tensor = without(tensor, dim, gone)
    return tensor


def sliced_state(
    state: Mapping[str, Any], shape: torch.Size, places: Mapping[int, list[int]]
) -> dict[str, Any]:
    """Return the optimizer's state for one weight, sliced to the shape of the cut weight.

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
    cut: dict[str, Any] = tree_map_only(
        Tensor, lambda t: sliced(t, places) if t.ndim else t, dict(state)
    )
    return cut


def follow_(
    optimizer: torch.optim.Optimizer,
    before: Mapping[str, nn.Parameter],
    net: nn.Module,
    places: Places,
) -> None:
    """Replace an optimizer's weights by those of the cut network, and slice its state likewise.

    Its state for a weight is cut as `sliced_state` says. LBFGS keeps all weights as one
    vector, which cannot follow, so it begins anew. A constant that came in the place of a branch
    goes where the last parameters of that branch were.

    Args:
        optimizer: The optimizer; its groups keep their options.
        before: The weights before the cut, by name.
        net: The network after it.
        places: The indices that the cut removed, as `lost_places` returned them.
    """
    after = dict(net.named_parameters())
    names = {parameter: name for name, parameter in before.items()}
    homes: dict[str, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        held = [(names.get(p), p) for p in group["params"]]
        homes |= {name: group["params"] for name, _ in held if name and name not in after}
        # In place: an optimizer may hold on to the list.
        group["params"][:] = [after.get(n or "", p) for n, p in held if n is None or n in after]
    for name in after.keys() - before.keys():
        owner = f"{name.rpartition('.')[0]}."
        home = [params for gone, params in homes.items() if gone.startswith(owner)]
        if home:
            home[-1].append(after[name])
    if isinstance(optimizer, torch.optim.LBFGS):
        optimizer.state.clear()
        optimizer._numel_cache = None
    for old, name in names.items():
        if old in optimizer.state and after.get(name) is not old:
            state = sliced_state(optimizer.state.pop(old), old.shape, places.get(name, {}))
            if state and name in after:
                optimizer.state[after[name]] = state
