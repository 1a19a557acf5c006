"""Encoded pictures within bodies of JSON and of the Open Inference Protocol V2.

They are `{"instances": [{"b64": ...}]}`, and the BYTES elements of V2: in base64, or behind a head
of JSON, each after its length. All else there are tensors, which are no pictures any more.
"""

import base64
import binascii
import struct
from typing import Any

from regrow.errors import BadInput
from regrow.monitor.files.captures import Body
from regrow.plain import MISSHAPEN, parse_json

JSON = "application/json"
BINARY, SIZE = "application/vnd.sagemaker-triton.binary+json", "json-header-size"
MAX_PICTURES = 64  # of one request, as the server takes them
SIGNS = (b'"instances"', b'"BYTES"')  # one of which every such body has


def encoded_pictures(body: Body) -> list[bytes]:
    """Return the encoded pictures in a body of JSON, or of V2 with binary tensors; none of tensors.

    Raises:
        BadInput: If it should hold pictures, and they cannot be read.
    """
    content, tail = body.content(), b""
    if body.content_type == BINARY:
        length = _head_length(body)
        if length is None:
            return []
        if not length:
            return [content]
        content, tail = content[:length], content[length:]
    if not any(sign in content for sign in SIGNS):  # tensors in JSON are long to parse
        return []
    value = parse_json(content.decode("utf-8", "replace"), "a body that was sent")
    try:
        found = _elements(value, tail)
    except (binascii.Error, struct.error, *MISSHAPEN) as error:
        raise BadInput("a body of JSON whose pictures cannot be read") from error
    if len(found) > MAX_PICTURES:
        raise BadInput(f"a body with {len(found):,} pictures; {MAX_PICTURES} are looked at")
    return found


def read_answer(body: Body) -> Any:
    """Return what an answer of JSON holds, or the head of one of V2 with binary tensors.

    Raises:
        BadInput: If it is no JSON.
    """
    length = _head_length(body) if body.content_type == BINARY else None
    if length is None:
        return body.json()
    return parse_json(body.content()[:length].decode("utf-8", "replace"), "the head of an answer")


def _head_length(body: Body) -> int | None:
    """Return how many bytes of a body of V2 are its head; None if it does not say so."""
    length = body.parameters.partition(f"{SIZE}=")[2].partition(";")[0].strip()
    return int(length) if length.isascii() and length.isdigit() and len(length) <= 12 else None


def _elements(value: Any, tail: bytes) -> list[bytes]:
    if value.get("instances") is not None:
        return [_decoded(one["b64"]) for one in value["instances"]]
    (given,) = value["inputs"]
    if given["datatype"] != "BYTES":
        return []
    if tail:
        return _prefixed(tail)
    texts = [one if isinstance(one, list) else [one] for one in given["data"]]
    return [_decoded(text) for own in texts for text in own]


def _decoded(text: Any) -> bytes:
    return base64.b64decode(text, validate=True)


def _prefixed(content: bytes) -> list[bytes]:
    """Return elements that have their lengths before them, of 4 bytes, little-endian."""
    found, place = [], 0
    while place < len(content):
        (length,) = struct.unpack_from("<I", content, place)
        found.append(content[place + 4 : place + 4 + length])
        place += 4 + length
    if place != len(content):
        raise ValueError("an element that ends behind the body")
    return found
