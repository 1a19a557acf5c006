"""Scores of units from their weights in every layer that makes or reads them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from regrow.prune.channels.records import Group, Member, channel_tensors, named_tensor, rows


def combine(
    group: Group,
    net: nn.Module,
    score: Callable[..., Tensor | None],
    others: dict[str, Tensor] | None = None,
) -> Tensor:
    """Compute the score of each unit as the average over the layers that see it."""
    total, seen = torch.zeros(group.num_units), torch.zeros(group.num_units)
    for member in group.members:
        present = [unit for unit, channels in enumerate(member.units) if channels]
        contribution: Tensor | None = None
        for name, tensor, dim in _parameters(net, member):
            gathered = [_gather(tensor, net, member, present, dim)]
            if others is not None:
                if name not in others:
                    continue
                gathered.append(_gather(others[name], net, member, present, dim))
            value = score(name, *gathered)
            if value is not None:
                contribution = value if contribution is None else contribution + value
        if contribution is not None:
            total[present] += contribution.detach().float().cpu()
            seen[present] += 1
    return total / seen.clamp_min(1)


def _parameters(net: nn.Module, member: Member) -> list[tuple[str, Tensor, int]]:
    if member.is_count:
        return []
    if member.dim is not None:
        owner, attribute = named_tensor(net, member.layer)
        tensor = getattr(owner, attribute)
        return [(member.layer, tensor, member.dim)] if isinstance(tensor, nn.Parameter) else []
    module = net.get_submodule(member.layer)
    named = [(name, dim) for name, dim in channel_tensors(module, member.side)]
    return [
        (f"{member.layer}.{name}", getattr(module, name), dim)
        for name, dim in named
        if isinstance(getattr(module, name), nn.Parameter)
    ]


def _gather(tensor: Tensor, net: nn.Module, member: Member, present: list[int], dim: int) -> Tensor:
    """Return the entries of each unit, (units, entries)."""
    places: list[list[int]] = []
    for unit in present:
        channels = list(member.units[unit])
        module = net.get_submodule(member.layer) if member.dim is None else None
        places.append(channels if module is None else rows(module, member.side, dim, channels))
    index = torch.tensor(places, device=tensor.device)
    picked = tensor.detach().movedim(dim, 0)[index.flatten()]
    return picked.reshape(len(present), -1)
