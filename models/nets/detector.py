"""The interface of detection networks, non-maximum suppression, and anchors."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import batched_nms

from regrow.errors import BadInput
from regrow.models.class_rows import ClassRows
from regrow.models.distillation_losses import Shared, focused_divergence

Targets = list[dict[str, Tensor]]
Detections = list[dict[str, Tensor]]


class Detector(nn.Module, ABC):
    """A detection network for images of one size.

    `forward` takes normalised images (b, 3, h, w) and returns raw tensors by name: the same names
    in training and evaluation, all on the autograd graph, without suppression.

    Shapes: b batch, c classes, k anchors or points, n objects. Boxes are xyxy in pixels. Targets
    are dicts of `boxes` (n, 4) and `labels` (n,) from 0, and of the entries of
    `regrow.data.targets.ignored.separated` where the data has ignored boxes, which have no loss.
    """

    @abstractmethod
    def losses(self, raw: dict[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        """Compute the terms of the loss by name, scalars."""

    @abstractmethod
    def decode(self, raw: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute `boxes` (b, k, 4) in the image and `scores` (b, c, k) in [0, 1]; traceable."""

    @abstractmethod
    def class_rows(self) -> list[ClassRows]:
        """Return the layers whose output rows belong to classes."""

    @abstractmethod
    def output_layers(self) -> list[str]:
        """Return the names of the layers whose output width must not be pruned."""

    def distillation_loss(
        self, raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
    ) -> Tensor:
        """Compute the distillation loss between student and teacher, 0 where both agree.

        This default compares decoded scores and boxes, the sides of boxes relative to the teacher's
        box; it suits any network. A score that saturates at 0 or 1 has no gradient.

        Args:
            raw: Raw outputs of this network, the student.
            wanted: Raw outputs of the teacher, a network of this kind, on the same images.
            shared: The classes in common.

        Raises:
            BadInput: If the outputs cannot be compared.
        """
        own, theirs = self.decode(raw), self.decode(wanted)
        corners = theirs["boxes"]
        sides = (corners[..., 2:] - corners[..., :2]).clamp(min=1).repeat(1, 1, 2)
        return focused_divergence(
            own["scores"][:, shared.own].transpose(1, 2).logit(1e-6),
            own["boxes"] / sides,
            theirs["scores"][:, shared.theirs].transpose(1, 2).logit(1e-6),
            corners / sides,
        )

    def class_maps(self, raw: dict[str, Tensor]) -> Tensor:
        """Return the logits of each class at each anchor or point, (b, c, k).

        Raises:
            BadInput: If they are not at the same places for every network.
        """
        return self.decode(raw)["scores"].logit(1e-6)

    def predict(
        self,
        raw: dict[str, Tensor],
        *,
        score_threshold: float,
        iou_threshold: float,
        max_detections: int,
    ) -> Detections:
        """Return `boxes` (n, 4), `scores` (n,) and `labels` (n,) per image, best first."""
        decoded = self.decode(raw)
        return suppress(
            decoded["boxes"],
            decoded["scores"],
            score_threshold=score_threshold,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )


def heads_distillation_loss(
    raw: dict[str, Tensor], wanted: dict[str, Tensor], shared: Shared
) -> Tensor:
    """Compute the distillation loss of a one-stage detector, such as FCOS or RetinaNet.

    Args:
        raw: Of the student `cls_logits` (b, k, c) without background; `bbox_regression` (b, k, 4)
            in any box encoding; `bbox_ctrness` (b, k, 1), a logit, if the network has it.
        wanted: The same of the teacher.
        shared: The classes in common.
    """
    codes, wanted_codes = (
        torch.cat([v for k, v in outputs.items() if k != "cls_logits"], -1)
        for outputs in (raw, wanted)
    )
    return focused_divergence(
        raw["cls_logits"][..., shared.own],
        codes,
        wanted["cls_logits"][..., shared.theirs],
        wanted_codes,
    )


def suppress(
    boxes: Tensor,
    scores: Tensor,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int,
    max_candidates: int = 1000,
) -> Detections:
    """Non-maximum suppression: keep the best boxes of each class, drop those that overlap a better.

    Torchvision's one-stage detectors select candidates per level (SSD: per class); here they are
    the best of the image. With fewer candidates than the limit the detections are the same.

    Args:
        boxes: Boxes, xyxy in pixels, (b, k, 4).
        scores: Scores in [0, 1], (b, c, k).
        score_threshold: Scores at or below it are dropped.
        iou_threshold: Boxes whose IoU with a better one of their class is larger are dropped.
        max_detections: Most detections per image.
        max_candidates: Number of best scores per image that are considered.

    Returns:
        `boxes` (n, 4), `scores` (n,) and `labels` (n,) from 0 per image, best first.
    """
    detections = []
    for image_boxes, image_scores in zip(boxes, scores, strict=True):
        num_places = image_scores.shape[1]
        best, index = image_scores.flatten().topk(min(max_candidates, image_scores.numel()))
        is_kept = best > score_threshold
        best, index = best[is_kept], index[is_kept]
        labels, candidates = index // num_places, image_boxes[index % num_places]
        kept = batched_nms(candidates, best, labels, iou_threshold)[:max_detections]
        detections.append({"boxes": candidates[kept], "scores": best[kept], "labels": labels[kept]})
    return detections


def behind_background(targets: Targets) -> Targets:
    """Return targets whose labels count from 1, for networks whose class 0 is the background."""
    return [{"boxes": t["boxes"], "labels": t["labels"] + 1} for t in targets]


def feature_shapes(backbone: nn.Module, size: tuple[int, int]) -> list[tuple[int, int, int]]:
    """Return channels, height and width of each feature map of a backbone, without computing it.

    Raises:
        BadInput: If images of this size are too small for the backbone.
    """
    state = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    state = {name: value.to("meta") for name, value in state.items()}
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            maps = functional_call(backbone, state, (torch.empty(1, 3, *size, device="meta"),))
    except RuntimeError as error:
        raise BadInput(
            f"size: the network cannot take images of {size[0]} x {size[1]}: {error}"
        ) from error
    finally:
        backbone.train(was_training)
    maps = maps.values() if isinstance(maps, dict) else maps
    return [(int(m.shape[1]), int(m.shape[2]), int(m.shape[3])) for m in maps]


def all_anchors(
    generator: nn.Module, shapes: list[tuple[int, int, int]], size: tuple[int, int]
) -> Tensor:
    """Compute the anchors of a torchvision detector on all its feature maps, xyxy pixels, (k, 4).

    Args:
        generator: Torchvision's anchor generator.
        shapes: Channels, height and width of each feature map.
        size: Height and width of the images, in pixels.
    """
    images = ImageList(torch.empty(1, 3, *size), [size])
    anchors: list[Tensor] = generator(images, [torch.empty(1, *shape) for shape in shapes])
    return anchors[0]
