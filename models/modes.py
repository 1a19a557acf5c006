"""The state that a network is put into for a while, and back out of whatever happens."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


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
        for module, is_training in modes.items():
            module.training = is_training


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
