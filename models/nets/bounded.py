"""Limits on the network that an untrusted checkpoint names: no larger than its weights."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from regrow.data.names.tidy import MAX_NAME
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.models.nets.build import build_net, list_nets
from regrow.models.record import buffers, structure

MAX_SIDE = 2**16  # pixels
# Entries that a dense network may have in any case: a gigabyte in single precision.
FREE_ENTRIES = 2**28
# Least share of the entries that pruning may have left, above that number.
LEAST_SHARE = 0.01
# Modules and tensors that a network may have in any case, and per tensor of the file.
FREE_PARTS, PARTS_PER_TENSOR = 2_000, 10


def refuse_unlike(
    kind: Kind, args: Mapping[str, Any], record: Mapping[str, Any], state: Mapping[str, Tensor]
) -> bool:
    """Refuse a record whose network does not match its weights, before memory is allocated.

    A network of regrow, torchvision or timm is built without memory, on torch's `meta` device, and
    called once. If its own code cannot run there, the check is left to the actual loading.

    Args:
        kind: The kind of task.
        args: The arguments of the task in the record.
        record: The record; its structure and buffers are used.
        state: The weights in the file, by their names inside the network.

    Returns:
        Whether the network was called, with images of its size.

    Raises:
        BadInput: If names or shapes differ, or the dense network is out of proportion.
    """
    num_classes, size = _dimensions(args)
    name, net_args = args.get("net", "small"), args.get("net_args") or {}
    if name not in list_nets(kind):
        return False  # the user's own network, whose code may keep tensors of this device
    try:
        with torch.device("meta"), bounded(state):
            net = build_net(kind, name, num_classes, size, net_args)
    except BadInput as error:
        if error.__cause__ is None:
            raise
        return False  # perhaps it reads values, which this device has none of
    num_entries = sum(tensor.numel() for tensor in [*net.parameters(), *net.buffers()])
    if num_entries > _most_entries(state):
        raise BadInput(f"its dense network has {num_entries:,} weights, and few of them are left")
    structure.rebuild_(net, record["structure"])
    _refuse_other_shapes(net.state_dict(), state)
    buffers.rebuild_(net, record.get("buffers", {}))
    try:
        with torch.no_grad():
            net.eval()(torch.empty(1, 3, *size, device="meta"))
    except Exception:  # of the network itself, or since this device has no values
        return False
    return True


def _dimensions(args: Mapping[str, Any]) -> tuple[int, tuple[int, int]]:
    """Return the number of classes and the size in a record, if they are in bounds."""
    classes: Any = args.get("classes")
    size: Any = args.get("size")
    if not isinstance(classes, list) or not all(map(_is_name, classes)):
        raise BadInput("its record has classes that are no list of names that can be printed")
    is_size = isinstance(size, list | tuple) and len(size) == 2
    if not is_size or not all(type(n) is int and 0 < n <= MAX_SIDE for n in size):
        raise BadInput("its record has a size that is no height and width of images")
    return len(classes), (size[0], size[1])


def _refuse_other_shapes(expected: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    wanted, found = _shapes(expected), _shapes(state)
    for name in [*wanted, *found]:
        if wanted.get(name) != found.get(name):
            raise BadInput(
                f"its record does not fit its weights ({name} is {found.get(name, 'missing')}, "
                f"in the record {wanted.get(name, 'missing')})"
            )


@contextmanager
def bounded(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Context manager: stop the building of a network that is far larger than its weights.

    Args:
        state: The weights for the network.

    Raises:
        BadInput: If the network has far more modules and tensors than these, or far more entries.
    """
    num_parts, num_entries = 0, 0
    most_parts = FREE_PARTS + PARTS_PER_TENSOR * len(state)
    most_entries = 2 * _most_entries(state)  # a head may have been replaced

    def count(module: nn.Module, name: str, part: Any) -> None:
        nonlocal num_parts, num_entries
        num_parts += 1
        num_entries += part.numel() if isinstance(part, Tensor) else 0
        if num_parts > most_parts:
            raise BadInput(f"its network has more than {num_parts:,} parts, its weights are few")
        if num_entries > most_entries:
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
    """Return the shapes of tensors by name; a user's own network may save more than tensors."""
    return {name: tuple(t.shape) for name, t in state.items() if isinstance(t, Tensor)}


def _most_entries(state: Mapping[str, Tensor]) -> int:
    held = sum(math.prod(shape) for shape in _shapes(state).values())
    return max(FREE_ENTRIES, math.ceil(held / LEAST_SHARE))
