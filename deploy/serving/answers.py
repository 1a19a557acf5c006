"""Answers: outputs of a graph as a user needs them, in the pixels of the picture that was sent."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from PIL import Image

from regrow.data.images.run_lengths import class_runs
from regrow.data.images.transforms import resize_mask
from regrow.deploy.runtime import detections
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.session import Outputs
from regrow.errors import BadInput

Answer = dict[str, Any]
MaskForm = Literal["png", "rle"]
MASKS = "masks"
NUM_RUNS = 5_000_000  # that the masks of one answer have at most


def mask_form(accept: str) -> MaskForm:
    """Return the form of masks that a client accepts, as in `application/json; masks=rle`.

    Args:
        accept: The header `Accept`; one that says nothing of masks means PNG.

    Raises:
        BadInput: If it is another form.
    """
    for parameter in accept.replace(",", ";").split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == MASKS:
            for form in get_args(MaskForm):
                if value.strip().lower() == form:
                    return cast(MaskForm, form)
            raise BadInput(f"masks={value.strip()[:40]!r} is accepted; they are png or rle")
    return "png"


def predictions(
    model: ServedModel,
    outputs: Outputs,
    sizes: Sequence[tuple[int, int]],
    form: MaskForm = "png",
) -> list[Answer]:
    """Return what a model predicts for each picture, as plain data.

    Args:
        model: The model.
        outputs: The outputs that predictions are made of, by name.
        sizes: Height and width of each picture as it was sent.
        form: The form of masks.

    Returns:
        Of classification `label`, `score` and the `scores` by class; of detection `objects` with
        `label`, `score` and `box`, [x1, y1, x2, y2] in pixels of the picture, best first; of
        segmentation `mask`, a base64 PNG of class indices at the picture's size, or `masks`, COCO's
        `size` and `counts` by class that it shows, with `classes` by index and the `shares` of the
        picture by class.

    Raises:
        BadInput: If the masks have too many runs for JSON.
    """
    if model.kind == "labels":
        return [_label(model.classes, row) for row in outputs["probabilities"]]
    if model.kind == "masks":
        return _segmented(model.classes, outputs["mask"], sizes, form)
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


def _segmented(
    classes: Sequence[str], masks: np.ndarray, sizes: Sequence[tuple[int, int]], form: MaskForm
) -> list[Answer]:
    kind = np.uint8 if len(classes) <= 256 else np.uint16
    made, left = [], NUM_RUNS
    for mask, size in zip(masks, sizes, strict=True):
        # As int32, since torch resizes no uint16.
        whole = resize_mask(torch.from_numpy(mask.astype(np.int32)), size).numpy().astype(kind)
        if form == "rle":
            runs = class_runs(whole)
            left -= sum(len(counts) for counts in runs.values())
            if left < 0:
                raise BadInput(f"the masks have more than {NUM_RUNS:,} runs; accept masks=png")
            own: Answer = {"masks": _by_class(classes, runs, size)}
        else:
            own = {"mask": _png(whole)}
        counts = np.bincount(whole.ravel(), minlength=len(classes))
        shares = dict(zip(classes, (counts / whole.size).tolist(), strict=True))
        made.append({**own, "classes": list(classes), "shares": shares})
    return made


def _by_class(
    classes: Sequence[str], runs: Mapping[int, np.ndarray], size: tuple[int, int]
) -> dict[str, Any]:
    return {
        classes[label]: {"size": list(size), "counts": counts.tolist()}
        for label, counts in runs.items()
    }


def _png(mask: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()
