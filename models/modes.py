"""The state that a network is put into for a while, and back out of whatever happens."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

from torch import nn
from torch.fx import GraphModule

M = TypeVar("M", bound=nn.Module)


def copied(module: M) -> M:
    """Copy a module with all that it holds, each of its parts in the mode of the original.

    `copy.deepcopy` puts the graph modules of `torch.fx`, with all below them, into training mode.
    """
    twin = copy.deepcopy(module)
    parts = dict(twin.named_modules())
    modes = {parts[n]: part.training for n, part in module.named_modules() if n in parts}
    if any(part.training != is_training for part, is_training in modes.items()):
        set_modes_(modes)
    return twin


def set_modes_(modes: Mapping[nn.Module, bool]) -> None:
    """Put modules into training or evaluation mode, each by itself.

    Args:
        modes: Whether each module is in training mode; outer modules come before inner ones.
    """
    for module, is_training in modes.items():
        # torchvision's have a graph for each mode, which they change in this method alone.
        if isinstance(module, GraphModule):
            module.train(is_training)
    for module, is_training in modes.items():
        module.training = is_training


@contextmanager
def evaluating(net: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into its own."""
    modes = {module: module.training for module in net.modules()}
    net.eval()
    try:
        yield
    finally:
        # Once more: some of timm's modules keep what they computed, with its graph, until told so.
        net.eval()
        set_modes_(modes)


@contextmanager
def thawed(net: nn.Module) -> Iterator[None]:
    """Let all parameters have gradients, frozen ones too, and freeze those again."""
    with _kept_flags(net):
        for parameter in net.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
        yield


@contextmanager
def frozen(net: nn.Module) -> Iterator[None]:
    """Let no parameter have a gradient, and thaw those again that had."""
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
