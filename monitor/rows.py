"""Rows of a capture: the features of each picture in an event, and of the answer to it."""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode
from regrow.data.images.opening import image_size
from regrow.errors import BadInput
from regrow.monitor.answers import prediction_features, predictions_of
from regrow.monitor.features import PICTURE, Value, picture_features, pixels_key
from regrow.monitor.files.captures import Body, Event
from regrow.monitor.files.extracts import Measured
from regrow.monitor.files.sent import BINARY, JSON, encoded_pictures, read_answer

NPY = "application/x-npy"
# What holds no picture, and what may be one.
TABLE = "text/csv"
ANY_BYTES = ("application/octet-stream", "binary/octet-stream")
METADATA = "metadata "  # before the names of custom attributes, among the features
MAX_NPY = 2**28  # bytes
HASH = re.compile(r"[0-9a-f]{64}")  # of a model's file; other servers count versions
STALE = "an extract of another version or grey range, without its picture; extract it again"


@dataclass(frozen=True, slots=True)
class Row:
    """What is known of one picture.

    Args:
        event: The captured request.
        values: The features by name; None is missing.
        prediction: The prediction, if the answer was captured.
        pixels: The picture, uint8 RGB (h, w, 3), if there is one and it had to be decoded.
        is_corrupt: Whether a picture was sent that cannot be decoded.
        reason: Why something is missing; empty where nothing is.
        model: The hash of the model that answered, if the answer says so.
        key: The number by which pictures with the same pixels are found, if there is one.
    """

    event: Event
    values: dict[str, Value]
    prediction: dict[str, Any] | None
    pixels: np.ndarray | None
    is_corrupt: bool
    reason: str
    model: str | None = None
    key: int | None = None


def model_of(event: Event) -> str | None:
    """Return the hash of the model that answered, if the answer says so."""
    try:
        return _model(read_answer(event.output)) if event.output is not None else None
    except BadInput:
        return None


def _model(answer: Any) -> str | None:
    if not isinstance(answer, dict):
        return None
    found, version = answer.get("model"), answer.get("model_version")
    if found is None and isinstance(version, str) and HASH.fullmatch(version):  # of V2
        found = version
    return found if isinstance(found, str) else None


def pictures_of(body: Body, decoding: Decoding = Decoding()) -> list[np.ndarray]:
    """Return the pictures in a request, uint8 RGB (h, w, 3) each; none where it holds tensors.

    Raises:
        BadInput: If it holds a picture that cannot be decoded.
    """
    if body.content_type == NPY:
        return _pictures_in_npy(body.content())
    if body.content_type == TABLE:
        return []
    if body.content_type in (JSON, BINARY):
        return _decoded(encoded_pictures(body), decoding)
    try:
        return [decode(body.content(), decoding)]
    except BadInput:
        if body.content_type in ANY_BYTES:
            return []
        raise


def _decoded(files: Sequence[bytes], decoding: Decoding) -> list[np.ndarray]:
    """Decode pictures of one request, of whose pixels together there is a limit."""
    found, left = [], decoding.max_pixels
    for file in files:
        height, width = image_size(file, left)
        left -= height * width
        found.append(decode(file, decoding))
    return found


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
    reasons = [STALE] if is_stale(event, decoding) else []
    is_corrupt = False
    measured: Sequence[Measured] = ()
    pictures: Sequence[np.ndarray] = ()
    try:
        measured, pictures = measure(event, decoding)
    except BadInput as error:
        reasons, is_corrupt = [str(error)], True
    predictions: list[Any] = []
    model = None
    if event.output is not None:
        try:
            answer = read_answer(event.output)
            model = _model(answer)
            predictions = list(predictions_of(answer))
        except BadInput as error:
            reasons.append(str(error))
    rows = []
    for place in range(max(len(measured), len(predictions), 1)):
        own = measured[place] if place < len(measured) else None
        pixels = pictures[place] if place < len(pictures) else None
        prediction = predictions[place] if place < len(predictions) else None
        values, reason = _with_answer(own, prediction, classes)
        if is_corrupt:
            values = dict.fromkeys(PICTURE) | values
        reason = reason or "; ".join(reasons)
        key = None if own is None else own.key
        rows.append(Row(event, values, prediction, pixels, is_corrupt, reason, model, key))
    return rows


def measure(
    event: Event, decoding: Decoding = Decoding()
) -> tuple[Sequence[Measured], Sequence[np.ndarray]]:
    """Return what is known of the pictures in a request, and their pixels where they were decoded.

    They are not decoded where the capture has an extract that is what would be computed now.

    Args:
        event: The captured request.
        decoding: How files become pixels.

    Raises:
        BadInput: If there is a picture that cannot be decoded.
    """
    own = event.extract
    if own is not None and own.fits(decoding.grey_range):
        if own.reason:
            raise BadInput(own.reason)
        return own.pictures, ()
    if event.input is None:
        return (), ()
    pictures = pictures_of(event.input, decoding)
    is_file = event.input.content_type not in (NPY, JSON, BINARY)
    num_bytes = event.input.num_bytes if is_file and pictures else None
    measured = [Measured(picture_features(one, num_bytes), pixels_key(one)) for one in pictures]
    return measured, pictures


def is_stale(event: Event, decoding: Decoding = Decoding()) -> bool:
    """Whether all that a capture has of its pictures is an extract that cannot be used.

    Args:
        event: The captured request.
        decoding: How files become pixels.
    """
    own = event.extract
    return own is not None and event.input is None and not own.fits(decoding.grey_range)


def kept_pixels(event: Event, place: int, decoding: Decoding = Decoding()) -> np.ndarray | None:
    """Return a picture that a capture has beside its extract, uint8 RGB (h, w, 3); None without it.

    Args:
        event: The captured request.
        place: The number of the picture in it.
        decoding: How files become pixels.
    """
    try:
        pictures = [] if event.input is None else pictures_of(event.input, decoding)
    except BadInput:
        return None
    return pictures[place] if place < len(pictures) else None


def picture_id(event: Event, place: int) -> str:
    """Return what tells a picture from all others.

    Args:
        event: The captured request.
        place: The number of the picture in it.
    """
    return f"{event.id} {place}"


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
    own = None if pixels is None else Measured(picture_features(pixels, num_bytes), 0)
    return _with_answer(own, prediction, classes)


def _with_answer(
    own: Measured | None, prediction: Any, classes: Sequence[str]
) -> tuple[dict[str, Value], str]:
    values: dict[str, Value] = {} if own is None else dict(own.values)
    if prediction is None:
        return values, ""
    size = None if own is None else own.size
    try:
        return values | prediction_features(prediction, classes, size), ""
    except BadInput as error:
        return values, str(error)
