"""Random weights for the copy of a network that is tested, so that nothing hides a wrong cut."""

import torch
from torch import nn

from regrow.models.masks import zero_masked_
from regrow.prune.channels.records import (
    NORM_TYPES,
    STATISTICS_TYPES,
    WEIGHTED_TYPES,
    per_channel,
)


@torch.no_grad()
def disturb_(net: nn.Module) -> None:
    """Add noise to all weights but masked ones, so that those that begin at zero hide nothing."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        if parameter.is_floating_point():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_((0.1 * parameter.abs().mean() + 0.01) * noise)
    zero_masked_(net)


@torch.no_grad()
def rouse_(net: nn.Module) -> None:
    """Draw the weights of layers anew, so that none is dead: each passes on what it is given.

    Source: He et al. 2015, arXiv 1502.01852, equation 10, for the scale.
    """
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        is_norm = isinstance(module, (*NORM_TYPES, *STATISTICS_TYPES)) or bool(per_channel(module))
        if not is_norm and not isinstance(module, WEIGHTED_TYPES):
            continue
        named = dict(module.named_parameters(recurse=False)) | dict(
            module.named_buffers(recurse=False)
        )
        for name, tensor in named.items():
            drawn = torch.randn(tensor.shape, generator=generator)
            if name == "bias":
                tensor.copy_(0.5 * drawn)
            elif name == "weight" and is_norm:
                tensor.copy_(1 + 0.1 * drawn)
            elif name == "weight":
                tensor.copy_((2 / max(tensor[0].numel(), 1)) ** 0.5 * drawn)
            elif name in ("running_mean", "running_var"):
                tensor.fill_(float(name == "running_var"))
    zero_masked_(net)
