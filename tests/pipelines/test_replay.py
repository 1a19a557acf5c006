"""Captured requests are sent again in their order, with their ids, and the answers compared."""

import base64
import http.client
import io
import json
import math
import socket
import struct
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.checks.remarks import Remarks
from regrow.deploy.capture.space import DiskLimit
from regrow.deploy.capture.writer import CaptureWriter
from regrow.deploy.serving.observing import Exchange
from regrow.deploy.serving.served_model import ServedModel
from regrow.errors import BadInput, CheckFailed
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.monitor.files.captures import Body, Event, capture_files, read_events
from regrow.monitor.rows import pictures_of
from regrow.pipelines import replay as module
from regrow.pipelines.replay import (
    ALONE,
    DIFFERENT,
    OTHER_MODEL,
    REFUSED,
    SAME,
    UNSENT,
    are_close,
    replay,
    run_replay,
)
from served import served

TIME = datetime(2026, 11, 30, 7, tzinfo=UTC)
ANSWER = {"model": "ab", "predictions": [{"label": "car", "score": 0.25}]}


def model(folder: Path) -> ServedModel:
    task = Classification(["a", "b"], (32, 32), net_args={"width": 4}).eval()
    return ServedModel(export_graph(task, folder / "model.onnx"), num_threads=1)


