"""Ignored boxes: VOC's difficult objects and COCO's crowds.

They are neither trained on nor scored, as in the evaluations of both: a detection on them is
neither right nor wrong. In a batch they have keys of their own, apart from the objects.

Source: Everingham et al., The PASCAL Visual Object Classes Challenge: A Retrospective, 2014,
section 4.1; COCO's evaluation, https://cocodataset.org/#detection-eval.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regrow.data.checks.remarks import Remarks
from regrow.data.targets.labels import CROWD, DIFFICULT, OBJECT, Boxes, Item

# The keys of a target whose split has ignored boxes: xyxy (m, 4); labels (m,); crowd or not, (m,).
IGNORED_BOXES, IGNORED_LABELS, IS_CROWD = "ignored_boxes", "ignored_labels", "is_crowd"
KINDS = {
    DIFFICULT: "difficult objects ignored, as in VOC's evaluation",
    CROWD: "crowds ignored, as in COCO's evaluation",
}
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no", "none", "null", "unspecified")


def mark_of(entry: Mapping[str, Any]) -> int:
    """Return the kind of an annotated box, by its keys `iscrowd` and `difficult`.

    Args:
        entry: An entry, in which either may be missing.

    Raises:
        ValueError: If one is neither yes nor no.
    """
    if _is_set(entry, "iscrowd"):
        return CROWD
    return DIFFICULT if _is_set(entry, "difficult") else OBJECT


def _is_set(entry: Mapping[str, Any], name: str) -> bool:
    value = entry.get(name)
    if isinstance(value, bool | int | float):
        return value != 0
    word = "" if value is None else str(value).strip().lower()
    if word not in YES + NO:
        raise ValueError(f"{name} is {value!r}; write 1 or 0")
    return word in YES


def remark_ignored(item: Item, remarks: Remarks) -> None:
    """Count the ignored boxes of an image, by kind."""
    if isinstance(item.target, Boxes):
        for mark, kind in KINDS.items():
            remarks.add(kind, item.name, item.target.ignored.count(mark))


def separated(boxes: Tensor, labels: Tensor, marks: Tensor) -> dict[str, Tensor]:
    """Return a target in which objects and ignored boxes stand apart.

    Args:
        boxes: All boxes, xyxy, (n, 4).
        labels: Their labels, (n,).
        marks: What each stands for, (n,).

    Returns:
        `boxes` and `labels` of the objects; `ignored_boxes`, `ignored_labels` and `is_crowd` of
        the others.
    """
    is_object = marks == OBJECT
    return {
        "boxes": boxes[is_object],
        "labels": labels[is_object],
        IGNORED_BOXES: boxes[~is_object],
        IGNORED_LABELS: labels[~is_object],
        IS_CROWD: marks[~is_object] == CROWD,
    }


def together(target: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes, labels and marks of a target: the inverse of `separated`, objects first.

    Args:
        target: A target, with ignored boxes or without.
    """
    boxes, labels = target["boxes"], target["labels"]
    marks = torch.full_like(labels, OBJECT)
    if IGNORED_BOXES not in target:
        return boxes, labels, marks
    crowds = torch.where(target[IS_CROWD], CROWD, DIFFICULT).to(marks)
    return (
        torch.cat([boxes, target[IGNORED_BOXES]]),
        torch.cat([labels, target[IGNORED_LABELS]]),
        torch.cat([marks, crowds]),
    )
