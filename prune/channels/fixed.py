"""Buffers with one entry a channel, such as fixed embeddings, which are cut with the channels."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor, nn

from regrow.prune.channels.records import (
    NORM_TYPES,
    STATISTICS_TYPES,
    WEIGHTED_TYPES,
    Group,
    per_channel,
    width,
)

# Layers that keep buffers of their own, which are cut with them or not at all.
KNOWN_TYPES = (*WEIGHTED_TYPES, *NORM_TYPES, *STATISTICS_TYPES, nn.Embedding)


def unfix_(net: nn.Module) -> set[str]:
    """Turn buffers that may hold one entry a channel into parameters, so that the graph sees them.

    Args:
        net: A network that is given up for this.

    Returns:
        The names of these buffers.
    """
    names = set()
    known = (*KNOWN_TYPES, *frozen_norms(net))
    for name, module in net.named_modules():
        for key, buffer in list(module._buffers.items()):
            if isinstance(module, known) or not _is_wide(buffer):
                continue
            delattr(module, key)
            module.register_parameter(key, nn.Parameter(buffer.detach().clone()))
            names.add(f"{name}.{key}" if name else key)
    return names


def frozen_norms(net: nn.Module) -> tuple[type[nn.Module], ...]:
    """Return the types of a network's layers that act as frozen batch norms do.

    They are told by what they do, whoever wrote them: each channel is scaled and shifted, and
    perhaps activated, by itself and at each place alike, by buffers with one entry a channel.
    """
    acts: dict[type[nn.Module], bool] = {}
    for module in net.modules():
        kind = type(module)
        if per_channel(module) and acts.get(kind, True):
            acts[kind] = _acts_by_channel(module)
    return tuple(kind for kind, does in acts.items() if does)


@torch.no_grad()
def _acts_by_channel(layer: nn.Module) -> bool:
    """Whether each value that a layer gives depends on one that it reads, and on its channel."""
    buffer = next(layer.buffers())
    drawn = torch.Generator().manual_seed(0)
    images = torch.randn(2, width(layer, "out") or 0, 3, 4, generator=drawn).to(buffer)
    other = torch.randn(images.shape, generator=drawn).to(buffer)
    stays = torch.rand(images.shape, generator=drawn).to(buffer.device) < 0.5
    try:
        given, mixed = (layer.forward(x.clone()) for x in (images, images.where(stays, other)))
        turned = layer.forward(images.flip(0, 2, 3))
        is_alone = torch.equal(given[stays], mixed[stays])
        return is_alone and torch.allclose(turned.flip(0, 2, 3), given)
    # It reads something else than maps, or gives it.
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False


def _is_wide(buffer: Tensor | None) -> bool:
    return buffer is not None and buffer.is_floating_point() and max(buffer.shape, default=0) > 1


def guesses(group: Group, net: nn.Module, fixed: Collection[str]) -> Iterator[Group]:
    """Yield guesses of the dimension of each buffer that channels lie along, the likeliest first.

    As many places as there are channels look the same, and some buffers have no channels at all.

    Args:
        group: A group as the graph has it.
        net: The network, whose buffers these are.
        fixed: The names of the buffers that may be members.
    """
    yield group
    # Maps have their channels third to last, tokens last; what is brought into shape, anywhere.
    for axis, is_only in product((-3, -1), (False, True)):
        members = []
        for member in group.members:
            if member.layer not in fixed or member.dim is None:
                members.append(member)
                continue
            shape = net.get_buffer(member.layer).shape
            if len(shape) >= -axis and shape[axis] == shape[member.dim]:
                members.append(replace(member, dim=len(shape) + axis))
            elif not is_only:
                members.append(member)
        yield replace(group, members=tuple(members))
