"""Truths about pictures, and the loss of a prediction against its truth, in [0, 1]."""

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regrow.data.images.opening import MAX_PIXELS, open_image
from regrow.data.images.run_lengths import CocoRuns
from regrow.data.targets.labels import VOID
from regrow.errors import BadInput
from regrow.metrics.matching import overlaps
from regrow.monitor.answers import class_name
from regrow.monitor.files.ground_truth import Label
from regrow.plain import MISSHAPEN, parse_json

# A class; objects as (class, xyxy box in pixels); or class indices (h, w), 255 where unknown.
Box = tuple[float, float, float, float]
Objects = list[tuple[str, Box]]
Truth = str | Objects | np.ndarray

MAX_OBJECTS = 10_000
OVERLAP = 0.5  # IoU from which a box has found its object
CONFIDENT = 0.3  # the score from which a box counts for the loss


def parse_truth(label: Label, kind: str, classes: Sequence[str]) -> Truth:
    """Return the truth that a label says.

    Of classification the class, by its name or its number from 0. Of detection JSON with `objects`,
    each with `label` and `box` [x1, y1, x2, y2], or COCO's `annotations`, each with `bbox` [x, y,
    w, h] and `category_name` or `category_id`. Of segmentation JSON with `mask`, a base64 PNG of
    class numbers, or `masks`, COCO's run lengths by class; what they leave out is unknown.

    Args:
        label: The label.
        kind: What the model predicts: `labels`, `boxes` or `masks`.
        classes: Its classes.

    Raises:
        BadInput: If it is no such truth; a clause without its file.
    """
    if kind == "labels":
        return _class(label.data, classes)
    content = parse_json(label.data, "the truth")
    if not isinstance(content, dict):
        raise BadInput("the truth is no object of JSON")
    try:
        if kind == "masks":
            return _mask(content, classes)
        if "objects" in content:
            return [_object(one["label"], one["box"], classes) for one in _few(content["objects"])]
        found = _few(content["annotations"])
        return [_annotation(one, classes) for one in found if not one.get("iscrowd")]
    except MISSHAPEN as error:
        raise BadInput(f"the truth has no {kind} as regrow reads them") from error


def _class(text: str, classes: Sequence[str]) -> str:
    name = text.strip().strip('"')
    number = name.removesuffix(".0")
    for own in (name, number):
        if own in classes:
            return own
    if number.isdecimal() and len(number) < 9 and int(number) < len(classes):
        return classes[int(number)]
    raise BadInput(f"the class {name[:80]!r} is none of the model's")


def _few(values: Any) -> list[Any]:
    if not isinstance(values, list) or len(values) > MAX_OBJECTS:
        raise ValueError("no list of objects, or too many")
    return values


def _object(label: Any, box: Any, classes: Sequence[str]) -> tuple[str, Any]:
    left, top, right, bottom = map(float, box)
    if not np.isfinite([left, top, right, bottom]).all() or right < left or bottom < top:
        raise ValueError("no box")
    return _class(str(label), classes), (left, top, right, bottom)


def _annotation(one: Mapping[str, Any], classes: Sequence[str]) -> tuple[str, Any]:
    left, top, width, height = map(float, one["bbox"])
    label = one.get("category_name", one.get("category_id"))
    return _object(label, (left, top, left + width, top + height), classes)


def _mask(content: Mapping[str, Any], classes: Sequence[str]) -> np.ndarray:
    """Return the mask of a truth, whose run lengths may leave pixels out as unknown."""
    if "masks" not in content:
        return _opened(content["mask"])
    mask, is_known = _drawn(content["masks"], list(classes))
    mask[~is_known] = VOID
    return mask


