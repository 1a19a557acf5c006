"""Context managers: evaluation mode, frozen parameters, double precision; copies in their modes."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.fx import GraphModule

M = TypeVar("M", bound=nn.Module)


def copied(module: M) -> M:
    """Return a deep copy of a module, each part in the mode (training or not) of the original.

    `copy.deepcopy` alone puts graph modules of `torch.fx` and their children into training mode.
    """
    twin = copy.deepcopy(module)
    parts = dict(twin.named_modules())
    modes = {parts[n]: part.training for n, part in module.named_modules() if n in parts}
    if any(part.training != is_training for part, is_training in modes.items()):
        set_modes_(modes)
    return twin


def set_modes_(modes: Mapping[nn.Module, bool]) -> None:
    """Set training or evaluation mode of single modules, in place, without their children.

    Args:
        modes: Whether each module is in training mode; parents come before their children.
    """
    for module, is_training in modes.items():
        # torchvision's have a graph for each mode, and switch it in this method only.
        if isinstance(module, GraphModule):
            module.train(is_training)
    for module, is_training in modes.items():
        module.training = is_training


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Context manager: evaluation mode; each module returns to its own mode afterwards."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        # Again, since some of timm's modules cache results with their graph until `eval` is called.
        net.eval()
        set_modes_(modes)


@contextmanager
def double_precision() -> Iterator[None]:
    """Context manager: float64 is the default type, for tensors that a network makes in a pass."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def thawed(net: nn.Module) -> Iterator[None]:
    """Context manager: all parameters have gradients; frozen ones are frozen again afterwards."""
    with _kept_flags(net):
        for parameter in net.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        yield


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Context manager: no parameter has a gradient; each gets its flag back afterwards."""
    with _kept_flags(net):
        net.requires_grad_(False)
        yield


@contextmanager
def _kept_flags(net: nn.Module) -> Iterator[None]:
    flags = {parameter: parameter.requires_grad for parameter in net.parameters()}
    try:
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
