"""Requests and answers of the Open Inference Protocol V2, as JSON or with binary tensors.

Source: kserve/open-inference-protocol, `specification/protocol/inference_rest.md`, and Triton's
extension for binary tensor data. SageMaker passes no header on that says how long the head is, so
Triton's container for it takes the length from the content type.
"""

import base64
import binascii
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.deploy.serving.answers import numbers
from regrow.deploy.serving.pictures import refuse_count
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.session import Outputs
from regrow.errors import BadInput
from regrow.plain import parse_json

INPUT = "images"
HEAD_LENGTH = "inference-header-content-length"
BINARY, SIZE = "application/vnd.sagemaker-triton.binary+json", "json-header-size"
NUM_NUMBERS = 20_000_000  # that one answer in JSON has at most
TYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
}


@dataclass(frozen=True, slots=True)
class Infer:
    """A request for tensors.

    Args:
        id: What the client calls it, which is echoed; None if it gives none.
        given: The bytes of encoded pictures, or a tensor as the graph takes it, (n, 3, h, w).
        outputs: The outputs that are wanted, and whether each is sent as bytes.
    """

    id: str | None
    given: list[bytes] | np.ndarray
    outputs: dict[str, bool]


def head_length_of(headers: Mapping[str, str]) -> str | None:
    """Return what headers say of the length of a head, by their content type or their own."""
    kind, *parameters = headers.get("content-type", "").split(";")
    if kind.strip().lower() != BINARY:
        return headers.get(HEAD_LENGTH)
    pairs = [parameter.partition("=") for parameter in parameters]
    return next((value.strip() for name, _, value in pairs if name.strip().lower() == SIZE), "")


def content_type_of(headers: Mapping[str, str]) -> str:
    """Return the content type of a body, which says how long its head is, if it has one."""
    length = head_length_of(headers)
    return headers.get("content-type", "") if length is None else f"{BINARY};{SIZE}={length}"


def read_infer(body: bytes, head_length: str | None, model: ServedModel) -> Infer:
    """Read a request of V2.

    Args:
        body: The body: JSON, or a head of JSON and the bytes of the tensors behind it.
        head_length: Bytes of that head, as the headers say it; None where all is JSON, and 0 where
            all is one encoded picture.
        model: The model that is asked.

    Raises:
        BadInput: If it is no such request, or not one for this model.
    """
    names = model.onnx.outputs
    if head_length is None:
        return _infer(_parsed(body), b"", model)
    if not (head_length.isascii() and head_length.isdigit()) or len(head_length) > 12:
        raise BadInput(f"the head's length is {head_length[:40]!r}; it is a number of bytes")
    length = int(head_length)
    if length > len(body):
        raise BadInput(f"the head's length is {length:,}, more than {len(body):,} of the body")
    if not length:
        return Infer(None, [body], dict.fromkeys(names, True))
    return _infer(_parsed(body[:length]), body[length:], model)


def write_infer(
    asked: Infer, outputs: Outputs, name: str, sha256: str
) -> tuple[bytes, dict[str, str]]:
    """Return the answer to a request of V2, and its headers.

    Args:
        asked: The request.
        outputs: The outputs by name.
        name: The name of the model.
        sha256: The hash of its file, which is its version.

    Raises:
        BadInput: If it would be too long as JSON.
    """
    head: dict[str, Any] = {"model_name": name, "model_version": sha256, "outputs": []}
    if asked.id is not None:
        head["id"] = asked.id
    tail = []
    if sum(outputs[n].size for n, is_binary in asked.outputs.items() if not is_binary) > (
        NUM_NUMBERS
    ):
        raise BadInput(
            f"the answer has more than {NUM_NUMBERS:,} numbers, too many for JSON; ask for fewer "
            "outputs, or for bytes with parameters.binary_data_output"
        )
    for output, is_binary in asked.outputs.items():
        values = np.ascontiguousarray(outputs[output])
        told: dict[str, Any] = {
            "name": output,
            "shape": list(values.shape),
            "datatype": TYPES[values.dtype.name],
        }
        if is_binary:
            tail.append(values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes())
            told["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            told["data"] = numbers(values)
        head["outputs"].append(told)
    text = json.dumps(head, allow_nan=False).encode()
    if not tail:
        return text, {"content-type": "application/json"}
    headers = {"content-type": "application/octet-stream", HEAD_LENGTH: str(len(text))}
    return b"".join([text, *tail]), headers


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        value = parse_json(text.decode("utf-8"), "the body")
    except UnicodeDecodeError as error:
        raise BadInput(f"the body is no UTF-8 ({error.reason} at byte {error.start})") from error
    if not isinstance(value, dict):
        raise BadInput(f"the body holds a {type(value).__name__}; send an object with `inputs`")
    return value


def _infer(head: dict[str, Any], tail: bytes, model: ServedModel) -> Infer:
    own_id = head.get("id")
    if own_id is not None and not isinstance(own_id, str):
        raise BadInput(f"id is a {type(own_id).__name__}; it is a text")
    inputs = head.get("inputs")
    if inputs is None:
        raise BadInput(
            f"the body has no `inputs`, a list of one tensor, {INPUT!r}; /invocations also takes "
            "`instances`, pictures in base64"
        )
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise BadInput(f"inputs must be a list of one tensor, {INPUT!r}")
    (given,) = inputs
    if given.get("name") != INPUT:
        raise BadInput(f"there is no input {_short(given.get('name'))}; the model takes {INPUT!r}")
    shape = given.get("shape")
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise BadInput(f"shape is {_short(shape)}; it is a list of whole numbers")
    outputs = _outputs(head, model)
    content = _content(given, tail)
    if given.get("datatype") == "BYTES":
        return Infer(own_id, _texts(content, shape), outputs)
    return Infer(own_id, _tensor(content, shape, given.get("datatype"), model), outputs)


def _outputs(head: dict[str, Any], model: ServedModel) -> dict[str, bool]:
    """Return the outputs that are wanted, and whether each is sent as bytes."""
    every = _flag(head, "binary_data_output", False)
    asked = head.get("outputs")
    if asked is None or asked == []:
        return dict.fromkeys(model.onnx.outputs, every)
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise BadInput("outputs must be a list of objects with a `name`")
    wanted = {}
    for one in asked:
        if one.get("name") not in model.onnx.outputs:
            raise BadInput(
                f"there is no output {_short(one.get('name'))}; the model gives "
                f"{', '.join(model.onnx.outputs)}"
            )
        wanted[one["name"]] = _flag(one, "binary_data", every)
    return wanted


def _flag(holder: dict[str, Any], name: str, default: bool) -> bool:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict) or type(parameters.get(name, default)) is not bool:
        raise BadInput(f"parameters.{name} must be true or false")
    return bool(parameters.get(name, default))


