"""Extracts of captures: what was computed from the pictures of a request, in place of them.

An extracted capture is a capture: one line with the same metadata and the same answer, whose
request is left out, and which has one more part, `regrow`:

    {"version": 1, "grey_range": null, "reason": "",
     "pictures": [{"pixels": "0123456789abcdef", "values": {"width": 640.0, "brightness": 0.4}}]}
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from regrow.errors import BadInput
from regrow.monitor.features import PICTURE, VERSION, WHOLE, Value
from regrow.plain import MISSHAPEN, parse_json

PART = "regrow"
UNREADABLE = "unreadable"
MAX_PICTURES = 10_000  # of one request; what has more stays as it was captured
MAX_REASON = 200  # characters of a reason, of which reports show no more
KEY = re.compile(r"[0-9a-f]{16}")
SIDE = 2.0**31  # more than any side of a picture in pixels, and than its bytes
# The largest value of each feature; those of light and texture are shares, but for rounding.
SHARE = 1 + 1e-9
MOST = {"width": SIDE, "height": SIDE, "bytes": SIDE, "aspect": SIDE, "sharpness": 16.0}
LEAST = {"width": 1.0, "height": 1.0, "aspect": 1 / SIDE}


@dataclass(frozen=True, slots=True)
class Measured:
    """What was computed from one picture.

    Args:
        values: Its features by name.
        key: The number of 64 bits by which pictures with the same pixels are found.
    """

    values: Mapping[str, Value]
    key: int

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width in pixels."""
        width, height = self.values["width"], self.values["height"]
        return int(height or 0), int(width or 0)


@dataclass(frozen=True, slots=True)
class Extract:
    """What was computed from the pictures of a request.

    Args:
        pictures: Each picture; none where there is none, or it cannot be decoded.
        reason: Why what was sent cannot be decoded; empty where it can.
        grey_range: The values of 16-bit grey pictures that became 0 and 255.
        version: That of the features.
    """

    pictures: tuple[Measured, ...]
    reason: str
    grey_range: tuple[int, int] | None
    version: int = VERSION

    def fits(self, grey_range: tuple[int, int] | None) -> bool:
        """Whether it is what would be computed now.

        Args:
            grey_range: The values of 16-bit grey pictures that become 0 and 255.
        """
        return self.version == VERSION and self.grey_range == grey_range

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data, exactly."""
        pictures = [
            {"pixels": f"{one.key:016x}", "values": dict(one.values)} for one in self.pictures
        ]
        return {
            "version": self.version,
            "grey_range": self.grey_range,
            "reason": self.reason[:MAX_REASON],
            "pictures": pictures,
        }


def parse_extract(content: Any) -> Extract | None:
    """Return the extract in the content of a line; None where the line has none.

    Of another version nothing but that is read.

    Args:
        content: The line's content.

    Raises:
        BadInput: If it is damaged, or says that the line it was made from could not be read.
    """
    part = content.get(PART) if isinstance(content, dict) else None
    if part is None:
        return None
    try:
        if UNREADABLE in part:
            raise BadInput(str(part[UNREADABLE])[:MAX_REASON])
        version, reason, given = part["version"], part["reason"], part["pictures"]
        if type(version) is not int:
            raise ValueError("the version is no whole number")
        if version != VERSION:
            return Extract((), "", None, version)
        if not isinstance(reason, str) or len(reason) > MAX_REASON:
            raise ValueError("the reason is no short text")
        if not isinstance(given, list) or len(given) > MAX_PICTURES or (reason and given):
            raise ValueError("the pictures are no list, or too many")
        pictures = tuple(_measured(one["values"], one["pixels"]) for one in given)
        return Extract(pictures, reason, _grey_range(part["grey_range"]))
    except MISSHAPEN as error:
        raise BadInput(f"a damaged extract of its pictures ({str(error)[:80]})") from error


def _grey_range(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    low, high = value
    if type(low) is not int or type(high) is not int:
        raise ValueError("the grey range is no two whole numbers")
    return low, high


def _measured(values: Any, pixels: Any) -> Measured:
    if not isinstance(pixels, str) or not KEY.fullmatch(pixels):
        raise ValueError("the pixels' key is no hexadecimal number")
    if not isinstance(values, dict) or values.keys() != {*PICTURE}:
        raise ValueError("the features are not those of a picture")
    return Measured({name: _value(name, values[name]) for name in PICTURE}, int(pixels, 16))


def _value(name: str, value: Any) -> float | None:
    """Return the value of a feature; that of `bytes` is missing where no file was sent."""
    if value is None and name == "bytes":
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} is no finite number")
    if not LEAST.get(name, 0.0) <= value <= MOST.get(name, SHARE):
        raise ValueError(f"{name} is out of its range")
    if name in WHOLE and value != int(value):
        raise ValueError(f"{name} is no whole number")
    return float(value)


def extracted_line(line: bytes, extract: Extract, *, keeps_request: bool) -> bytes:
    """Return a line of captures with an extract of its pictures, with its line end.

    Args:
        line: The line that the extract was made from.
        extract: What was computed from its pictures.
        keeps_request: Whether the request stays beside it.
    """
    content = parse_json(line.decode("utf-8", "replace"), "a line")
    if not keeps_request:
        content["captureData"].pop("endpointInput", None)
    return _line(content | {PART: extract.to_dict()})


def unreadable_line(reason: str) -> bytes:
    """Return a line that says why another one could not be read, with its line end."""
    return _line({PART: {UNREADABLE: reason[:MAX_REASON]}})


def _line(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, separators=(',', ':'))}\n".encode()
