"""Non-persistent buffers: recorded in the checkpoint, since a state dict leaves them out.

A buffer with `persistent=False` is one that the network can compute again: a grid, an index, a mask
of attention. But some networks change it with the size of the images, some draw it at random, and
pruning may have cut it. So a checkpoint holds those that differ from a fresh network's.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput


def record(net: nn.Module, dense: nn.Module) -> dict[str, Tensor | None]:
    """Return the non-persistent buffers that differ from those of a fresh network.

    Args:
        net: The network.
        dense: A fresh network of the same name and arguments.

    Returns:
        The buffers by name, on the CPU; None for a buffer that is now None.
    """
    modules = dict(dense.named_modules())
    found: dict[str, Tensor | None] = {}
    for name, module, key in _unsaved(net):
        owner, value = modules.get(name), module._buffers[key]
        if owner is None or key not in owner._buffers:
            continue
        own = owner._buffers[key]
        if value is None or own is None:
            is_same = value is own
        else:
            is_same = own.shape == value.shape and torch.equal(own.to(value), value)
        if not is_same:
            full = f"{name}.{key}" if name else key
            found[full] = value if value is None else value.detach().cpu().clone().contiguous()
    return found


def rebuild_(net: nn.Module, record: Any) -> None:
    """Set the non-persistent buffers of a network from a record, in place.

    Args:
        net: The network, fresh or with other buffers.
        record: The result of `record`, perhaps from an untrusted file.

    Raises:
        BadInput: If the record names a buffer that the network lacks, or that its state dict holds.
    """
    if not isinstance(record, Mapping):
        raise BadInput("its buffers are not a record")
    places = {f"{name}.{key}" if name else key: (m, key) for name, m, key in _unsaved(net)}
    for name, value in record.items():
        if name not in places or not (value is None or isinstance(value, Tensor)):
            raise BadInput(f"its record has the buffer {name!r}, which the network lacks")
        module, key = places[name]
        device = next((t.device for t in net.parameters()), torch.device("cpu"))
        module._buffers[key] = None if value is None else value.to(device, copy=True)


def _unsaved(net: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    for name, module in net.named_modules():
        for key in sorted(module._non_persistent_buffers_set & module._buffers.keys()):
            yield name, module, key