def _content(given: dict[str, Any], tail: bytes) -> bytes | list[Any]:
    """Return the values of the input: its bytes behind the head, or its `data`."""
    parameters = given.get("parameters", {})
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is not None:
        if type(size) is not int or size != len(tail):
            raise BadInput(
                f"binary_data_size is {_short(size)}, and {len(tail):,} bytes follow the head"
            )
        return tail
    if tail:
        raise BadInput(f"{len(tail):,} bytes follow the head, of which it says nothing")
    data = given.get("data")
    if not isinstance(data, list):
        raise BadInput("the input has neither `data`, a list, nor binary_data_size")
    return data


def _texts(content: bytes | list[Any], shape: Sequence[int]) -> list[bytes]:
    """Return the elements of a BYTES tensor: encoded pictures, in JSON as base64."""
    found = _prefixed(content) if isinstance(content, bytes) else _decoded(content)
    refuse_count(len(found))
    if not shape or shape[0] != len(found) or any(n != 1 for n in shape[1:]):
        raise BadInput(f"shape is {_short(list(shape))}, and there are {len(found)} elements")
    return found


def _prefixed(content: bytes) -> list[bytes]:
    found, place = [], 0
    while place < len(content):
        if place + 4 > len(content):
            raise BadInput("a BYTES element has no whole length of 4 bytes")
        (length,) = struct.unpack_from("<I", content, place)
        place += 4
        if length > len(content) - place:
            raise BadInput(f"a BYTES element of {length:,} bytes ends behind the body")
        found.append(content[place : place + length])
        place += length
        refuse_count(len(found))
    return found


def _decoded(content: list[Any]) -> list[bytes]:
    flat = [own for one in content for own in (one if isinstance(one, list) else [one])]
    refuse_count(len(flat))
    return [from_base64(one) for one in flat]


def from_base64(text: Any) -> bytes:
    """Return the bytes of an encoded picture in JSON.

    Raises:
        BadInput: If it is no base64.
    """
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise BadInput("a picture in JSON must be a text in base64") from error


def _tensor(
    content: bytes | list[Any], shape: Sequence[int], datatype: Any, model: ServedModel
) -> np.ndarray:
    """Return a tensor as the graph takes it, (n, 3, h, w)."""
    dtype = np.dtype(model.dtype)
    wanted = TYPES[dtype.name]
    if datatype != wanted:
        raise BadInput(
            f"datatype is {_short(datatype)}; the model takes {wanted}, or BYTES of pictures"
        )
    height, width = model.size
    if len(shape) != 4 or list(shape[1:]) != [3, height, width]:
        raise BadInput(f"shape is {_short(list(shape))}; it must be [n, 3, {height}, {width}]")
    refuse_count(shape[0])
    count = shape[0] * 3 * height * width
    if isinstance(content, bytes):
        if len(content) != count * dtype.itemsize:
            raise BadInput(f"{len(content):,} bytes, where the shape needs {count:,} {wanted}")
        values = np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype, copy=False)
    else:
        values = _of_list(content, dtype, wanted)
        if values.size != count:
            raise BadInput(f"{values.size:,} values, where the shape needs {count:,}")
    return values.reshape(tuple(shape))


def _of_list(content: list[Any], dtype: np.dtype[Any], wanted: str) -> np.ndarray:
    try:
        values = np.asarray(content)
    except (ValueError, OverflowError) as error:
        raise BadInput("data must be numbers, flat or nested as the shape says") from error
    is_whole = dtype.kind == "u"
    if values.dtype.kind not in ("iu" if is_whole else "iuf"):
        raise BadInput(f"data must be {wanted} numbers")
    if is_whole and values.size and not 0 <= values.min() <= values.max() <= 255:
        raise BadInput(f"data goes from {values.min()} to {values.max()}; UINT8 has 0 to 255")
    with np.errstate(over="ignore"):
        return values.astype(dtype)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
