"""Ignored boxes in losses and scores: neither objects nor background.

Shapes: b batch, c classes, k anchors or points, m ignored boxes, n boxes. Boxes are xyxy in pixels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from regrow.data.targets.ignored import IGNORED_BOXES, IGNORED_LABELS, IS_CROWD
from regrow.data.targets.partial_labels import HIDDEN

COVERED = 0.5  # least share of an anchor inside an ignored box at which it is ignored too
BEYOND = 1e11  # an area beyond every range of COCO's evaluation, the last of which ends at 1e10


def has_ignored(targets: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether the targets of a batch list ignored boxes; either all do or none does."""
    return bool(targets) and IGNORED_BOXES in targets[0]


def coverage(boxes: Tensor, regions: Tensor) -> Tensor:
    """Compute the share of each box's area that lies in each region, (n, m) in [0, 1].

    Source: COCO's evaluation, the overlap with a crowd (`maskApi.c`, bbIou).

    Args:
        boxes: Boxes, (n, 4).
        regions: Boxes, (m, 4).
    """
    low = torch.maximum(boxes[:, None, :2], regions[:, :2])
    high = torch.minimum(boxes[:, None, 2:], regions[:, 2:])
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1).clamp(min=torch.finfo(boxes.dtype).tiny)
    return (high - low).clamp(min=0).prod(2) / areas[:, None]


def is_covered(boxes: Tensor, regions: Tensor) -> Tensor:
    """Whether at least half of each box lies in one of the regions, (n,)."""
    return (coverage(boxes, regions) >= COVERED).any(1)


def is_inside(points: Tensor, regions: Tensor) -> Tensor:
    """Whether each point, (n, 2), lies in one of the regions, (m, 4); returns (n,)."""
    after = points[:, None] > regions[:, :2]
    before = points[:, None] < regions[:, 2:]
    return (after & before).all(2).any(1)


def spared(logits: Tensor, places: Tensor, background: int = 0) -> Tensor:
    """Return logits that have neither background loss nor gradient at some anchors.

    Args:
        logits: Class logits, (b, k, background + c).
        places: Whether each anchor is spared, (b, k).
        background: Number of background logits before those of the classes, 0 or 1.
    """
    hidden = logits[..., background:].masked_fill(places[..., None], HIDDEN)
    return torch.cat([logits[..., :background], hidden], -1) if background else hidden


def spared_points(
    logits: Tensor, points: Tensor, targets: Sequence[Mapping[str, Tensor]]
) -> Tensor:
    """Return logits without background loss at points that lie in ignored boxes but in no object.

    Args:
        logits: Class logits, (b, k, c).
        points: The points, (k, 2).
        targets: The targets of the batch.
    """
    if not has_ignored(targets):
        return logits
    places = [is_inside(points, t[IGNORED_BOXES]) & ~is_inside(points, t["boxes"]) for t in targets]
    return spared(logits, torch.stack(places))


def falls_on_ignored(
    boxes: Tensor, target: Mapping[str, Tensor], label: int, threshold: float = 0.5
) -> Tensor:
    """Whether unmatched detections of a class overlap ignored boxes of that class.

    Several detections may fall on one ignored box: on a difficult object as in VOC's evaluation
    (`VOCevaldet.m`: a detection that overlaps one most is neither right nor wrong), on a crowd as
    in COCO's, where the overlap is the share of the detection that lies in it.

    Args:
        boxes: Detections of the class, (n, 4).
        target: The target of their image.
        label: The class.
        threshold: The least overlap.

    Returns:
        One flag per detection, (n,).
    """
    if IGNORED_BOXES not in target:
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    of_class = target[IGNORED_LABELS] == label
    ignored, is_crowd = target[IGNORED_BOXES][of_class].to(boxes), target[IS_CROWD][of_class]
    on_difficult = box_iou(boxes, ignored[~is_crowd]) >= threshold
    on_crowd = coverage(boxes, ignored[is_crowd]) >= threshold
    return torch.cat([on_difficult, on_crowd], 1).any(1)


def as_coco(
    predicted: Mapping[str, Tensor], target: Mapping[str, Tensor], least: float
) -> dict[str, Tensor]:
    """Return a target in the form that torchmetrics passes to COCO's evaluation.

    That evaluation ignores crowds, and boxes whose area is out of its range. Each of the latter
    absorbs one detection only, so a difficult object is repeated once per detection that overlaps
    it.

    Args:
        predicted: The detections of the image.
        target: The target of the image.
        least: The least IoU at which a detection overlaps a difficult object.
    """
    boxes, labels = target["boxes"], target["labels"]
    if IGNORED_BOXES not in target:
        return {"boxes": boxes, "labels": labels}
    ignored, kinds, is_crowd = (target[name] for name in (IGNORED_BOXES, IGNORED_LABELS, IS_CROWD))
    found = predicted["boxes"].detach().to(ignored)
    hits = (box_iou(ignored, found) >= least) & (kinds[:, None] == predicted["labels"])
    copies = torch.where(is_crowd, 1, hits.sum(1))
    crowds = is_crowd.repeat_interleave(copies)
    more = ignored.repeat_interleave(copies, 0)
    sides = boxes[:, 2:] - boxes[:, :2]
    return {
        "boxes": torch.cat([boxes, more]),
        "labels": torch.cat([labels, kinds.repeat_interleave(copies)]),
        "iscrowd": torch.cat([torch.zeros_like(labels), crowds.to(labels)]),
        "area": torch.cat([sides.prod(1), torch.where(crowds, 1.0, BEYOND).to(sides)]),
    }
