"""LR-ASPP: a light segmentation head over any timm backbone.

Source: Howard et al., Searching for MobileNetV3, 2019, arXiv 1905.02244, 6.3; ours also uses the
finer map at stride 4 or 8, and has batch norm after every projection.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from regrow.models.nets.backbone import build_backbone
from regrow.models.nets.small import SmallBackbone, conv, enlarged


class Lraspp(nn.Module):
    """Segmentation network of a backbone and a head that fuses its feature maps.

    Args:
        backbone: Backbone that returns a list of feature maps, finest first.
        channels: Number of channels of each map.
        num_classes: Number of classes.
        width: Number of channels of the head.
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
        """Compute logits (b, c, h, w) for normalised images (b, 3, h, w)."""
        maps = list(self.backbone(images))
        gate = torch.sigmoid(self.gate(maps[-1].mean((2, 3), keepdim=True)))
        fused = self.lateral[-1](maps[-1]) * gate
        for place in range(len(maps) - 2, -1, -1):
            fused = enlarged(fused, maps[place]) + self.lateral[place](maps[place])
            fused = self.fuse[place](fused)
        return enlarged(self.head(fused), images)


def build_lraspp(
    num_classes: int,
    *,
    backbone: str = "small",
    width: int = 64,
    levels: Sequence[int] = (4, 8, 16),
    pretrained: bool = False,
) -> Lraspp:
    """Build LR-ASPP over a small backbone or one of timm's.

    Args:
        num_classes: Number of classes.
        backbone: `small`, or `timm/<name>`; a timm backbone keeps its parameters' names.
        width: Number of channels of the head.
        levels: Strides of the timm backbone's maps that are used, ascending.
        pretrained: Whether to load timm's pretrained weights of the backbone (downloaded).

    Raises:
        BadInput: If there is no such backbone, or it has no such level.
    """
    if backbone == "small":
        small = SmallBackbone()
        return Lraspp(small, small.channels, num_classes, width)
    maps, channels = build_backbone(backbone, levels, pretrained=pretrained)
    return Lraspp(maps, channels, num_classes, width)
