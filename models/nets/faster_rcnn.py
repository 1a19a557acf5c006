"""Torchvision's Faster R-CNN, with the raw tensors of both stages as outputs."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import box_iou, clip_boxes_to_image

from regrow.data.targets.ignored import IGNORED_BOXES
from regrow.errors import BadInput
from regrow.metrics.ignored import has_ignored, is_covered
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, focused_divergence, one_against_rest
from regrow.models.nets.detector import (
    Detections,
    Detector,
    Targets,
    all_anchors,
    behind_background,
    feature_shapes,
)


class FasterRcnn(Detector):
    """Torchvision's Faster R-CNN; logit 0 of the second stage is the background.

    `forward` runs the second stage on a fixed number of the RPN's best proposals, without
    suppression and without their gradient, so that its layers are counted in the cost and traced.
    Losses and predictions select their proposals as torchvision does, and run the second stage on
    them from the raw feature maps.

    Source: Ren et al., Faster R-CNN, 2015, arXiv 1506.01497.

    Args:
        detector: Torchvision's network; its transform is not used.
        size: Height and width of the images, in pixels.
        num_proposals: Number of proposals per image in `forward`.
    """

    detector: Any
    anchors: Tensor

    def __init__(
        self, detector: nn.Module, size: tuple[int, int], num_proposals: int = 100
    ) -> None:
        super().__init__()
        self.detector = detector
        self.size = size
        shapes = feature_shapes(self.detector.backbone, size)
        generator = self.detector.rpn.anchor_generator
        anchors = all_anchors(generator, shapes, size)
        self.register_buffer("anchors", anchors, persistent=False)
        counts = generator.num_anchors_per_location()
        self.num_anchors = [h * w * a for (_, h, w), a in zip(shapes, counts, strict=True)]
        self.num_proposals = min(num_proposals, len(anchors))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute feature maps, RPN outputs, and second-stage outputs on the best proposals."""
        maps = self.detector.backbone(images)
        objectness, deltas = concat_box_prediction_layers(*self.detector.rpn.head([*maps.values()]))
        raw = {f"features.{name}": value for name, value in maps.items()}
        raw["objectness"] = objectness.reshape(len(images), -1)
        raw["rpn_deltas"] = deltas.reshape(len(images), -1, 4)
        return {**raw, **self._on_proposals_of(raw, maps)}

    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute the losses of both stages."""
        proposals = self._suppressed(raw)
        if has_ignored(targets):
            proposals = [self._counted(*pair) for pair in zip(proposals, targets, strict=True)]
        objectness, rpn_box = self._first_losses(raw, targets)
        heads = self.detector.roi_heads
        proposals, _, labels, box_targets = heads.select_training_samples(
            proposals, behind_background(targets)
        )
        logits, boxes = self._second_stage(_feature_maps(raw), proposals)
        classifier, box = logits.sum() * 0, boxes.sum() * 0  # where all is ignored
        if len(logits):
            classifier, box = fastrcnn_loss(logits, boxes, labels, box_targets)
        return {
            "loss_classifier": classifier,
            "loss_box_reg": box,
            "loss_objectness": objectness,
            "loss_rpn_box_reg": rpn_box,
        }

    def _first_losses(self, raw: dict[str, Tensor], targets: Targets) -> tuple[Tensor, Tensor]:
        """Compute the RPN's losses: of objectness and of the boxes of proposals."""
        rpn, anchors = self.detector.rpn, [self.anchors] * len(targets)
        is_object, matched = rpn.assign_targets_to_anchors(anchors, behind_background(targets))
        if has_ignored(targets):
            is_object = [
                wanted.masked_fill((wanted == 0) & is_covered(self.anchors, t[IGNORED_BOXES]), -1)
                for wanted, t in zip(is_object, targets, strict=True)
            ]
            if all((wanted < 0).all() for wanted in is_object):
                return raw["objectness"].sum() * 0, raw["rpn_deltas"].sum() * 0
        losses: tuple[Tensor, Tensor] = rpn.compute_loss(
            raw["objectness"].reshape(-1, 1),
            raw["rpn_deltas"].reshape(-1, 4),
            is_object,
            rpn.box_coder.encode(matched, anchors),
        )
        return losses

    def distillation_loss(
        self, raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
    ) -> Tensor:
        """Compute the distillation loss of both stages, the second on the teacher's proposals."""
        first = focused_divergence(
            raw["objectness"][..., None],
            raw["rpn_deltas"],
            wanted["objectness"][..., None],
            wanted["rpn_deltas"],
        )
        same = self._on_proposals_of(wanted, _feature_maps(raw))
        second = focused_divergence(*_by_class(same, shared.own), *_by_class(wanted, shared.theirs))
        return first + second

    def class_maps(self, raw: dict[str, Tensor]) -> Tensor:
        """Refuse: the second stage looks at places of each network's own choice."""
        raise BadInput(
            "distillation.channels: the regions of Faster R-CNN are its own, and not those of its "
            "teacher; leave it out"
        )

    def predict(
        self,
        raw: dict[str, Tensor],
        *,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
    ) -> Detections:
        """Return `boxes` (n, 4), `scores` (n,) and `labels` (n,) per image, best first."""
        heads = copy.copy(self.detector.roi_heads)
        heads.score_thresh, heads.nms_thresh = score_threshold, iou_threshold
        heads.detections_per_img = max_detections
        proposals = self._suppressed(raw)
        logits, deltas = self._second_stage(_feature_maps(raw), proposals)
        sizes = [self.size] * len(proposals)
        parts = heads.postprocess_detections(logits, deltas, proposals, sizes)
        return [
            {"boxes": boxes, "scores": scores, "labels": labels - 1}
            for boxes, scores, labels in zip(*parts, strict=True)
        ]

    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Refuse to decode: the second stage depends on the proposals that survive the first.

        Raises:
            BadInput: Always.
        """
        raise BadInput(
            "net: Faster R-CNN cannot be exported, since its second stage depends on its first;"
            " train an SSDLite, RetinaNet or FCOS, or regrow's own `fcos`"
        )

    def class_rows(self) -> list[ClassRows]:
        """Return the classification layer, and the box layer, which has four rows per class."""
        name = "detector.roi_heads.box_predictor"
        return [
            ClassRows(f"{name}.cls_score", background=1),
            ClassRows(f"{name}.bbox_pred", background=1, rows_per_class=4),
        ]

    def output_layers(self) -> list[str]:
        """Return the last layers of both stages."""
        rpn = [f"detector.rpn.head.{name}" for name in ("cls_logits", "bbox_pred")]
        return rpn + [rows.layer for rows in self.class_rows()]

    def _on_proposals_of(
        self, raw: dict[str, Tensor], maps: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Run the second stage on the best proposals of a first stage, maybe another network's."""
        with torch.no_grad():
            best = raw["objectness"].topk(self.num_proposals).indices
            proposals = clip_boxes_to_image(self._proposals(raw), self.size)
            proposals = proposals.gather(1, best[..., None].expand(-1, -1, 4))
        logits, boxes = self._second_stage(maps, list(proposals))
        shape = (len(best), self.num_proposals, -1)
        return {"cls_logits": logits.reshape(shape), "bbox_regression": boxes.reshape(shape)}

    def _second_stage(
        self, maps: dict[str, Tensor], proposals: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        heads = self.detector.roi_heads
        regions = heads.box_roi_pool(maps, proposals, [self.size] * len(proposals))
        outputs: tuple[Tensor, Tensor] = heads.box_predictor(heads.box_head(regions))
        return outputs

    def _proposals(self, raw: dict[str, Tensor]) -> Tensor:
        deltas = raw["rpn_deltas"].detach()
        flat: Tensor = self.detector.rpn.box_coder.decode(
            deltas.reshape(-1, 4), [self.anchors] * len(deltas)
        )
        return flat.reshape(deltas.shape)

    def _counted(self, proposals: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Return the proposals without those that lie in ignored boxes and match no object."""
        least = self.detector.roi_heads.proposal_matcher.low_threshold
        has_object = (box_iou(proposals, target["boxes"]) >= least).any(1)
        return proposals[has_object | ~is_covered(proposals, target[IGNORED_BOXES])]

    def _suppressed(self, raw: dict[str, Tensor]) -> list[Tensor]:
        sizes = [self.size] * len(raw["objectness"])
        boxes: list[Tensor]
        boxes, _ = self.detector.rpn.filter_proposals(
            self._proposals(raw), raw["objectness"], sizes, self.num_anchors
        )
        return boxes


def _feature_maps(raw: dict[str, Tensor]) -> dict[str, Tensor]:
    prefix = "features."
    return {k.removeprefix(prefix): v for k, v in raw.items() if k.startswith(prefix)}


def _by_class(second: dict[str, Tensor], classes: list[int] | slice) -> tuple[Tensor, Tensor]:
    """Return logits (b, p * c, 1) and boxes (b, p * c, 4), one per class of each proposal."""
    logits = one_against_rest(second["cls_logits"])[..., 1:][..., classes]
    boxes = second["bbox_regression"].unflatten(-1, (-1, 4))[:, :, 1:][:, :, classes]
    return logits.flatten(1)[..., None], boxes.flatten(1, 2)
