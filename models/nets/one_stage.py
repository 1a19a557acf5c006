"""Torchvision's one-stage detectors: RetinaNet, FCOS, SSD and SSDLite.

Torchvision's `forward` resizes, normalises, matches and suppresses, and can be neither traced nor
pruned. Here `forward` returns raw tensors only; matching and decoding are methods of their own.
Labels count from 0 without background; SSD, which has a background class, shifts them here.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, clip_boxes_to_image

from regrow.data.targets.ignored import IGNORED_BOXES
from regrow.metrics.ignored import has_ignored, is_covered, spared, spared_points
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, centred_logits, one_against_rest
from regrow.models.nets.detector import (
    Detector,
    Targets,
    all_anchors,
    behind_background,
    feature_shapes,
    heads_distillation_loss,
)


class DenseDetector(Detector):
    """Base of torchvision's one-stage detectors: a head over a fixed set of anchors.

    Args:
        detector: Torchvision's SSD, RetinaNet or FCOS; its transform is not used.
        size: Height and width of the images, in pixels.
    """

    detector: Any
    anchors: Tensor
    keys: tuple[str, ...] = ("cls_logits", "bbox_regression")
    background: int = 0  # number of background logits before those of the classes

    def __init__(self, detector: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.detector = detector
        self.size = size
        shapes = feature_shapes(self.detector.backbone, size)
        anchors = all_anchors(self.detector.anchor_generator, shapes, size)
        self.register_buffer("anchors", anchors, persistent=False)
        self.num_points = [h * w for _, h, w in shapes]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute `cls_logits` (b, k, c or 1 + c), `bbox_regression` (b, k, 4) and the like."""
        raw = self.detector.head(list(self.detector.backbone(images).values()))
        return {key: raw[key] for key in self.keys}

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the boxes and scores of all anchors."""
        deltas = raw["bbox_regression"].float()
        anchors = self.anchors.expand(deltas.shape[0], -1, -1)
        boxes = self._boxes(deltas, anchors)
        scores = self._scores({key: value.float() for key, value in raw.items()})
        return {"boxes": clip_boxes_to_image(boxes, self.size), "scores": scores.transpose(1, 2)}

    def distillation_loss(
        self, raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
    ) -> Tensor:
        """Compute the distillation loss of the raw outputs."""
        return heads_distillation_loss(
            self._with_sigmoids(raw), self._with_sigmoids(wanted), shared
        )

    def class_rows(self) -> list[ClassRows]:
        """Return the classification layer."""
        (num_anchors,) = set(self.detector.anchor_generator.num_anchors_per_location())
        return [ClassRows("detector.head.classification_head.cls_logits", num_anchors)]

    def _boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        coder, pairs = self.detector.box_coder, (deltas.reshape(-1, 4), anchors.reshape(-1, 4))
        flat: Tensor = coder.decode_single(*pairs)
        return flat.reshape(deltas.shape)

    def _scores(self, raw: dict[str, Tensor]) -> Tensor:
        return raw["cls_logits"].sigmoid()

    def _match(self, boxes: Tensor) -> Tensor:
        """Return the index of the object of each anchor, (k,), below 0 where it has none."""
        if len(boxes) == 0:
            return torch.full((len(self.anchors),), -1, dtype=torch.int64, device=boxes.device)
        objects: Tensor = self.detector.proposal_matcher(box_iou(boxes, self.anchors))
        return objects

    def _spared(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Remove the background loss of anchors in ignored boxes from the logits."""
        if not has_ignored(targets):
            return raw
        places = torch.stack(
            [
                is_covered(self.anchors, target[IGNORED_BOXES]) & (self._match(target["boxes"]) < 0)
                for target in targets
            ]
        )
        return {**raw, "cls_logits": spared(raw["cls_logits"], places, self.background)}

    def _with_sigmoids(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return raw

    def _anchors_of(self, raw: dict[str, Tensor]) -> list[Tensor]:
        return [self.anchors] * len(raw["cls_logits"])


class RetinaNet(DenseDetector):
    """Torchvision's RetinaNet.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017, arXiv 1708.02002.
    """

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute focal loss and box loss."""
        raw = self._spared(raw, targets)
        losses: dict[str, Tensor] = self.detector.compute_loss(targets, raw, self._anchors_of(raw))
        return losses

    def output_layers(self) -> list[str]:
        """Return the last layers of both branches."""
        head = "detector.head"
        return [f"{head}.classification_head.cls_logits", f"{head}.regression_head.bbox_reg"]


class TorchvisionFcos(DenseDetector):
    """Torchvision's FCOS.

    Source: Tian et al., FCOS: A simple and strong anchor-free object detector, 2020,
    arXiv 2006.09214.
    """

    keys = ("cls_logits", "bbox_regression", "bbox_ctrness")

    def _spared(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        points = (self.anchors[:, :2] + self.anchors[:, 2:]) / 2
        return {**raw, "cls_logits": spared_points(raw["cls_logits"], points, targets)}

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute focal loss, box loss and centerness loss."""
        raw = self._spared(raw, targets)
        losses: dict[str, Tensor] = self.detector.compute_loss(
            targets, raw, self._anchors_of(raw), self.num_points
        )
        return losses

    def output_layers(self) -> list[str]:
        """Return the last layers of the three branches."""
        box = "detector.head.regression_head"
        return [
            "detector.head.classification_head.cls_logits",
            f"{box}.bbox_reg",
            f"{box}.bbox_ctrness",
        ]

    def _boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        boxes: Tensor = self.detector.box_coder.decode(deltas, anchors)
        return boxes

    def class_maps(self, raw: dict[str, Tensor]) -> Tensor:
        """Return the logits of each class at each point, (b, c, k)."""
        return centred_logits(raw["cls_logits"], raw["bbox_ctrness"]).transpose(1, 2)

    def _scores(self, raw: dict[str, Tensor]) -> Tensor:
        return (raw["cls_logits"].sigmoid() * raw["bbox_ctrness"].sigmoid()).sqrt()


class Ssd(DenseDetector):
    """Torchvision's SSD and SSDLite; logit 0 is the background.

    Source: Liu et al., SSD: Single Shot MultiBox Detector, 2015, arXiv 1512.02325.
    """

    background = 1

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute cross-entropy over objects and the hardest negatives, and box loss."""
        raw = self._spared(raw, targets)
        matches = [self._match(target["boxes"]) for target in targets]
        losses: dict[str, Tensor] = self.detector.compute_loss(
            behind_background(targets), raw, self._anchors_of(raw), matches
        )
        return losses

    def class_rows(self) -> list[ClassRows]:
        """Return the classification layer of each level."""
        layers = self._last_convs("classification_head")
        counts = self.detector.anchor_generator.num_anchors_per_location()
        return [ClassRows(n, a, background=1) for n, a in zip(layers, counts, strict=True)]

    def output_layers(self) -> list[str]:
        """Return the last layers of both branches of each level."""
        return self._last_convs("classification_head") + self._last_convs("regression_head")

    def _scores(self, raw: dict[str, Tensor]) -> Tensor:
        return raw["cls_logits"].softmax(-1)[..., 1:]

    def _with_sigmoids(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**raw, "cls_logits": one_against_rest(raw["cls_logits"])[..., 1:]}

    def _last_convs(self, branch: str) -> list[str]:
        blocks = getattr(self.detector.head, branch).module_list
        names = []
        for level, block in enumerate(blocks):
            last = [name for name, layer in block.named_modules() if isinstance(layer, nn.Conv2d)]
            names.append(f"detector.head.{branch}.module_list.{level}.{last[-1]}".rstrip("."))
        return names
