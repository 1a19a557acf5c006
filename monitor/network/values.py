"""Values of a prediction: how much of it a network still makes of a changed picture, in [0, 1]."""

from collections.abc import Callable, Mapping

import numpy as np

from regrow.metrics.matching import overlaps
from regrow.monitor.network.served import Outputs
from regrow.monitor.truths import CONFIDENT

NUM_OBJECTS = 3  # of a picture that are explained, as Clarify's `max_objects`
Value = Callable[[Outputs], np.ndarray]  # from the outputs for b changed pictures to (b,)


def value_of(kind: str, outputs: Outputs) -> tuple[int, Value] | None:
    """Return the class that a network predicts for a picture, and what values this prediction.

    Of classification the value is the probability of the class; of detection how alike the best
    boxes still are (D-RISE); of segmentation the mean probability of each pixel's class, where each
    class counts the same.

    Args:
        kind: What the network predicts: `labels`, `boxes` or `masks`.
        outputs: Its outputs for the one picture.

    Returns:
        The class, and the value; None where there is nothing to explain, such as no box.
    """
    return _VALUES[kind](outputs)


def predicted_class(kind: str, outputs: Outputs, num_classes: int) -> int:
    """Return the class that a network predicts for a picture.

    Args:
        kind: What it predicts.
        outputs: Its outputs for the one picture.
        num_classes: The number of its classes, which stands for no class.
    """
    if kind == "labels":
        return int(outputs["probabilities"][0].argmax())
    if kind == "masks":
        return int(np.bincount(outputs["mask"].ravel().astype(np.int64)).argmax())
    best = _best_objects(outputs)
    return int(outputs["selected"][best[0], 1]) if len(best) else num_classes


def _of_label(outputs: Outputs) -> tuple[int, Value] | None:
    label = int(outputs["probabilities"][0].argmax())
    return label, lambda changed: changed["probabilities"][:, label].astype(np.float64)


def _of_mask(outputs: Outputs) -> tuple[int, Value] | None:
    mask = outputs["mask"][0].astype(np.int64)
    labels, inverse, counts = np.unique(mask, return_inverse=True, return_counts=True)
    weights = (1 / counts / len(labels))[inverse].reshape(mask.shape)

    def value(changed: Outputs) -> np.ndarray:
        logits = changed["logits"].astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        own = np.take_along_axis(logits, mask[None, None], axis=1)[:, 0]
        shares = np.exp(own) / np.exp(logits).sum(axis=1)
        found: np.ndarray = (shares * weights).sum(axis=(1, 2))
        return found

    return int(labels[counts.argmax()]), value


def _of_boxes(outputs: Outputs) -> tuple[int, Value] | None:
    best = _best_objects(outputs)
    if not len(best):
        return None
    _, boxes, scores = _objects(outputs)
    label = int(outputs["selected"][best[0], 1])
    wanted, chances = boxes[best], scores[best]

    def value(changed: Outputs) -> np.ndarray:
        images, found, own = _objects(changed)
        alike = similarity(wanted, chances, found, own)
        made = np.zeros((len(changed["boxes"]), len(wanted)))
        np.maximum.at(made, images, alike)
        mean: np.ndarray = made.mean(axis=1)
        return mean

    return label, value


_VALUES: Mapping[str, Callable[[Outputs], tuple[int, Value] | None]] = {
    "labels": _of_label,
    "boxes": _of_boxes,
    "masks": _of_mask,
}


def _objects(outputs: Outputs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the image, the box and the scores of all classes of each selected object."""
    images, _, places = outputs["selected"].T
    boxes = outputs["boxes"][images, places].astype(np.float64)
    return images, boxes, outputs["scores"][images, :, places].astype(np.float64)


def _best_objects(outputs: Outputs) -> np.ndarray:
    """Return which of the selected objects of one picture are explained, best first."""
    images, labels, places = outputs["selected"].T
    scores = outputs["scores"][images, labels, places]
    order = np.argsort(-scores, kind="stable")[:NUM_OBJECTS]
    found: np.ndarray = order[scores[order] >= CONFIDENT]
    return found


def similarity(
    wanted: np.ndarray, chances: np.ndarray, boxes: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """Compute how alike objects are: in place, in classes, and in how sure the network is of them.

    Source: Petsiuk et al., Black-box explanation of object detectors via saliency maps (D-RISE),
    CVPR 2021, 2006.03204: the IoU, times the cosine of the class scores, times the objectness,
    which is here the largest class score.

    Args:
        wanted: The boxes that are looked for, xyxy, (t, 4).
        chances: Their scores of all classes, (t, c).
        boxes: The boxes found, (n, 4).
        scores: Likewise, (n, c).

    Returns:
        The similarity of each box found to each wanted one, in [0, 1], (n, t).
    """
    overlap = np.nan_to_num(overlaps(boxes, wanted))  # of boxes without area there is none
    lengths = np.linalg.norm(scores, axis=1)[:, None] * np.linalg.norm(chances, axis=1)[None]
    alike = np.divide(scores @ chances.T, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    found: np.ndarray = overlap * alike * scores.max(axis=1, initial=0)[:, None]
    return found
