"""Requests of V2 are read as the protocol says, and never believed."""

import base64
import json
import re
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from regrow.deploy.serving.protocol import tensors
from regrow.deploy.serving.protocol.tensors import (
    Infer,
    content_type_of,
    from_base64,
    head_length_of,
    read_infer,
    write_infer,
)
from regrow.errors import BadInput

SIZE = (2, 3)


def model(dtype: Any = np.uint8) -> Any:
    """Return what a reader asks of a model: the size and type of images, and its outputs."""
    return SimpleNamespace(size=SIZE, dtype=dtype, onnx=SimpleNamespace(outputs=["x", "y"]))


def plain(**given: Any) -> bytes:
    usual = {"name": "images", "shape": [1, 3, *SIZE], "datatype": "UINT8", "data": [*range(18)]}
    return json.dumps({"inputs": [usual | given]}).encode()


def binary(tail: bytes, **given: Any) -> tuple[bytes, str]:
    usual = {"parameters": {"binary_data_size": len(tail)}, "data": None}
    head = plain(**(usual | given))
    return head + tail, str(len(head))


def prefixed(*contents: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(content)) + content for content in contents)


def test_a_tensor_is_the_same_flat_nested_and_as_bytes() -> None:
    wanted = np.arange(36, dtype=np.uint8).reshape(2, 3, *SIZE)
    shape = {"shape": [*wanted.shape]}
    for found in (
        read_infer(plain(data=[*range(36)], **shape), None, model()),
        read_infer(plain(data=wanted.tolist(), **shape), None, model()),
        read_infer(*binary(bytes(range(36)), **shape), model()),
    ):
        assert isinstance(found.given, np.ndarray)
        assert found.given.dtype == np.uint8
        assert np.array_equal(found.given, wanted)
        assert (found.id, found.outputs) == (None, {"x": False, "y": False})


def test_bytes_of_floats_are_little_endian() -> None:
    values = [0.5, -1.25, *[0.0] * 16]
    body = binary(struct.pack("<18f", *values), datatype="FP32")
    found = read_infer(*body, model(np.float32))
    assert isinstance(found.given, np.ndarray)
    assert found.given.ravel().tolist() == values
    as_json = read_infer(plain(datatype="FP32", data=values), None, model(np.float32))
    assert np.array_equal(as_json.given, found.given)


def test_pictures_have_their_lengths_before_them() -> None:
    contents = [b"one", b"", bytes(range(256)) * 2]
    found = read_infer(*binary(prefixed(*contents), datatype="BYTES", shape=[3]), model())
    assert found.given == contents
    texts = [[base64.b64encode(content).decode()] for content in contents]
    for data in (texts, [text for (text,) in texts]):
        again = read_infer(plain(datatype="BYTES", shape=[3, 1], data=data), None, model())
        assert again.given == contents


def test_a_head_of_no_bytes_means_one_picture_and_all_outputs_as_bytes() -> None:
    assert read_infer(b"{...", "0", model()) == Infer(None, [b"{..."], {"x": True, "y": True})


def test_each_output_may_be_asked_for_as_bytes() -> None:
    content = json.loads(plain()) | {"id": "7", "parameters": {"binary_data_output": True}}
    content["outputs"] = [{"name": "y"}, {"name": "x", "parameters": {"binary_data": False}}]
    found = read_infer(json.dumps(content).encode(), None, model())
    assert (found.id, [*found.outputs.items()]) == ("7", [("y", True), ("x", False)])
    for nothing in (None, []):
        content["outputs"] = nothing
        every = read_infer(json.dumps(content).encode(), None, model())
        assert every.outputs == {"x": True, "y": True}