def bodies() -> list[tuple[str, bytes, dict[str, str]]]:
    """Return requests of every kind: path, body and headers."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    jpeg, npy = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    np.save(npy, pixels)
    v2, text = "/v2/models/regrow/infer", base64.b64encode(jpeg.getvalue()).decode()
    tensor: dict[str, Any] = {"name": "images", "shape": [1], "datatype": "BYTES"}
    tail = struct.pack("<I", len(jpeg.getvalue())) + jpeg.getvalue()
    sized = {**tensor, "parameters": {"binary_data_size": len(tail)}}
    outputs = {"binary_data_output": True}
    head = json.dumps({"id": "7", "inputs": [sized], "parameters": outputs}).encode()
    length = "Inference-Header-Content-Length"
    return [
        ("/invocations", jpeg.getvalue(), {"Content-Type": "image/jpeg"}),
        ("/invocations", npy.getvalue(), {"Content-Type": "application/x-npy"}),
        (v2, json.dumps({"inputs": [{**tensor, "data": [text]}]}).encode(), {}),
        (v2, head + tail, {length: str(len(head)), "Content-Type": "application/octet-stream"}),
        (v2, jpeg.getvalue(), {length: "0"}),
        (
            "/invocations",
            json.dumps({"instances": [{"b64": text}]}).encode(),
            {"Content-Type": "application/json"},
        ),
    ]


def test_every_kind_of_request_is_captured_and_answered_the_same_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, own_model = CaptureWriter(tmp_path / "captures", limit=DiskLimit(1.0)), model(tmp_path)
    with (
        served(own_model, writer) as address,
        closing(http.client.HTTPConnection(address.split("/")[2])) as connection,
    ):
        for number, (path, body, headers) in enumerate(bodies()):
            own = {"X-Amzn-SageMaker-Inference-Id": f"cam-{number}"}
            own |= {"X-Amzn-SageMaker-Custom-Attributes": "camera=3;site=north"}
            connection.request("POST", path, body, headers | own)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()
    remarks, (jpeg, array, *_) = Remarks(), bodies()
    files = capture_files(tmp_path / "captures")
    events = [one for file in files for one in read_events(file, remarks)]
    pictures = [pictures_of(one.input) for one in events if one.input is not None]
    # The monitor looks at the picture in each of them.
    assert [len(own) for own in pictures] == [1] * 6
    np.testing.assert_array_equal(pictures[1][0], np.load(io.BytesIO(array[1])))
    with Image.open(io.BytesIO(jpeg[1])) as opened:
        for own in (pictures[0], *pictures[2:]):
            np.testing.assert_array_equal(own[0], np.asarray(opened))
    seen: list[Exchange] = []
    with served(own_model, seen.append) as address:
        found = run_replay(tmp_path / "captures", address, tmp_path / "replay.json")
        assert found == {SAME: {"count": 6, "first": [f"cam-{number}" for number in range(5)]}}
        assert json.loads((tmp_path / "replay.json").read_text()) == found
        monkeypatch.setattr(module, "ordered_events", lambda *_: [event()])  # of no picture
        with pytest.raises(CheckFailed, match="answers 1 of 1 captured requests otherwise"):
            run_replay(tmp_path, address)
    said = capsys.readouterr().out
    assert "6 requests answered the same: cam-0" in said
    assert "that were refused: e (400: " in said
    assert [one.inference_id for one in seen] == [f"cam-{number}" for number in range(6)]
    assert {one.custom_attributes for one in seen} == {"camera=3;site=north"}


def event(answer: Any = ANSWER, **own: Any) -> Event:
    body = Body("image/png", base64.b64encode(b"picture").decode(), "BASE64")
    output = None if answer is None else Body("application/json", json.dumps(answer), "JSON")
    return Event(**{"id": "e", "time": TIME, "input": body, "output": output} | own)


def told(answer: Any, status: int = 200) -> Any:
    """Return a server that gives one answer."""
    content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return lambda body, headers: (status, content)


def test_answers_are_compared_with_those_that_were_captured() -> None:
    other = {"model": "ab", "predictions": [{"label": "car", "score": 0.26}]}
    assert replay(event(), told(ANSWER)) == (SAME, "")
    assert replay(event(), told(other)) == (DIFFERENT, "")
    assert replay(event(), told(ANSWER | {"model": "cd"})) == (OTHER_MODEL, "cd")
    assert replay(event(), told(b"busy", 503)) == (REFUSED, "503: busy")
    assert replay(event(None), told(ANSWER)) == (ALONE, "")
    assert replay(event(input=None), told(ANSWER)) == (UNSENT, "")
    assert replay(event(), told(b"text"))[0] == DIFFERENT
    of_bytes = Body("application/octet-stream", base64.b64encode(b"\0\1").decode(), "BASE64")
    assert replay(event(output=of_bytes), told(b"\0\1")) == (SAME, "")
    assert replay(event(output=of_bytes), told(b"\0\2")) == (DIFFERENT, "")


def test_what_a_client_sent_is_sent_again_and_an_answer_in_the_same_form_asked_for() -> None:
    given: list[tuple[bytes, Mapping[str, str]]] = []

    def ask(body: bytes, headers: Mapping[str, str]) -> tuple[int, bytes]:
        given.append((body, headers))
        return 200, json.dumps(ANSWER).encode()

    output = Body("application/json", json.dumps(ANSWER), "JSON", "masks=rle")
    tensors = Body("application/x-tensors", base64.b64encode(b"\0").decode(), "BASE64", "head=1")
    attributes = {"camera": "3", "site": "north"}
    replay(event(output=output, input=tensors, inference_id="cam", attributes=attributes), ask)
    replay(event(None, id="e" * 100), ask)
    assert given == [
        (
            b"\0",
            {
                "Content-Type": "application/x-tensors;head=1",
                "Accept": "application/json;masks=rle",
                "X-Amzn-SageMaker-Inference-Id": "cam",
                "X-Amzn-SageMaker-Custom-Attributes": "camera=3;site=north",
            },
        ),
        (b"picture", {"Content-Type": "image/png", "X-Amzn-SageMaker-Inference-Id": "e" * 64}),
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"inference_id": "a\r\nX-Evil: 1"},
        {"attributes": {"camera": "\u00e9"}},
        {"input": Body("image/png\n", "", "NONE")},
        {"input": Body("image/png", "no base64", "BASE64")},
    ],
)
def test_what_cannot_be_sent_is_counted(odd: dict[str, Any]) -> None:
    kind, said = replay(event(**odd), told(ANSWER))
    assert kind == REFUSED
    assert "no header may have" in said or "is no base64" in said


@pytest.mark.parametrize(
    ("one", "other", "wanted"),
    [
        (0.5, 0.50004, True),
        (0.5, 0.502, False),
        (1000.0, 1000.9, True),
        (0.0, 0.00009, True),
        ([0.1, {"a": "b"}], [0.1, {"a": "b"}], True),
        ([0.1], [0.1, 0.1], False),
        ({"a": 1}, {"b": 1}, False),
        ({"a": 1}, {"a": 2}, False),
        ("a", "b", False),
        (True, 1, False),
        (None, None, True),
        (math.inf, math.inf, True),
    ],
)
def test_numbers_may_differ_in_their_last_digits(one: Any, other: Any, wanted: bool) -> None:
    assert are_close(one, other) is wanted
    assert are_close(other, one) is wanted


@pytest.mark.parametrize(
    "to", ["", "127.0.0.1:8080", "ftp://a", "http://", "http://a:b", "http:///x"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, to: str) -> None:
    with pytest.raises(BadInput, match="is no address such as http://127.0.0.1:8080"):
        run_replay(tmp_path, to)


def test_without_captures_or_a_server_there_is_nothing_to_replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadInput, match="holds no captures; name the folder"):
        run_replay(tmp_path)
    monkeypatch.setattr(module, "ordered_events", lambda *_: [event()])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(
        BadInput, match=rf"http://127.0.0.1:{port}: no server answers there .*refus"
    ):
        run_replay(tmp_path, f"http://127.0.0.1:{port}")
