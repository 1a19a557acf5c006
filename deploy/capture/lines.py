"""Captured requests as lines of JSON, and the sampling that chooses them.

Source: Amazon SageMaker Developer Guide, "Capture data from real-time endpoint", and the API's
`DataCaptureConfig`.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from regrow.deploy.serving.observing import Exchange
from regrow.errors import BadInput

CaptureMode = Literal["InputAndOutput", "Input", "Output"]
MODES: Mapping[str, tuple[bool, bool]] = {
    "InputAndOutput": (True, True),
    "Input": (True, False),
    "Output": (False, True),
}
# Source: the API's CaptureContentTypeHeader: CsvContentTypes and JsonContentTypes.
MAX_TYPES = 10
LONGEST = 1024  # characters of a content type that are kept


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Capturing:
    """What is captured of the requests.

    Args:
        mode: What is captured of each: its input, its output, or both.
        csv_types: Content types whose bodies are kept as CSV text, without parameters such as
            `charset`.
        json_types: Content types whose bodies are kept as JSON text; any other body is kept in
            base64.
    """

    mode: CaptureMode = "InputAndOutput"
    csv_types: Sequence[str] = ("text/csv",)
    json_types: Sequence[str] = ("application/json",)

    def __post_init__(self) -> None:
        """Refuse settings that SageMaker has no meaning for."""
        if self.mode not in MODES:
            raise BadInput(f"the capture mode is {self.mode!r}; it may be {', '.join(MODES)}")
        for name in ("csv_types", "json_types"):
            count = len(getattr(self, name))
            if count > MAX_TYPES:
                raise BadInput(f"{name} has {count} content types; it may have {MAX_TYPES}")


def capture_line(exchange: Exchange, capturing: Capturing) -> bytes:
    """Return the line of JSON that captures a request, with its line end.

    Args:
        exchange: The request and its answer.
        capturing: What is captured of it.

    Raises:
        ValueError: If its time is in no year of the calendar.
    """
    has_input, has_output = MODES[capturing.mode]
    captured = {}
    if has_input:
        captured["endpointInput"] = _body(
            exchange.request_type, "INPUT", exchange.request_body, capturing
        )
    if has_output:
        captured["endpointOutput"] = _body(
            exchange.response_type, "OUTPUT", exchange.response_body, capturing
        )
    about: dict[str, Any] = {"eventId": exchange.event_id}
    if exchange.inference_id:
        about["inferenceId"] = exchange.inference_id
    if exchange.custom_attributes:
        about["customAttributes"] = [exchange.custom_attributes]
    about["inferenceTime"] = utc(exchange.time).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = {"captureData": captured, "eventMetadata": about, "eventVersion": "0"}
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def utc(seconds: float) -> datetime:
    """Return the time of so many seconds since 1970.

    Raises:
        ValueError: If it is in no year of the calendar.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError) as error:
        raise ValueError(f"{seconds} seconds since 1970 are no time") from error


def _body(kind: str, mode: str, content: bytes, capturing: Capturing) -> dict[str, str]:
    data, encoding = _encoded(kind, content, capturing)
    return {
        "observedContentType": kind[:LONGEST],
        "mode": mode,
        "data": data,
        "encoding": encoding,
    }


def _encoded(kind: str, content: bytes, capturing: Capturing) -> tuple[str, str]:
    """Return a body as text, and what that text is; every body can be had back to the byte."""
    plain = _without_parameters(kind)
    for types, encoding in ((capturing.csv_types, "CSV"), (capturing.json_types, "JSON")):
        if plain and plain in map(_without_parameters, types):
            try:
                return content.decode(), encoding
            except UnicodeDecodeError:  # in another charset; as text its bytes would be lost
                break
    return base64.b64encode(content).decode(), "BASE64"


def _without_parameters(kind: str) -> str:
    return kind.partition(";")[0].strip().lower()