@pytest.mark.parametrize(
    ("tail", "given", "said"),
    [
        (b"\x01\x00\x00", {}, "a BYTES element has no whole length of 4 bytes"),
        (prefixed(b"ab") + b"\x00", {}, "a BYTES element has no whole length of 4 bytes"),
        (b"\x03\x00\x00\x00ab", {}, "a BYTES element of 3 bytes ends behind the body"),
        (b"\xff" * 4 + b"ab", {}, "a BYTES element of 4,294,967,295 bytes ends behind the body"),
        (b"", {}, "0 images in one request; send 1 to 64"),
        (bytes(4 * 65), {"shape": [65]}, "65 images in one request; send 1 to 64"),
        (prefixed(b"ab"), {"shape": [2]}, "shape is [2], and there are 1 elements"),
        (prefixed(b"ab"), {"shape": [-1]}, "shape is [-1], and there are 1 elements"),
        (prefixed(b"ab"), {"shape": []}, "shape is [], and there are 1 elements"),
        (prefixed(b"a", b"b"), {"shape": [1, 2]}, "shape is [1, 2], and there are 2 elements"),
        (
            prefixed(b"ab"),
            {"parameters": {"binary_data_size": 5}},
            "binary_data_size is 5, and 6 bytes follow the head",
        ),
        (
            b"a",
            {"parameters": {"binary_data_size": True}},
            "binary_data_size is True, and 1 bytes follow the head",
        ),
        (b"ab", {"parameters": {}}, "2 bytes follow the head, of which it says nothing"),
    ],
)
def test_lengths_of_pictures_that_lie(tail: bytes, given: dict[str, Any], said: str) -> None:
    body = binary(tail, **({"datatype": "BYTES", "shape": [1]} | given))
    with pytest.raises(BadInput, match=f"^{re.escape(said)}$"):
        read_infer(*body, model())


@pytest.mark.parametrize(
    ("shape", "size", "said"),
    [
        ([-1, 3, 2, 3], 18, "-1 images in one request; send 1 to 64"),
        ([0, 3, 2, 3], 0, "0 images in one request; send 1 to 64"),
        ([10**30, 3, 2, 3], 18, f"{10**30:,} images in one request; send 1 to 64"),
        ([1, 3, -2, -3], 18, "shape is [1, 3, -2, -3]; it must be [n, 3, 2, 3]"),
        ([1, 3, 3, 2], 18, "shape is [1, 3, 3, 2]; it must be [n, 3, 2, 3]"),
        ([1, 18], 18, "shape is [1, 18]; it must be [n, 3, 2, 3]"),
        ([1, 3, 2, 3.0], 18, "shape is [1, 3, 2, 3.0]; it is a list of whole numbers"),
        (None, 18, "shape is None; it is a list of whole numbers"),
        ([2, 3, 2, 3], 18, "18 bytes, where the shape needs 36 UINT8"),
        ([1, 3, 2, 3], 19, "19 bytes, where the shape needs 18 UINT8"),
    ],
)
def test_shapes_that_lie(shape: Any, size: int, said: str) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(said)}$"):
        read_infer(*binary(bytes(size), shape=shape), model())


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([1] * 17, "17 values, where the shape needs 18"),
        ([1] * 17 + [256], "data goes from 1 to 256; UINT8 has 0 to 255"),
        ([-1] + [255] * 17, "data goes from -1 to 255; UINT8 has 0 to 255"),
        ([0.0] * 18, "data must be UINT8 numbers"),
        ([True] * 18, "data must be UINT8 numbers"),
        ([10**30] * 18, "data must be UINT8 numbers"),
        ([[1, 2], [3]], "data must be numbers, flat or nested as the shape says"),
        ("AAAA", "the input has neither `data`, a list, nor binary_data_size"),
    ],
)
def test_values_that_are_no_pixels(data: Any, said: str) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(said)}$"):
        read_infer(plain(data=data), None, model())


@pytest.mark.parametrize(
    ("body", "length", "said"),
    [
        (b"\xff", None, "the body is no UTF-8 (invalid start byte at byte 0)"),
        (b"[]", None, "the body holds a list; send an object with `inputs`"),
        (b'{"inputs": []}', None, "inputs must be a list of one tensor, 'images'"),
        (b'{"inputs": [1]}', None, "inputs must be a list of one tensor, 'images'"),
        (b'{"id": 1}', None, "id is a int; it is a text"),
        (plain(name="x" * 99), None, f"there is no input '{'x' * 59}...; the model takes 'images'"),
        (b"{}", "3", "the head's length is 3, more than 2 of the body"),
        (b"{}", "", "the head's length is ''; it is a number of bytes"),
        (b"{}", "+2", "the head's length is '+2'; it is a number of bytes"),
        (b"{}", "²", "the head's length is '²'; it is a number of bytes"),
        (
            b"{}",
            "0" * 13,
            "the head's length is '0000000000000'; it is a number of bytes",
        ),
    ],
)
def test_bodies_that_are_no_request(body: bytes, length: str | None, said: str) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(said)}$"):
        read_infer(body, length, model())


