"""FCOS, our one-stage detector: batch norm, any backbone, small enough for a CPU.

Source: Tian et al., FCOS: A simple and strong anchor-free object detector, 2020, arXiv 2006.09214.
Ours shares one tower between the branches and has batch norm, which can be pruned exactly.
Distances are exponentials, as in the paper's first version (arXiv 1904.01355), but in units of
strides, so that no learnt scale per level is needed.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image, generalized_box_iou_loss, sigmoid_focal_loss

from regrow.errors import BadInput
from regrow.metrics.ignored import spared_points
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, centred_logits
from regrow.models.nets.backbone import build_backbone
from regrow.models.nets.detector import Detector, Targets, feature_shapes, heads_distillation_loss
from regrow.models.nets.small import SmallBackbone

RADIUS = 1.5


class Fcos(Detector):
    """Detector of a backbone, a light feature pyramid, and one head shared by its levels.

    Args:
        backbone: Backbone that returns a list of feature maps, finest first.
        num_classes: Number of classes, without background.
        size: Height and width of the images, in pixels.
        levels: Strides of the feature maps that are used, in pixels, ascending.
        channels: Number of channels of pyramid and head.
        num_convs: Number of convolutions of the head before its last layers.
        prior: Initial probability of an object at each point, in (0, 1).
        reach: Largest distance from a point to the sides of its object, in strides of the level;
            the coarsest level has no limit.

    Raises:
        BadInput: If the backbone has no feature map with such a stride.
    """

    points: Tensor
    strides: Tensor
    ranges: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        size: tuple[int, int],
        *,
        levels: Sequence[int],
        channels: int = 64,
        num_convs: int = 2,
        prior: float = 0.01,
        reach: float = 8.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.backbone = backbone
        shapes = feature_shapes(backbone, size)
        # Strides are powers of two; maps of odd sizes are rounded up or down.
        has = [2 ** round(math.log2(max(size) / max(shape[1:]))) for shape in shapes]
        if not levels or not set(levels) <= set(has):
            raise BadInput(f"net_args.levels: got {list(levels)}; the backbone has strides {has}")
        self.taken = [has.index(level) for level in levels]
        shapes = [shapes[index] for index in self.taken]
        self.lateral = nn.ModuleList(_conv(shape[0], channels, 1) for shape in shapes)
        self.tower = nn.Sequential(*(_conv(channels, channels, 3) for _ in range(num_convs)))
        self.cls_logits = _last(channels, num_classes, -math.log((1 - prior) / prior))
        self.bbox_reg = _last(channels, 4)
        self.bbox_ctrness = _last(channels, 1)
        points, strides, ranges = _grid([shape[1:] for shape in shapes], levels, reach)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)
        self.register_buffer("ranges", ranges, persistent=False)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the raw outputs of all points.

        Args:
            images: Normalised images, (b, 3, h, w).

        Returns:
            `cls_logits` (b, k, c); `bbox_regression` (b, k, 4), the logarithm of the distances to
            left, top, right and bottom in strides; `bbox_ctrness` (b, k, 1), a logit.
        """
        maps = self.backbone(images)
        maps = [f(maps[index]) for f, index in zip(self.lateral, self.taken, strict=True)]
        for fine in range(len(maps) - 2, -1, -1):
            above = F.interpolate(maps[fine + 1], size=maps[fine].shape[-2:], mode="nearest")
            maps[fine] = maps[fine] + above
        towers = [self.tower(m) for m in maps]
        return {
            "cls_logits": _flat([self.cls_logits(t) for t in towers]),
            "bbox_regression": _flat([self.bbox_reg(t) for t in towers]),
            "bbox_ctrness": _flat([self.bbox_ctrness(t) for t in towers]),
        }

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute focal loss, box loss and centerness loss, normalised by the points with objects.

        Equal to torchvision's `FCOS.compute_loss`, for all images at once and without waiting for
        the device. Points in ignored boxes are not background.
        """
        boxes, labels = self.assign(targets)
        is_object = labels >= 0
        num_objects = is_object.sum().clamp(min=1)
        logits = spared_points(raw["cls_logits"].float(), self.points, targets)
        wanted = F.one_hot(labels.clamp(min=0), logits.shape[-1]) * is_object[..., None]
        focal = sigmoid_focal_loss(logits, wanted.to(logits), reduction="sum")
        giou = generalized_box_iou_loss(self._boxes(raw), boxes, reduction="none")
        left, top, right, bottom = _distances(self.points, boxes).unbind(-1)
        ratio = _ratio(left, right) * _ratio(top, bottom)
        centerness = F.binary_cross_entropy_with_logits(
            raw["bbox_ctrness"].float()[..., 0], ratio.sqrt(), reduction="none"
        )
        return {
            "classification": focal / num_objects,
            "bbox_regression": giou.where(is_object, 0).sum() / num_objects,
            "bbox_ctrness": centerness.where(is_object, 0).sum() / num_objects,
        }

    def assign(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """Assign to each point the smallest object around it that is near and in range.

        Near: the point is close to the object's centre. In range: the object's size is one of the
        point's level.

        Args:
            targets: Per image `boxes` (n, 4) and `labels` (n,).

        Returns:
            Boxes (b, k, 4), and labels (b, k), -1 where a point has no object. The box of such a
            point is a square of one stride around it.
        """
        own = self._own_boxes()
        most = max((len(target["labels"]) for target in targets), default=0)
        if most == 0:
            shape = (len(targets), len(own))
            return own.expand(*shape, 4), torch.full(shape, -1, device=own.device)
        boxes = torch.stack([_padded(t["boxes"].to(own), most, 0.0) for t in targets])
        labels = torch.stack([_padded(t["labels"], most, -1) for t in targets])
        sides = _distances(self.points[:, None], boxes[:, None])  # (b, k, n, 4)
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        offset = (self.points[:, None] - centres[:, None]).abs().amax(-1)
        far = sides.amax(-1)
        fits = (offset < RADIUS * self.strides[:, None]) & (sides.amin(-1) > 0)
        fits &= (far > self.ranges[:, :1]) & (far < self.ranges[:, 1:])
        area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
        smallest, index = area[:, None].where(fits, math.inf).min(-1)
        found = smallest.isfinite()
        chosen = boxes.gather(1, index[..., None].expand(-1, -1, 4))
        labels = labels.gather(1, index).where(found, -1)
        return chosen.where(found[..., None], own), labels

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the boxes and scores of all points."""
        scores = raw["cls_logits"].float().sigmoid() * raw["bbox_ctrness"].float().sigmoid()
        boxes = clip_boxes_to_image(self._boxes(raw), self.size)
        return {"boxes": boxes, "scores": scores.sqrt().transpose(1, 2)}

    def class_maps(self, raw: dict[str, Tensor]) -> Tensor:
        """Return the logits of each class at each point, (b, c, k)."""
        return centred_logits(raw["cls_logits"], raw["bbox_ctrness"]).transpose(1, 2)

    def distillation_loss(
        self, raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
    ) -> Tensor:
        """Compute the distillation loss of the raw outputs."""
        return heads_distillation_loss(raw, wanted, shared)

    def class_rows(self) -> list[ClassRows]:
        """Return the classification layer."""
        return [ClassRows("cls_logits")]

    def output_layers(self) -> list[str]:
        """Return the last layers of the three branches."""
        return ["cls_logits", "bbox_reg", "bbox_ctrness"]

    def _boxes(self, raw: dict[str, Tensor]) -> Tensor:
        sides = raw["bbox_regression"].float().clamp(max=8).exp() * self.strides[:, None]
        return torch.cat([self.points - sides[..., :2], self.points + sides[..., 2:]], -1)

    def _own_boxes(self) -> Tensor:
        half = self.strides[:, None] / 2
        return torch.cat([self.points - half, self.points + half], -1)


