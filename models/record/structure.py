"""The structure record of a pruned network, from which it is rebuilt without pruning code."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from regrow.errors import BadInput
from regrow.models.modes import copied
from regrow.models.nets.attention import convert_, is_converted, is_convertible
from regrow.models.nets.padded_norm import PaddedNorm, is_paddable, pad_, width_of
from regrow.models.record import branches, buffers


def record(net: nn.Module, dense: nn.Module) -> dict[str, Any]:
    """Return the differences in structure between a network and its dense original.

    Args:
        net: The network, pruned or not.
        dense: A fresh network of the same name and arguments; its weights do not matter.

    Returns:
        Plain data: `branches`, the blocks that have lost their residual branch, as
        `regrow.models.record.branches` describes them; `converted`, the names of attention layers
        that may have lost heads and of norms that may have lost channels; `attributes`, whole
        numbers and tuples of them that became smaller, by module; `shapes` of parameters and
        persistent buffers by name; `trainable`, `requires_grad` flags of parameters. Each is
        empty for an unchanged network. Other buffers: `regrow.models.record.buffers`.
    """
    modules = dict(dense.named_modules())
    pairs = [(n, module, modules[n]) for n, module in net.named_modules() if n in modules]
    converted = [n for n, own, other in pairs if _is_changed(own) and _is_plain(other)]
    attributes = {n: _smaller(_sizes(own), _sizes_as(own, other)) for n, own, other in pairs}
    before = _tensors(dense)
    shapes = {
        name: list(tensor.shape)
        for name, tensor in _tensors(net).items()
        if name in before and tensor.shape != before[name].shape
    }
    flags = {name: p.requires_grad for name, p in dense.named_parameters()}
    trainable = {
        name: p.requires_grad
        for name, p in net.named_parameters()
        if name in flags and flags[name] != p.requires_grad
    }
    return {
        "branches": branches.record(net),
        "converted": converted,
        "attributes": {name: changed for name, changed in attributes.items() if changed},
        "shapes": shapes,
        "trainable": trainable,
    }


def _smaller(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sizes of a layer that pruning made smaller than those of the dense layer."""
    # A number that grew is no size that pruning left, such as a count of steps.
    return {
        key: value
        for key, value in own.items()
        if key in other and value != other[key] and _is_part(value, other[key])
    }


def rebuild_(net: nn.Module, record: Mapping[str, Any]) -> set[str]:
    """Resize a fresh dense network to a structure record, in place, before weights are loaded.

    Args:
        net: The dense network.
        record: The result of `record`, perhaps from an untrusted file.

    Returns:
        The names of the new tensors, which are uninitialised until weights are loaded.

    Raises:
        BadInput: If the record names a part that the network lacks, or a size that pruning cannot
            have left.
    """
    if not isinstance(record, Mapping):
        raise BadInput("its structure is not a record")
    constants = branches.rebuild_(net, record.get("branches", {}))
    modules = dict(net.named_modules())
    names = record.get("converted", [])
    if not isinstance(names, list):
        raise BadInput(f"its structure has 'converted' of type {type(names).__name__}")
    for name in names:
        if not isinstance(name, str) or name not in modules or not _is_plain(modules[name]):
            raise BadInput(f"its structure names the attention {name!r}, which the network lacks")
        (convert_ if is_convertible(modules[name]) else pad_)(modules[name])
    for name, changed in _mapping(record, "attributes").items():
        if name not in modules or not isinstance(changed, Mapping):
            raise BadInput(f"its structure names the layer {name!r}, which the network lacks")
        for key, value in changed.items():
            _set_size(modules[name], name, key, value)
    tensors, unsaved = _tensors(net), dict(net.named_buffers())
    shapes = _mapping(record, "shapes")
    # Older records have shapes of non-persistent buffers too; those of the fresh network hold.
    shapes = {name: s for name, s in shapes.items() if name in tensors or name not in unsaved}
    for name, shape in shapes.items():
        if name not in tensors:
            raise BadInput(f"its structure names the tensor {name!r}, which the network lacks")
        _resize(net, name, tensors[name], shape)
    parameters = dict(net.named_parameters())
    for name, flag in _mapping(record, "trainable").items():
        if name not in parameters or not isinstance(flag, bool):
            raise BadInput(f"its structure names the parameter {name!r}, which the network lacks")
        parameters[name].requires_grad_(flag)
    return {*shapes, *constants}


