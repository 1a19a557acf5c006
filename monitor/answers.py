"""Features of an answer: what the model predicted, as numbers by which a change is seen.

An answer is what the server sends: `model`, the hash of its file, and `predictions`, one a picture.
Classification has `label`, `score` and `scores` by class; detection `objects`, each with `label`,
`score` and `box` in pixels of the sent picture; segmentation `mask`, `classes` and `shares`.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from regrow.errors import BadInput
from regrow.monitor.features import Value
from regrow.plain import MISSHAPEN

# Answers may be rounded on their way: both sides are compared at this many digits.
DIGITS = 4
NUM_CLASSES = 20  # whose own shares are watched; of more the first in the order of the baseline
NUM_OBJECTS = 10_000  # of one picture
CLASS = "predicted_class"
NO_CLASS = "none"  # where there is no object


def predictions_of(answer: Any) -> list[Mapping[str, Any]]:
    """Return the predictions in an answer, one a picture.

    Raises:
        BadInput: If it is no answer of the server's.
    """
    found = answer.get("predictions") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        if isinstance(answer, dict) and "outputs" in answer:
            raise BadInput("an answer in tensors, of V2, which are not read")
        raise BadInput("an answer without a list of predictions")
    return found


def prediction_features(
    prediction: Mapping[str, Any], classes: Sequence[str], size: tuple[int, int] | None
) -> dict[str, Value]:
    """Compute the features of the prediction for one picture.

    Args:
        prediction: The prediction, as the server answers it.
        classes: The classes whose shares are watched, all that matter first.
        size: Height and width of the picture in pixels, for boxes; None if it was not captured.

    Raises:
        BadInput: If it is none of the three kinds; a clause without its capture.
    """
    try:
        if "objects" in prediction:
            return _of_objects(prediction["objects"], classes[:NUM_CLASSES], size)
        if "shares" in prediction:
            return _of_shares(by_class(prediction, "shares"), classes[:NUM_CLASSES])
        if "label" in prediction:
            return _of_label(prediction, classes[:NUM_CLASSES])
    except MISSHAPEN as error:
        raise BadInput("a prediction with values of another kind than the server's") from error
    raise BadInput("a prediction with neither a label, objects, nor shares of a mask")


def class_name(label: Any) -> str:
    """Return the class that a label names: 1, 1.0, "1", and "1" with the end of a line, are one."""
    is_whole = isinstance(label, float) and label.is_integer()
    return str(int(label) if is_whole else label).strip("\r\n")


def by_class(prediction: Mapping[str, Any], key: str) -> dict[str, float]:
    """Return shares by class, given as a mapping or in the order of `classes`.

    Args:
        prediction: The prediction.
        key: What of it, such as `scores`.

    Raises:
        ValueError: If one is no share, or another error of a kind that such data brings.
    """
    given = prediction[key]
    if not isinstance(given, Mapping):
        given = dict(zip(prediction["classes"], given, strict=True))
    return {class_name(name): _share(value) for name, value in given.items()}


def _of_label(prediction: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Value]:
    values: dict[str, Value] = {CLASS: class_name(prediction["label"])[:200]}
    values["confidence"] = _share(prediction["score"])
    if prediction.get("scores") is not None:
        scores = by_class(prediction, "scores")
        values["entropy"] = entropy(list(scores.values()))
        values |= {f"probability of {name}": scores.get(name) for name in classes}
    return values


def _of_objects(
    objects: Sequence[Any], classes: Sequence[str], size: tuple[int, int] | None
) -> dict[str, Value]:
    objects = list(objects)[:NUM_OBJECTS]
    labels = Counter(class_name(one["label"])[:200] for one in objects)
    most = min(labels, key=lambda name: (-labels[name], name)) if labels else NO_CLASS
    values: dict[str, Value] = {CLASS: most, "boxes": float(len(objects))}
    scores = [_share(one["score"]) for one in objects]
    values["box_score"] = _mean(scores)
    sides = [_sides(one["box"]) for one in objects]
    values["box_aspect"] = _mean([w / h for w, h in sides if w > 0 and h > 0])
    if size is not None:
        values["box_area"] = _mean([w * h / (size[0] * size[1]) for w, h in sides])
    return values | {f"boxes of {name}": float(labels[name]) for name in classes}


def _of_shares(shares: Mapping[str, float], classes: Sequence[str]) -> dict[str, Value]:
    most = min(shares, key=lambda name: (-shares[name], name)) if shares else NO_CLASS
    values: dict[str, Value] = {CLASS: most, "mask_entropy": entropy(list(shares.values()))}
    return values | {f"share of {name}": shares.get(name, 0.0) for name in classes}


def entropy(shares: Sequence[float]) -> float:
    """Compute the entropy of shares as a share of its largest value, in [0, 1]."""
    if len(shares) < 2:
        return 0.0
    total = math.fsum(-share * math.log(share) for share in shares if share > 0)
    return round(total / math.log(len(shares)), DIGITS)


def _share(value: Any) -> float:
    number = round(float(value), DIGITS)
    if isinstance(value, bool) or not 0 <= number <= 1:
        raise ValueError(f"{value!r} is no share")
    return number


def _sides(box: Sequence[Any]) -> tuple[float, float]:
    left, top, right, bottom = map(float, box)
    if not all(map(math.isfinite, (left, top, right, bottom))):
        raise ValueError("a box without an end")
    return max(right - left, 0.0), max(bottom - top, 0.0)


def _mean(values: Sequence[float]) -> float | None:
    return round(math.fsum(values) / len(values), DIGITS) if values else None
