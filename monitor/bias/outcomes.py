"""Outcomes: what one picture adds to the counts of its side."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regrow.errors import BadInput
from regrow.metrics.matching import match
from regrow.monitor.answers import by_class, class_name
from regrow.monitor.bias.metrics import Counts
from regrow.monitor.truths import CONFIDENT, Objects, Truth, confusion, found_objects, mask_of
from regrow.plain import MISSHAPEN


def predicted_share(prediction: Mapping[str, Any], label: str) -> float:
    """Return how much of a picture is predicted to be the label, in [0, 1].

    Of classes 1 where it is the predicted one; of boxes 1 where one of score 0.3 or more has it;
    of masks its share of the picture.

    Args:
        prediction: The prediction, as the server answers it.
        label: The class.

    Raises:
        BadInput: If it is no prediction of the server's.
    """
    try:
        if "objects" in prediction:
            return float(any(own == label for own, _ in _confident(prediction["objects"])))
        if "shares" in prediction:
            return by_class(prediction, "shares").get(label, 0.0)
        return float(class_name(prediction["label"]) == label)
    except MISSHAPEN as error:
        raise BadInput("a prediction with values of another kind than the server's") from error


def _confident(objects: Any) -> list[tuple[str, tuple[float, ...]]]:
    found = (one for one in found_objects(objects) if one[1] >= CONFIDENT)
    return [(label, box) for label, _, box in found]


def outcome_of(
    prediction: Mapping[str, Any], truth: Truth, loss: float, label: str, classes: Sequence[str]
) -> Counts:
    """Return what a picture with its truth adds to the counts of its side.

    Args:
        prediction: The prediction, as the server answers it.
        truth: The truth.
        loss: The loss of the prediction, in [0, 1].
        label: The class that is set against the rest.
        classes: The model's classes.

    Raises:
        BadInput: If prediction and truth are of different kinds.
    """
    predicted = predicted_share(prediction, label)
    if isinstance(truth, str):
        positive = float(truth == label)
        hit = positive * predicted
        parts = (hit, predicted - hit, positive - hit, 1 - positive - predicted + hit)
    elif isinstance(truth, list):
        positive = float(any(name == label for name, _ in truth))
        parts = _of_boxes(prediction["objects"], truth, label)
    else:
        parts = _of_mask(mask_of(prediction), truth, classes.index(label), len(classes))
        positive = parts[0] + parts[2]
    return Counts(1.0, positive, predicted, 1 - loss, *parts)


def _of_boxes(objects: Any, truth: Objects, label: str) -> tuple[float, float, float, float]:
    """Return how many objects of a class are found, are none, and are missed, at an IoU of 0.5."""
    boxes = [box for name, box in _confident(objects) if name == label]
    wanted = [box for name, box in truth if name == label]
    hits = float(match(_corners(boxes), _corners(wanted)).sum())
    return hits, len(boxes) - hits, len(wanted) - hits, 0.0


def _of_mask(
    mask: np.ndarray, truth: np.ndarray, place: int, num_classes: int
) -> tuple[float, float, float, float]:
    """Return the shares of the known pixels that are right and wrong about a class."""
    counts = confusion(mask, truth, num_classes)
    total = float(counts.sum())
    if not total:
        return 0.0, 0.0, 0.0, 0.0
    hit = float(counts[place, place])
    over, missed = float(counts[:, place].sum()) - hit, float(counts[place].sum()) - hit
    return hit / total, over / total, missed / total, (total - hit - over - missed) / total


def ranked_boxes(
    prediction: Mapping[str, Any], truth: Truth, label: str
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None:
    """Return all predicted and all true boxes of a class, for its AP; None of other kinds.

    Args:
        prediction: The prediction, as the server answers it.
        truth: The truth.
        label: The class.
    """
    if not isinstance(truth, list):
        return None
    found = [own for own in found_objects(prediction["objects"]) if own[0] == label]
    wanted = [box for name, box in truth if name == label]
    predicted = {
        "boxes": _corners([box for _, _, box in found]),
        "scores": np.array([score for _, score, _ in found], dtype=np.float32),
        "labels": np.zeros(len(found), dtype=np.int64),
    }
    labels = np.zeros(len(wanted), dtype=np.int64)
    return predicted, {"boxes": _corners(wanted), "labels": labels}


def _corners(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    return np.array([*boxes], dtype=np.float64).reshape(-1, 4)
