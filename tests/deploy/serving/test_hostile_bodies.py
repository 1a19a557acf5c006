"""Hundreds of damaged and odd bodies: each ends in one line, and none in a fault of the server."""

import base64
import io
import json
import random
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from regrow.deploy.serving.service import Limits

Serve = Callable[..., TestClient]
NUM_BODIES = 600
TYPES = (
    "image/jpeg", "image/png", "image/webp", "image/tiff", "application/x-npy", "application/json",
    "application/octet-stream", "", "text/csv", "application/json; charset=utf-16", "\xff",
    "a" * 300,
)  # fmt: skip
PATHS = (
    "/invocations", "/v2/models/regrow/infer", "/v2/models/regrow/versions/1/infer", "/models",
    "/models/regrow/invoke", "/v2/models/%2e%2e/infer", "/v2/models/%00/infer",
)  # fmt: skip


def contents(size: tuple[int, int]) -> list[tuple[bytes, dict[str, str]]]:
    """Return good bodies and their headers, from which hostile ones are made."""
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    made: list[tuple[bytes, dict[str, str]]] = []
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        made.append((file.getvalue(), {"content-type": f"image/{kind.lower()}"}))
    file = io.BytesIO()
    np.save(file, pixels)
    made.append((file.getvalue(), {"content-type": "application/x-npy"}))
    jpeg = made[0][0]
    text = base64.b64encode(jpeg).decode()
    for value in requests_of(text, pixels):
        made.append((json.dumps(value).encode(), {"content-type": "application/json"}))
    tail = struct.pack("<I", len(jpeg)) + jpeg
    tensor = {"name": "images", "shape": [1], "datatype": "BYTES"}
    head = {"inputs": [{**tensor, "parameters": {"binary_data_size": len(tail)}}]}
    start = json.dumps(head).encode()
    made.append((start + tail, {"inference-header-content-length": str(len(start))}))
    return made


def requests_of(text: str, pixels: np.ndarray) -> list[dict[str, Any]]:
    tensor = {
        "name": "images",
        "shape": [1, 3, *pixels.shape[:2]],
        "datatype": "UINT8",
        "data": pixels.transpose(2, 0, 1).ravel().tolist(),
    }
    encoded = {"name": "images", "shape": [1], "datatype": "BYTES", "data": [text]}
    return [
        {"instances": [{"b64": text}]},
        {"id": "1", "inputs": [encoded], "outputs": [{"name": "probabilities"}]},
        {"inputs": [tensor], "parameters": {"binary_data_output": True}},
        {"model_name": "x", "url": "labels"},
    ]


def hostile(
    seed: int,
    good: list[tuple[bytes, dict[str, str]]],
    mutated_bytes: Callable[[bytes, int], bytes],
    mutated_plain: Callable[[Any, int], Any],
) -> tuple[str, bytes, dict[str, str]]:
    draw = random.Random(seed)
    body, headers = draw.choice(good)
    headers = dict(headers)
    if body[:1] == b"{" and "content-type" in headers and draw.random() < 0.7:
        try:
            body = json.dumps(mutated_plain(json.loads(body), seed)).encode("utf-8", "replace")
        except (RecursionError, ValueError, TypeError):
            body = b"[" * 5000
    elif draw.random() < 0.9:
        body = mutated_bytes(body, seed)
    if draw.random() < 0.3:
        headers["content-type"] = draw.choice(TYPES)
    if draw.random() < 0.15:
        length = draw.choice(("0", "1", "-1", "9" * 30, "x", str(len(body)), "\xb2"))
        headers["inference-header-content-length"] = length
    path = draw.choice(PATHS) if draw.random() < 0.4 else "/invocations"
    return path, body, {name: value for name, value in headers.items()}


def is_well_said(answer: Any) -> bool:
    value = answer.json()
    return list(value) == ["error"] and value["error"] and len(value["error"].splitlines()) == 1


@pytest.mark.parametrize("part", range(4))
def test_no_body_makes_the_server_fail(
    serve: Serve,
    mutated_bytes: Callable[[bytes, int], bytes],
    mutated_plain: Callable[[Any, int], Any],
    capsys: pytest.CaptureFixture[str],
    part: int,
) -> None:
    client, good = serve(limits=Limits(max_batch=2, max_body=500_000)), contents((64, 96))
    codes: dict[int, int] = {}
    for seed in range(part, NUM_BODIES, 4):
        path, body, headers = hostile(seed, good, mutated_bytes, mutated_plain)
        raw = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = client.post(path, content=body, headers=raw)
        codes[answer.status_code] = codes.get(answer.status_code, 0) + 1
        assert answer.status_code < 500 or answer.status_code == 503, (seed, answer.text)
        if answer.status_code != 200:
            assert is_well_said(answer), (seed, answer.text)
    assert codes[200] > 10  # some are good still, or harmless
    assert codes[400] > 50
    assert "Traceback" not in capsys.readouterr().err
    assert client.get("/ping").status_code == 200
    for body, headers in good[:7]:
        assert client.post("/invocations", content=body, headers=headers).status_code == 200
