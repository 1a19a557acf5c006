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
    flags = {parameter: parameter.requires_grad for parameter in net.parameters()}
    try:
        for parameter in flags:
            parameter.requires_grad_(parameter.is_floating_point())
        yield
    finally:
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
