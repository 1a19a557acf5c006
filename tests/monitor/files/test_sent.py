"""Pictures within JSON and V2 are found byte for byte, and tensors are none."""

import base64
import json
import struct
from typing import Any

import pytest

from regrow.errors import BadInput
from regrow.monitor.files.captures import Body
from regrow.monitor.files.sent import BINARY, JSON, MAX_PICTURES, encoded_pictures

FILES = [b"\x89PNG one", b"\xff\xd8 two", b""]
TEXTS = [base64.b64encode(file).decode() for file in FILES]
INSTANCES = {"instances": [{"b64": text} for text in TEXTS]}


def v2(**own: Any) -> dict[str, Any]:
    return {"id": "1", "inputs": [{"name": "images", "shape": [3], "datatype": "BYTES"} | own]}


def captured(content: bytes, kind: str = JSON, parameters: str = "") -> Body:
    return Body(kind, base64.b64encode(content).decode(), "BASE64", parameters)


@pytest.mark.parametrize("given", [INSTANCES, v2(data=TEXTS), v2(data=[[text] for text in TEXTS])])
def test_json_has_them_in_base64(given: dict[str, Any]) -> None:
    text = json.dumps(given)
    assert encoded_pictures(captured(text.encode())) == FILES
    assert encoded_pictures(Body(JSON, text, "JSON")) == FILES


def test_binary_tensors_have_them_behind_the_head() -> None:
    tail = b"".join(struct.pack("<I", len(file)) + file for file in FILES)
    head = json.dumps(v2(parameters={"binary_data_size": len(tail)})).encode()
    sized = f"json-header-size={len(head)}"
    assert encoded_pictures(captured(head + tail, BINARY, sized)) == FILES
    assert encoded_pictures(captured(head + tail, BINARY, f"a=b; {sized};c")) == FILES
    assert encoded_pictures(captured(FILES[0], BINARY, "json-header-size=0")) == FILES[:1]
    for cut in (tail[:-3], tail + b"x", tail[:6]):
        with pytest.raises(BadInput, match="whose pictures cannot be read"):
            encoded_pictures(captured(head + cut, BINARY, sized))


@pytest.mark.parametrize(
    "content",
    [
        b"", b"[1]", b"{}", b"not json", b'{"inputs": [{"datatype": "UINT8", "data": [1]}]}',
        b'{"id": "BYTES", "inputs": [{"datatype": "UINT8", "data": [1]}]}',
    ],
)  # fmt: skip
def test_tensors_and_what_else_json_holds_have_none(content: bytes) -> None:
    assert encoded_pictures(captured(content)) == []
    for parameters in ("", "json-header-size=", "json-header-size=x", "json-header-size=9"):
        assert encoded_pictures(captured(content, BINARY, parameters)) == []


@pytest.mark.parametrize(
    "text",
    [
        '{"instances": 3}',
        '{"instances": [3]}',
        '{"instances": [{"b64": "?"}]}',
        '{"instances": [{"b64": 3}]}',
        '{"x": "BYTES"}',
        '["BYTES"]',
        json.dumps(v2()),
        json.dumps(v2(data=[3])),
        json.dumps(v2(data=["?"])),
        json.dumps({"inputs": [*v2()["inputs"] * 2]}),
    ],
)
def test_pictures_that_cannot_be_read_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(BadInput, match="^a body of JSON whose pictures cannot be read$"):
        encoded_pictures(captured(text.encode()))


def test_what_only_looks_like_json_and_too_many_pictures_are_refused() -> None:
    with pytest.raises(BadInput, match="not JSON"):
        encoded_pictures(captured(b'{"instances"'))
    with pytest.raises(BadInput, match="not JSON|nested"):
        encoded_pictures(captured(b"[" * 10**5 + b'"BYTES"'))
    many = {"instances": [{"b64": TEXTS[0]}] * (MAX_PICTURES + 1)}
    with pytest.raises(BadInput, match="a body with 65 pictures; 64 are looked at"):
        encoded_pictures(captured(json.dumps(many).encode()))