def _drawn(masks: Any, classes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return the class that run lengths give each pixel, and whether they give it one."""
    if not isinstance(masks, dict):
        raise ValueError("masks of no classes")
    ((height, width),) = {tuple(map(int, one["size"])) for one in masks.values()}
    if min(height, width) < 1 or height * width > MAX_PIXELS:
        raise ValueError("no pixels, or too many")
    size = (height, width)
    mask, is_known = np.zeros(size, dtype=np.uint16), np.zeros(size, dtype=bool)
    for name, one in masks.items():
        counts = one["counts"] if isinstance(one["counts"], str) else tuple(one["counts"])
        pixels = CocoRuns(size, counts).pixels(size)
        if (is_known & pixels).any():
            raise ValueError("a pixel of two classes")
        mask[pixels] = classes.index(_class(name, classes))
        is_known |= pixels
    return mask, is_known


def _opened(text: Any) -> np.ndarray:
    try:
        found = np.asarray(open_image(base64.b64decode(text, validate=True)))
    except binascii.Error as error:
        raise ValueError("no base64") from error
    if found.ndim != 2 or not np.issubdtype(found.dtype, np.integer):
        raise ValueError("a mask of colours")
    return found


def loss_of(prediction: Mapping[str, Any], truth: Truth, classes: Sequence[str]) -> float:
    """Compute the loss of one prediction, in [0, 1].

    Of classification 1 where the class is wrong; of detection 1 less the F1 score of the boxes of
    score 0.3 or more at an IoU of 0.5; of segmentation 1 less the mean IoU of the classes that the
    truth or the prediction shows.

    Args:
        prediction: The prediction, as the server answers it.
        truth: The truth.
        classes: The model's classes.

    Raises:
        BadInput: If the two are of different kinds or sizes.
    """
    try:
        if isinstance(truth, str):
            return float(class_name(prediction["label"]) != truth)
        if isinstance(truth, list):
            return _loss_of_boxes(prediction["objects"], truth)
        counts = confusion(mask_of(prediction), truth, len(classes))
    except MISSHAPEN as error:
        raise BadInput("a prediction of another kind or size than its truth") from error
    right, total = counts.diagonal(), counts.sum(0) + counts.sum(1) - counts.diagonal()
    return float(1 - (right[total > 0] / total[total > 0]).mean()) if total.any() else 0.0


def _loss_of_boxes(objects: Any, truth: Objects) -> float:
    found = [one for one in found_objects(objects) if one[1] >= CONFIDENT]
    if not found and not truth:
        return 0.0
    if not found or not truth:
        return 1.0
    same = np.array([[label == name for name, _ in truth] for label, _, _ in found])
    boxes = np.array([box for _, _, box in found]), np.array([box for _, box in truth])
    left = np.where(same, overlaps(*boxes), 0)
    hits = 0
    for row in left:
        place = int(row.argmax())
        if row[place] >= OVERLAP:
            hits += 1
            left[:, place] = 0
    return 1 - 2 * hits / (len(found) + len(truth))


def found_objects(objects: Any) -> list[tuple[str, float, Box]]:
    """Return class, score and box of each predicted object, best first.

    Raises:
        ValueError: If they are none, or another error of a kind that such data brings.
    """
    found = []
    for one in _few(objects):
        left, top, right, bottom = map(float, one["box"])
        score = float(one["score"])
        if not np.isfinite([left, top, right, bottom, score]).all():
            raise ValueError("a box without an end")
        found.append((class_name(one["label"]), score, (left, top, right, bottom)))
    return sorted(found, key=lambda one: -one[1])


def mask_of(prediction: Mapping[str, Any]) -> np.ndarray:
    """Return the class indices of a predicted mask, (h, w).

    Raises:
        ValueError: If it is none, or another error of a kind that such data brings.
    """
    if "masks" not in prediction:
        return _opened(prediction["mask"])
    mask, is_known = _drawn(prediction["masks"], list(prediction["classes"]))
    if not is_known.all():
        raise ValueError("a mask with a hole")
    return mask


def confusion(mask: np.ndarray, truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by true and predicted class, (c, c); pixels of unknown truth are left out.

    Raises:
        ValueError: If the sizes differ, or a class is none of so many.
    """
    if mask.shape != truth.shape:
        raise ValueError(f"a mask of {mask.shape}, and a truth of {truth.shape}")
    known = truth != VOID
    pairs = truth[known].astype(np.int64) * num_classes + mask[known]
    if (truth[known] >= num_classes).any() or (mask >= num_classes).any():
        raise ValueError("a class that there is not")
    return np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
