"""A light segmentation head over any timm backbone.

Source: Howard et al., Searching for MobileNetV3, 2019, arXiv 1905.02244, 6.3 (LR-ASPP); ours
takes the finer map at stride 4 or 8 too, and has batch norms after every projection.
"""

from collections.abc import Sequence

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regrow.data.errors import BadInput
from regrow.models.small import SmallBackbone, conv

TIMM = "timm/"


class Lraspp(nn.Module):
    """A backbone, and a head that fuses its finest, middle and coarsest maps.

    Args:
        backbone: Gives a list of feature maps, finest first.
        channels: Channels of those maps.
        num_classes: Number of classes.
        width: Channels of the head.
    """

    def __init__(
        self, backbone: nn.Module, channels: Sequence[int], num_classes: int, width: int
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.lateral = nn.ModuleList(conv(count, width, kernel=1) for count in channels)
        self.gate = nn.Conv2d(channels[-1], width, 1)
        self.fuse = nn.ModuleList(conv(width, width) for _ in channels[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Give logits (b, c, h, w) for normalised images (b, 3, h, w)."""
        maps = list(self.backbone(images))
        gate = torch.sigmoid(self.gate(maps[-1].mean((2, 3), keepdim=True)))
        fused = self.lateral[-1](maps[-1]) * gate
        for place in range(len(maps) - 2, -1, -1):
            fused = _enlarged(fused, maps[place]) + self.lateral[place](maps[place])
            fused = self.fuse[place](fused)
        return _enlarged(self.head(fused), images)


def build_lraspp(
    num_classes: int,
    *,
    backbone: str = "small",
    width: int = 64,
    levels: Sequence[int] = (4, 8, 16),
) -> Lraspp:
    """Build the network over a backbone of ours or of timm's, with new weights.

    Args:
        num_classes: Number of classes.
        backbone: `small`, or `timm/<name>`; a timm backbone keeps its parameters' names.
        width: Channels of the head.
        levels: Strides of the timm backbone's maps that are used, ascending.

    Raises:
        BadInput: If there is no such backbone, or it has no such level.
    """
    if backbone == "small":
        small = SmallBackbone()
        return Lraspp(small, small.channels, num_classes, width)
    name = backbone.removeprefix(TIMM)
    if not backbone.startswith(TIMM) or name not in timm.list_models():
        raise BadInput(f"net_args.backbone: got {backbone!r}; give `small` or `timm/<name>`")
    with torch.device("meta"):
        info = timm.create_model(name, features_only=True, pretrained=False).feature_info
    has = info.reduction()
    if not levels or not set(levels) <= set(has):
        raise BadInput(f"net_args.levels: got {list(levels)}; the backbone has strides {has}")
    indices = tuple(has.index(level) for level in sorted(levels))
    maps = timm.create_model(name, features_only=True, pretrained=False, out_indices=indices)
    return Lraspp(maps, [info.channels()[i] for i in indices], num_classes, width)


def _enlarged(maps: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)