TYPED = "application/vnd.sagemaker-triton.binary+json"


@pytest.mark.parametrize(
    ("headers", "length", "kind"),
    [
        ({}, None, ""),
        ({"content-type": "image/png"}, None, "image/png"),
        ({"content-type": "application/json; charset=x"}, None, "application/json; charset=x"),
        ({"inference-header-content-length": "7"}, "7", f"{TYPED};json-header-size=7"),
        (
            {"content-type": "application/octet-stream", "inference-header-content-length": "0"},
            "0",
            f"{TYPED};json-header-size=0",
        ),
        ({"content-type": f"{TYPED};json-header-size=7"}, "7", f"{TYPED};json-header-size=7"),
        (
            {"content-type": f"{TYPED.upper()}; a=b; JSON-Header-Size= 7 "},
            "7",
            f"{TYPED};json-header-size=7",
        ),
        # It says that there is a head, and not how long it is: refused when it is read.
        ({"content-type": TYPED}, "", f"{TYPED};json-header-size="),
    ],
)
def test_the_length_of_a_head_is_said_by_a_header_or_by_the_content_type(
    headers: dict[str, str], length: str | None, kind: str
) -> None:
    assert head_length_of(headers) == length
    assert content_type_of(headers) == kind
    assert head_length_of({"content-type": kind}) == length


@pytest.mark.parametrize("text", ["YQ", "YQ==\n", "Y Q=", "é", 5, None, ["YQ=="]])
def test_what_is_no_base64(text: Any) -> None:
    assert from_base64("YQ==") == b"a"
    with pytest.raises(BadInput, match="^a picture in JSON must be a text in base64$"):
        from_base64(text)


OUTPUTS = {
    "x": np.array([[0.5, np.nan], [np.inf, -2.0]], np.float32),
    "y": np.arange(6, dtype=">i8").reshape(3, 2).T,
}


def test_an_answer_has_its_bytes_behind_the_head_in_the_order_asked() -> None:
    asked = Infer("7", [], {"y": True, "x": True})
    body, headers = write_infer(asked, OUTPUTS, "m", "ab")
    length = int(headers["inference-header-content-length"])
    assert headers["content-type"] == "application/octet-stream"
    assert json.loads(body[:length]) == {
        "id": "7",
        "model_name": "m",
        "model_version": "ab",
        "outputs": [
            {
                "name": "y",
                "shape": [2, 3],
                "datatype": "INT64",
                "parameters": {"binary_data_size": 48},
            },
            {
                "name": "x",
                "shape": [2, 2],
                "datatype": "FP32",
                "parameters": {"binary_data_size": 16},
            },
        ],
    }
    assert struct.unpack("<6q", body[length : length + 48]) == (0, 2, 4, 1, 3, 5)
    assert struct.unpack("<4f", body[length + 48 :])[::3] == (0.5, -2.0)


def test_an_answer_in_json_has_null_for_what_is_no_number() -> None:
    body, headers = write_infer(Infer(None, [], {"x": False, "y": False}), OUTPUTS, "m", "ab")
    assert headers == {"content-type": "application/json"}
    found = json.loads(body, parse_constant=lambda name: pytest.fail(name))
    assert "id" not in found
    assert [one["data"] for one in found["outputs"]] == [[0.5, None, None, -2], [0, 2, 4, 1, 3, 5]]


def test_an_answer_too_long_for_json_is_still_given_as_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tensors, "NUM_NUMBERS", 9)
    with pytest.raises(BadInput, match="the answer has more than 9 numbers, too many for JSON"):
        write_infer(Infer(None, [], {"x": False, "y": False}), OUTPUTS, "m", "ab")
    body, _ = write_infer(Infer(None, [], {"x": False, "y": True}), OUTPUTS, "m", "ab")
    assert len(body) > 48
