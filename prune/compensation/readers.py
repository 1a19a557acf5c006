"""The layers that read pruned channels: which of them least squares can fit, and why not others."""

from collections import Counter
from dataclasses import dataclass

from torch import nn
from torchvision.ops import MultiScaleRoIAlign, RoIAlign

from regrow.models.masks import masks_of
from regrow.prune.channels.records import (
    CONV_TYPES,
    TRANSPOSED_TYPES,
    Plan,
    is_depthwise,
    members_of,
    removal,
    width,
)
from regrow.prune.depth.skipping import emptied, is_lost_with

# What comes behind these are regions that each network chooses by itself.
REGION_TYPES = (MultiScaleRoIAlign, RoIAlign)


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer that reads a pruned group, with the channels that stay on either side.

    Args:
        layer: Its name inside the network.
        inputs: The input channels that stay, ascending.
        outputs: The output channels that stay, ascending.
    """

    layer: str
    inputs: list[int]
    outputs: list[int]


def find_readers(net: nn.Module, plan: Plan) -> tuple[list[Reader], dict[str, str]]:
    """Return the layers that read what a plan removes, and why some of them cannot be fitted.

    Args:
        net: The network before the plan is carried out.
        plan: Its groups with the units to remove.

    Returns:
        The readers that can be fitted, and the reason for each layer that is left as it is.
    """
    removed = removal(plan)
    masked = {name.rpartition(".")[0] for name in masks_of(net)}
    shared = _shared(net)
    branches = emptied(plan)
    found, left = [], {}
    for member, lost in members_of(plan):
        if is_lost_with(member.layer, branches):
            continue
        if member.is_count or (member.side == "out" and member.dim is not None):
            continue
        if member.dim is not None:
            left[member.layer] = "it is a bare parameter, which no layer applies"
            continue
        module = net.get_submodule(member.layer)
        if member.side == "out":
            if is_depthwise(module):
                left[member.layer] = "it is depthwise: its filters read no channel that goes"
            continue
        reason = _unfit(module)
        if member.layer in masked:
            reason = "single weights of it are masked"
        elif id(module._parameters.get("weight")) in shared:
            reason = "it shares its weight with another layer"
        if reason is not None:
            left[member.layer] = reason
            continue
        found.append(
            Reader(
                member.layer,
                _rest(width(module, "in") or 0, lost),
                _rest(width(module, "out") or 0, removed.get((member.layer, "out"), [])),
            )
        )
    return found, left


def _unfit(module: nn.Module) -> str | None:
    """Return why the weight of a layer cannot be fitted by least squares; None if it can."""
    if not isinstance(module, nn.Conv2d | nn.Linear):
        kinds = (*CONV_TYPES, *TRANSPOSED_TYPES)
        kind = type(module).__name__ if isinstance(module, kinds) else "such a layer"
        return f"{kind} is not fitted, only Conv2d and Linear"
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        return "it is a grouped convolution"
    weight = module._parameters.get("weight")
    if weight is None:
        return "its weight is computed from other tensors"
    return None if weight.requires_grad else "it is frozen"


def _shared(net: nn.Module) -> set[int]:
    """Return the identities of parameters that several layers have."""
    named = net.named_parameters(remove_duplicate=False)
    counts = Counter(id(parameter) for _, parameter in named)
    return {key for key, count in counts.items() if count > 1}


def _rest(total: int, lost: list[int]) -> list[int]:
    gone = set(lost)
    return [channel for channel in range(total) if channel not in gone]
