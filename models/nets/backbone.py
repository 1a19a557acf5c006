"""Backbones from timm: networks without a head that return feature maps."""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch import nn

from regrow.errors import BadInput

TIMM = "timm/"


def build_backbone(
    name: str, levels: Sequence[int], *, pretrained: bool = False
) -> tuple[nn.Module, list[int]]:
    """Build a timm network without its head, up to the stage of the last level.

    Args:
        name: `timm/<name>`.
        levels: Strides of the returned feature maps, in pixels.
        pretrained: Whether to load timm's pretrained weights, which are downloaded.

    Returns:
        The network, whose parameters keep timm's names, and the channels of its feature maps,
        finest first.

    Raises:
        BadInput: If there is no such network, or it has no such level.
    """
    short = name.removeprefix(TIMM)
    if not name.startswith(TIMM):
        raise BadInput(f"net_args.backbone: got {name!r}; give `small` or `timm/<name>`")
    if short not in timm.list_models():
        raise BadInput(f"net_args.backbone: timm has no network {short!r}")
    with torch.device("meta"):
        info: Any = timm.create_model(short, features_only=True, pretrained=False).feature_info
    has = info.reduction()
    if not levels or not set(levels) <= set(has):
        raise BadInput(f"net_args.levels: got {list(levels)}; the backbone has strides {has}")
    indices = tuple(has.index(level) for level in sorted(levels))
    maps = timm.create_model(short, features_only=True, pretrained=pretrained, out_indices=indices)
    _leave_out_later_stages_(maps)
    return maps, [info.channels()[index] for index in indices]


def _leave_out_later_stages_(maps: nn.Module) -> None:
    """Remove the layers past the last map, which timm keeps in EfficientNets and MobileNets."""
    features: Any = maps.feature_info
    stages, *places = features.module_name()[-1].split(".")
    layers = getattr(maps, stages, None)
    if isinstance(layers, nn.Sequential) and places:
        del layers[int(places[0]) + 1 :]
