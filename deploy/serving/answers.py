"""Answers: outputs of a graph as a user needs them, in the pixels of the picture that was sent."""

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from regrow.data.images.transforms import resize_mask
from regrow.deploy.runtime import Outputs, detections
from regrow.deploy.serving.served_model import ServedModel

Answer = dict[str, Any]


def predictions(
    model: ServedModel, outputs: Outputs, sizes: Sequence[tuple[int, int]]
) -> list[Answer]:
    """Return what a model predicts for each picture, as plain data.

    Args:
        model: The model.
        outputs: The outputs that predictions are made of, by name.
        sizes: Height and width of each picture as it was sent.

    Returns:
        Of classification `label`, `score` and the `scores` by class; of detection `objects` with
        `label`, `score` and `box`, [x1, y1, x2, y2] in pixels of the picture, best first; of
        segmentation `mask`, a base64 PNG of class indices at the picture's size, with `classes` by
        index and the `shares` of the picture by class.
    """
    if model.kind == "labels":
        return [_label(model.classes, row) for row in outputs["probabilities"]]
    if model.kind == "masks":
        pairs = zip(outputs["mask"], sizes, strict=True)
        return [_mask(model.classes, mask, size) for mask, size in pairs]
    most = int(model.onnx.suppression.get("max_detections", 100))
    found = detections(outputs, max_detections=most)
    pairs = zip(found, sizes, strict=True)
    return [_objects(model, own, size) for own, size in pairs]


def numbers(values: np.ndarray) -> list[Any]:
    """Return the values of an array in row-major order; None for what JSON has no number for."""
    flat = values.ravel()
    if flat.dtype.kind != "f" or np.isfinite(flat).all():
        plain: list[Any] = flat.tolist()
        return plain
    return [value if np.isfinite(value) else None for value in flat.tolist()]


def _label(classes: Sequence[str], row: np.ndarray) -> Answer:
    scores = numbers(row)
    best = int(row.argmax())
    return {
        "label": classes[best],
        "score": scores[best],
        "scores": dict(zip(classes, scores, strict=True)),
    }


def _objects(model: ServedModel, found: dict[str, np.ndarray], size: tuple[int, int]) -> Answer:
    (height, width), (own_height, own_width) = size, model.size
    scale = np.array([width / own_width, height / own_height] * 2)
    rows = zip(found["labels"].tolist(), numbers(found["scores"]), found["boxes"], strict=True)
    return {
        "objects": [
            {"label": model.classes[label], "score": score, "box": numbers(box * scale)}
            for label, score, box in rows
        ]
    }


def _mask(classes: Sequence[str], mask: np.ndarray, size: tuple[int, int]) -> Answer:
    kind = np.uint8 if len(classes) <= 256 else np.uint16
    # As int32, since torch resizes no uint16.
    whole = resize_mask(torch.from_numpy(mask.astype(np.int32)), size).numpy().astype(kind)
    counts = np.bincount(whole.ravel(), minlength=len(classes))
    file = io.BytesIO()
    Image.fromarray(whole).save(file, "PNG", compress_level=1)
    return {
        "mask": base64.b64encode(file.getvalue()).decode(),
        "classes": list(classes),
        "shares": dict(zip(classes, (counts / whole.size).tolist(), strict=True)),
    }
