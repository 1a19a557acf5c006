"""Rows of a capture: the features of each picture in an event, and of the answer to it."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode
from regrow.errors import BadInput
from regrow.monitor.answers import prediction_features, predictions_of
from regrow.monitor.features import PICTURE, Value, picture_features
from regrow.monitor.files.captures import Body, Event

NPY = "application/x-npy"
# What holds no picture, and what may hold one.
TENSORS = ("application/json", "application/vnd.sagemaker-triton.binary+json", "text/csv")
ANY_BYTES = ("application/octet-stream", "binary/octet-stream")
METADATA = "metadata "  # before the names of custom attributes, among the features
MAX_NPY = 2**28  # bytes


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one picture.

    Args:
        event: The captured request.
        values: The features by name; None is missing.
        prediction: The prediction, if the answer was captured.
        pixels: The picture, uint8 RGB (h, w, 3), if there is one.
        is_corrupt: Whether a picture was sent that cannot be decoded.
        reason: Why something is missing; empty where nothing is.
        model: The hash of the model that answered, if the answer says so.
    """

    event: Event
    values: dict[str, Value]
    prediction: dict[str, Any] | None
    pixels: np.ndarray | None
    is_corrupt: bool
    reason: str
    model: str | None = None


def model_of(event: Event) -> str | None:
    """Return the hash of the model that answered, if the answer says so."""
    try:
        return _model(event.output.json()) if event.output is not None else None
    except BadInput:
        return None


def _model(answer: Any) -> str | None:
    found = answer.get("model") if isinstance(answer, dict) else None
    return found if isinstance(found, str) else None


def pictures_of(body: Body, decoding: Decoding = Decoding()) -> list[np.ndarray]:
    """Return the pictures in a request, uint8 RGB (h, w, 3) each; none where it holds tensors.

    Raises:
        BadInput: If it holds a picture that cannot be decoded.
    """
    if body.content_type == NPY:
        return _pictures_in_npy(body.content())
    if body.content_type in TENSORS:
        return []
    try:
        return [decode(body.content(), decoding)]
    except BadInput:
        if body.content_type in ANY_BYTES:
            return []
        raise


def _pictures_in_npy(content: bytes) -> list[np.ndarray]:
    try:
        if len(content) > MAX_NPY:
            raise ValueError("too large")
        found = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        raise BadInput("the array that was sent cannot be read") from error
    if not isinstance(found, np.ndarray) or found.dtype != np.uint8 or found.size == 0:
        raise BadInput("the array that was sent is none of uint8")
    batch = found if found.ndim == 4 else found[None]
    if batch.ndim == 4 and batch.shape[1] == 3 and batch.shape[3] != 3:
        batch = batch.transpose(0, 2, 3, 1)
    if batch.ndim != 4 or batch.shape[3] != 3:
        raise BadInput(f"the array that was sent has the shape {found.shape}, no pictures")
    return list(batch)


def rows_of(event: Event, classes: Sequence[str], decoding: Decoding = Decoding()) -> list[Row]:
    """Return a row for each picture of an event; what is broken is missing, never an error.

    Args:
        event: The captured request and its answer.
        classes: The classes of the model.
        decoding: How files become pixels.
    """
    reasons, is_corrupt = [], False
    pictures: list[np.ndarray] = []
    num_bytes = None
    if event.input is not None:
        try:
            pictures = pictures_of(event.input, decoding)
            is_npy = event.input.content_type == NPY
            num_bytes = None if is_npy or not pictures else event.input.num_bytes
        except BadInput as error:
            reasons, is_corrupt = [str(error)], True
    predictions: list[Any] = []
    model = None
    if event.output is not None:
        try:
            answer = event.output.json()
            model = _model(answer)
            predictions = list(predictions_of(answer))
        except BadInput as error:
            reasons.append(str(error))
    rows = []
    for place in range(max(len(pictures), len(predictions), 1)):
        pixels = pictures[place] if place < len(pictures) else None
        prediction = predictions[place] if place < len(predictions) else None
        values, reason = row_values(pixels, num_bytes, prediction, classes)
        if is_corrupt:
            values = dict.fromkeys(PICTURE) | values
        reason = reason or "; ".join(reasons)
        rows.append(Row(event, values, prediction, pixels, is_corrupt, reason, model))
    return rows


def row_values(
    pixels: np.ndarray | None,
    num_bytes: int | None,
    prediction: Any,
    classes: Sequence[str],
) -> tuple[dict[str, Value], str]:
    """Return the features of a picture and of its prediction, and why some are missing.

    Those of a picture or of a prediction that is not there are left out.

    Args:
        pixels: The picture, uint8 RGB (h, w, 3), if there is one.
        num_bytes: The size of its file, if that is known.
        prediction: The prediction, as the server answers it, if there is one.
        classes: The classes of the model.
    """
    values: dict[str, Value] = {}
    size = None
    if pixels is not None:
        values, size = picture_features(pixels, num_bytes), (pixels.shape[0], pixels.shape[1])
    if prediction is None:
        return values, ""
    try:
        return values | prediction_features(prediction, classes, size), ""
    except BadInput as error:
        return values, str(error)
