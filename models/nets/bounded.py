"""Building the network that a stranger's file names, no larger than the weights it comes with."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from regrow.data.labels import Kind
from regrow.data.names.tidy import MAX_NAME
from regrow.errors import BadInput
from regrow.models import buffers, structure
from regrow.models.nets.build import build_net, list_nets

MAX_SIDE = 2**16  # pixels
# Entries that a dense network may always have: a gigabyte in single precision.
FREE_ENTRIES = 2**28
# What pruning may have left of more than that.
LEAST_SHARE = 0.01
# Modules and tensors that a network may always have, and how many for each tensor of the file.
FREE_PARTS, PARTS_PER_TENSOR = 2_000, 10


def refuse_unlike(
    kind: Kind, args: Mapping[str, Any], record: Mapping[str, Any], state: Mapping[str, Tensor]
) -> bool:
    """Refuse a record whose network is not that of the weights beside it, before it is allocated.

    A network of the libraries is built without memory, on torch's `meta` device, and called once.
    One that cannot be built or called so, by its own code, is left to the real thing.

    Args:
        kind: The kind of task.
        args: The arguments of the task in the record.
        record: The record, of which structure and buffers are used.
        state: The weights beside it, by their names inside the net.

    Returns:
        Whether the network could be called, with images of its size.

    Raises:
        BadInput: If names or shapes differ, or the dense network is out of proportion.
    """
    classes: Any = args.get("classes")
    size: Any = args.get("size")
    if not isinstance(classes, list) or not all(map(_is_name, classes)):
        raise BadInput("its record has classes that are no list of names that can be printed")
    is_size = isinstance(size, list | tuple) and len(size) == 2
    if not is_size or not all(type(n) is int and 0 < n <= MAX_SIDE for n in size):
        raise BadInput("its record has a size that is no height and width of images")
    (height, width), net_args = size, args.get("net_args") or {}
    if args.get("net", "small") not in list_nets(kind):
        return False  # the user's own, whose code may keep what it makes
    try:
        with torch.device("meta"), bounded(state):
            net = build_net(kind, args.get("net", "small"), len(classes), (height, width), net_args)
    except BadInput as error:
        if error.__cause__ is None:
            raise
        return False  # perhaps it looks at numbers, and there are none
    num_entries = sum(tensor.numel() for tensor in [*net.parameters(), *net.buffers()])
    if num_entries > _most_entries(state):
        raise BadInput(f"its dense network has {num_entries:,} weights, and few of them are left")
    structure.rebuild_(net, record["structure"])
    wanted, found = _shapes(net.state_dict()), _shapes(state)
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise BadInput(
                f"its record does not fit its weights ({name} is {found.get(name, 'missing')}, "
                f"in the record {wanted.get(name, 'missing')})"
            )
    buffers.rebuild_(net, record.get("buffers", {}))
    try:
        with torch.no_grad():
            net.eval()(torch.empty(1, 3, height, width, device="meta"))
    except Exception:  # its own, or that of a device without numbers
        return False
    return True


@contextmanager
def bounded(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Refuse a network, while it is being built, that is out of proportion to the weights for it.

    Args:
        state: The weights.

    Raises:
        BadInput: If it has far more parts than these, or far more entries.
    """
    num_parts, num_entries = 0, 0

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal num_parts, num_entries
        num_parts += 1
        num_entries += part.numel() if isinstance(part, Tensor) else 0
        if num_parts > FREE_PARTS + PARTS_PER_TENSOR * len(state):
            raise BadInput(f"its network has more than {num_parts:,} parts, its weights are few")
        if num_entries > 2 * _most_entries(state):  # a head may have been replaced
            raise BadInput(f"its network has more than {num_entries:,} weights, the file has few")

    handles = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
        registration.register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and name.isprintable() and len(name) <= MAX_NAME


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Get the shapes of tensors by name; a network of one's own may keep more than tensors."""
    return {name: tuple(t.shape) for name, t in state.items() if isinstance(t, Tensor)}


def _most_entries(state: Mapping[str, Tensor]) -> int:
    held = sum(math.prod(shape) for shape in _shapes(state).values())
    return max(FREE_ENTRIES, math.ceil(held / LEAST_SHARE))
