"""Networks whose rounding to 8 bits loses what the network in float gives."""

import torch

from regrow.models.classification import Classification


def unbalance_(task: Classification, factor: float = 2.0**14) -> None:
    """Let one channel of a `small` classifier's second stage be larger than all others.

    Its readers weigh it less by the same factor, so that the network in float answers as before,
    bit for bit where the factor is a power of two. With one scale for all channels of the stage,
    the others round to zero.
    """
    two, three = task.net.two, task.net.three
    with torch.no_grad():
        for norm in (two[0][1], two[1].norm):
            norm.weight[0] *= factor
            norm.bias[0] *= factor
        for reader in (two[1].first[0], three[0][0]):
            reader.weight[:, 0] /= factor
