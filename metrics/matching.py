"""Matching of boxes by their overlap; boxes are xyxy in pixels, float64."""

import numpy as np


def overlaps(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Compute the intersection over union of boxes, (n, m); NaN for 0/0, and where areas overflow.

    Source: torchvision's `box_iou`, to the bit; without PyTorch.

    Args:
        boxes: Boxes, (n, 4).
        objects: Boxes, (m, 4).
    """
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        shared = _shared(boxes, objects, 0) * _shared(boxes, objects, 1)
        found: np.ndarray = shared / (_areas(boxes)[:, None] + _areas(objects) - shared)
    return found


def _shared(boxes: np.ndarray, objects: np.ndarray, axis: int) -> np.ndarray:
    """Return how long boxes lie beside each other along an axis, (n, m)."""
    low = np.maximum.outer(boxes[:, axis], objects[:, axis])
    high = np.minimum.outer(boxes[:, axis + 2], objects[:, axis + 2])
    found: np.ndarray = (high - low).clip(min=0)
    return found


def _areas(boxes: np.ndarray) -> np.ndarray:
    found: np.ndarray = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    return found


def match(boxes: np.ndarray, objects: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Match the detections of one class in one image to objects, best first, one object each.

    Source: COCO's evaluation, https://cocodataset.org/#detection-eval.

    Args:
        boxes: Detections by falling score, (n, 4).
        objects: Objects, (m, 4).
        threshold: The least IoU of a match.

    Returns:
        Whether each detection has an object of its own, (n,).
    """
    matched = np.zeros(len(boxes), dtype=bool)
    if not len(boxes) or not len(objects):
        return matched
    left = overlaps(boxes, objects)
    for row, overlap in enumerate(left):
        place = int(overlap.argmax())
        if overlap[place] >= threshold:
            matched[row] = True
            left[:, place] = -1
    return matched