@torch.no_grad()
def fresh_twin(net: nn.Module, dense: nn.Module) -> nn.Module:
    """Build a network with the structure of a pruned one and freshly initialised weights.

    Each weight is a slice of the fresh dense network's, whatever its initialisation, since the
    entries of a weight are drawn alike. It is scaled up as its number of inputs falls.

    Source: He et al. 2015, arXiv 1502.01852, equation 10, for the scale: a variance proportional to
    one over the number of inputs.

    Args:
        net: The pruned network.
        dense: A fresh network of the same name and arguments, which stays as it is.

    Returns:
        The twin, on the device of the dense network and in its mode.
    """
    twin = copied(dense)
    rebuild_(twin, {**record(net, dense), "trainable": {}})
    buffers.rebuild_(twin, buffers.record(net, dense))
    source, drawn = dense.state_dict(), {}
    weights = dict(twin.named_parameters())
    for name, tensor in twin.state_dict().items():
        if name not in source:  # a constant in the place of a branch
            drawn[name] = torch.zeros_like(tensor)
            continue
        part = source[name][tuple(slice(length) for length in tensor.shape)]
        longer, shorter = source[name].shape[1:], tensor.shape[1:]
        if longer != shorter and name in weights:
            part = part * math.sqrt(math.prod(longer) / math.prod(shorter))
        drawn[name] = part
    twin.load_state_dict(drawn)
    return twin


def _is_plain(module: nn.Module) -> bool:
    """Whether a layer is of a class that is changed when it is cut, and has not been yet."""
    return is_convertible(module) or is_paddable(module)


def _is_changed(module: nn.Module) -> bool:
    return is_converted(module) or isinstance(module, PaddedNorm)


def _sizes_as(own: nn.Module, other: nn.Module) -> dict[str, int | tuple[int, ...]]:
    """Return the sizes of a dense layer, as if its class had been changed as another one's was."""
    if isinstance(own, PaddedNorm) and is_paddable(other):
        return {**_sizes(other), "full_width": width_of(other) or 0}
    return _sizes(other)


def _sizes(module: nn.Module) -> dict[str, int | tuple[int, ...]]:
    sizes: dict[str, int | tuple[int, ...]] = {}
    for key, value in vars(module).items():
        if type(value) is int:
            sizes[key] = value
        elif isinstance(value, tuple | list) and value and all(type(v) is int for v in value):
            sizes[key] = tuple(value)
    return sizes


def _tensors(net: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and persistent buffers by name."""
    held = net.state_dict(keep_vars=True).keys()
    tensors = dict(net.named_parameters()) | dict(net.named_buffers())
    return {name: tensor for name, tensor in tensors.items() if name in held}


def _mapping(record: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = record.get(key, {})
    if not isinstance(value, Mapping):
        raise BadInput(f"its structure has {key!r} of type {type(value).__name__}")
    return value


def _is_part(new: int | tuple[int, ...], old: int | tuple[int, ...]) -> bool:
    """Whether pruning can have reduced an old size, or a tuple of sizes, to a new one."""
    if isinstance(new, int) or isinstance(old, int):
        return isinstance(new, int) and isinstance(old, int) and 1 <= new <= old
    return len(new) == len(old) and all(map(_is_part, new, old))


def _set_size(module: nn.Module, name: str, key: str, value: Any) -> None:
    old = _sizes(module).get(key)
    if isinstance(value, list):
        value = tuple(value)
    is_like = type(old) is type(value)
    if isinstance(old, tuple) and isinstance(value, tuple):
        is_like = len(old) == len(value) and all(type(v) is int for v in value)
    if old is None or not is_like:
        raise BadInput(f"its structure sets {name}.{key}, which is no size of that layer")
    if not _is_part(value, old):
        raise BadInput(f"its structure sets {name}.{key} to {value}; the dense network has {old}")
    setattr(module, key, list(value) if isinstance(vars(module)[key], list) else value)


def _resize(net: nn.Module, name: str, tensor: Tensor, shape: Any) -> None:
    is_list = isinstance(shape, list | tuple) and all(type(size) is int for size in shape)
    if not is_list or len(shape) != tensor.ndim:
        raise BadInput(f"its structure gives {name} the shape {shape}")
    if any(new < 1 or new > old for new, old in zip(shape, tensor.shape, strict=True)):
        raise BadInput(
            f"its structure gives {name} the shape {tuple(shape)}; the dense network has "
            f"{tuple(tensor.shape)}"
        )
    owner, _, key = name.rpartition(".")
    module = net.get_submodule(owner)
    smaller = torch.empty(tuple(shape), dtype=tensor.dtype, device=tensor.device)
    if key in module._parameters:
        module._parameters[key] = nn.Parameter(smaller, requires_grad=tensor.requires_grad)
    else:
        module._buffers[key] = smaller
