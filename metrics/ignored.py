"""What losses and scores make of ignored boxes, see `regrow.data.ignored`: nothing.

Shapes: b batch, c classes, k anchors or points, m ignored boxes, n boxes. Boxes are xyxy in pixels.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torchvision.ops import box_iou

from regrow.data.ignored import IGNORED_BOXES, IGNORED_LABELS, IS_CROWD
from regrow.data.partial_labels import HIDDEN

COVERED = 0.5  # the share of an anchor in an ignored box from which on it is in it
BEYOND = 1e11  # an area beyond every range of COCO's evaluation, the last of which ends at 1e10


def has_ignored(targets: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether the targets of a batch have ignored boxes apart; then all have."""
    return bool(targets) and IGNORED_BOXES in targets[0]


def coverage(boxes: Tensor, regions: Tensor) -> Tensor:
    """Return the share of each box that lies in each region, (n, m) in [0, 1].

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
    """Whether half of each box or more lies in one of some regions, (n,)."""
    return (coverage(boxes, regions) >= COVERED).any(1)


def is_inside(points: Tensor, regions: Tensor) -> Tensor:
    """Whether each point, (n, 2), lies in one of some regions, (m, 4); gives (n,)."""
    after = points[:, None] > regions[:, :2]
    before = points[:, None] < regions[:, 2:]
    return (after & before).all(2).any(1)


def spared(logits: Tensor, places: Tensor, background: int = 0) -> Tensor:
    """Return logits that have neither loss nor gradient as background at some places.

    Args:
        logits: Of classes, (b, k, background + c).
        places: Where, (b, k).
        background: How many logits before those of the classes are of the background, 0 or 1.
    """
    hidden = logits[..., background:].masked_fill(places[..., None], HIDDEN)
    return torch.cat([logits[..., :background], hidden], -1) if background else hidden


def spared_points(
    logits: Tensor, points: Tensor, targets: Sequence[Mapping[str, Tensor]]
) -> Tensor:
    """Return logits without loss as background at points in ignored boxes, but those in objects.

    Args:
        logits: Of classes, (b, k, c).
        points: Where they are, (k, 2).
        targets: The targets of the batch.
    """
    if not has_ignored(targets):
        return logits
    places = [is_inside(points, t[IGNORED_BOXES]) & ~is_inside(points, t["boxes"]) for t in targets]
    return spared(logits, torch.stack(places))


def falls_on_ignored(
    boxes: Tensor, target: Mapping[str, Tensor], label: int, threshold: float = 0.5
) -> Tensor:
    """Whether detections of a class, none of which has an object, are on ignored boxes of it.

    Any number may be, as on a difficult object in VOC's evaluation (`VOCevaldet.m`: a detection
    that overlaps one most is neither right nor wrong) and on a crowd in COCO's, where the overlap
    is the share of the detection that lies in it.

    Args:
        boxes: Detections, (n, 4).
        target: The target of their image.
        label: The class.
        threshold: The least overlap.

    Returns:
        A flag a detection, (n,).
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
    """Return a target as torchmetrics hands it to COCO's evaluation, with what it ignores.

    That evaluation ignores crowds, and boxes of areas out of its range. The latter it gives to one
    detection each; a difficult object stands there once for each detection that overlaps it.

    Args:
        predicted: The detections of the image.
        target: Its target.
        least: The least overlap that is looked at.
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