def build_fcos(
    num_classes: int,
    size: tuple[int, int],
    *,
    backbone: str = "small",
    channels: int = 64,
    num_convs: int = 2,
    levels: Sequence[int] | None = None,
    prior: float = 0.01,
    reach: float = 8.0,
    pretrained: bool = False,
) -> Fcos:
    """Build FCOS over a small backbone or one of timm's.

    The parameters of a timm backbone keep timm's names, under `backbone.`.

    Args:
        num_classes: Number of classes, without background.
        size: Height and width of the images, in pixels.
        backbone: `small`, or `timm/<name>`.
        channels: Number of channels of pyramid and head.
        num_convs: Number of convolutions of the head before its last layers.
        levels: Strides of the feature maps that are used; by default 8 for `small`, and 8, 16 and
            32 for timm's.
        prior: Initial probability of an object at each point, in (0, 1).
        reach: Largest distance from a point to the sides of its object, in strides of the level.
            The paper's 8 is for images of 800 pixels; where a large object has 100, 4 puts it on a
            coarser level.
        pretrained: Whether to load timm's pretrained weights of the backbone (downloaded).

    Raises:
        BadInput: If there is no such backbone, or it has no such level.
    """
    if min(num_classes, channels) < 1 or num_convs < 0:
        raise BadInput(
            f"net_args: fcos needs at least one class and channel, and got {num_classes} classes,"
            f" {channels} channels, {num_convs} convolutions"
        )
    if backbone == "small":
        maps: nn.Module = SmallBackbone()
        levels = levels or (8,)
    else:
        levels = levels or (8, 16, 32)
        maps, _ = build_backbone(backbone, levels, pretrained=pretrained)
    return Fcos(
        maps,
        num_classes,
        size,
        levels=sorted(levels),
        channels=channels,
        num_convs=num_convs,
        prior=prior,
        reach=reach,
    )


def _conv(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _last(in_channels: int, out_channels: int, bias: float = 0.0) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.normal_(layer.weight, std=0.01)
    layer.bias = nn.Parameter(torch.full((out_channels,), bias))
    return layer


def _flat(maps: list[Tensor]) -> Tensor:
    return torch.cat([m.flatten(2) for m in maps], 2).transpose(1, 2)


def _padded(values: Tensor, length: int, fill: float) -> Tensor:
    missing = values.new_full((length - len(values), *values.shape[1:]), fill)
    return torch.cat([values, missing])


def _distances(points: Tensor, boxes: Tensor) -> Tensor:
    return torch.cat([points - boxes[..., :2], boxes[..., 2:] - points], -1)


def _ratio(one: Tensor, other: Tensor) -> Tensor:
    return (torch.minimum(one, other) / torch.maximum(one, other)).clamp(min=0)


def _grid(
    shapes: Sequence[tuple[int, int]], levels: Sequence[int], reach: float
) -> tuple[Tensor, Tensor, Tensor]:
    points, strides, ranges = [], [], []
    nearest = 0.0
    for (h, w), stride in zip(shapes, levels, strict=True):
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        points.append((torch.stack([x, y], -1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((h * w,), float(stride)))
        farthest = math.inf if stride == max(levels) else reach * stride
        ranges.append(torch.tensor((nearest, farthest)).expand(h * w, 2))
        nearest = farthest
    return torch.cat(points), torch.cat(strides), torch.cat(ranges)
