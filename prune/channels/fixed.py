"""Buffers with one entry a channel, such as fixed embeddings, which are cut with the channels."""

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import product

from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from regrow.prune.channels.records import NORM_TYPES, STATISTICS_TYPES, WEIGHTED_TYPES, Group

# Layers that keep buffers of their own, which are cut with them or not at all.
KNOWN_TYPES = (*WEIGHTED_TYPES, *NORM_TYPES, *STATISTICS_TYPES, nn.Embedding, FrozenBatchNorm2d)


def unfix_(net: nn.Module) -> set[str]:
    """Turn buffers that may hold one entry a channel into parameters, so that the graph sees them.

    Args:
        net: A network that is given up for this.

    Returns:
        The names of these buffers.
    """
    names = set()
    for name, module in net.named_modules():
        for key, buffer in list(module._buffers.items()):
            if isinstance(module, KNOWN_TYPES) or not _is_wide(buffer):
                continue
            delattr(module, key)
            module.register_parameter(key, nn.Parameter(buffer.detach().clone()))
            names.add(f"{name}.{key}" if name else key)
    return names


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
