"""What a server captured is sent to it again, and is answered the same."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from exchanges import body, captured
from regrow.deploy.capture.writer import CaptureWriter
from regrow.deploy.packing import inference
from regrow.deploy.serving.app import make_app
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.serving.service import Limits, Service
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph

HEADERS = {
    "X-Amzn-SageMaker-Inference-Id": "cam3-000017",
    "X-Amzn-SageMaker-Custom-Attributes": "camera=3;site=north",
}
JPEG, NPY, JSON = "image/jpeg", "application/x-npy", "application/json; charset=utf-8"


def _bodies() -> list[tuple[str, bytes]]:
    """Return pictures of several kinds, with their content types."""
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    jpeg, npy = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).save(jpeg, "JPEG")
    np.save(npy, pixels)
    values = pixels[:32, :32].transpose(2, 0, 1).ravel().tolist()
    tensor = {"name": "images", "shape": [1, 3, 32, 32], "datatype": "UINT8", "data": values}
    return [
        (JPEG, jpeg.getvalue()),
        (NPY, npy.getvalue()),
        (JSON, json.dumps({"id": "é", "inputs": [tensor]}).encode()),
    ]


def test_captured_requests_get_the_same_answers_again(
    tmp_path: Path, make: Callable[..., CaptureWriter]
) -> None:
    task = Classification(["a", "b"], (32, 32), net_args={"width": 4}).eval()
    model = export_graph(task, tmp_path / "model.onnx")
    writer = make(tmp_path / "captures")
    service = Service(Limits(), writer)
    service.host.put("regrow", ServedModel(model, num_threads=1))
    with TestClient(make_app(service, version="1")) as client:
        answers = {}
        for kind, content in _bodies():
            answer = client.post(
                "/invocations", content=content, headers={"Content-Type": kind, **HEADERS}
            )
            assert answer.status_code == 200
            answers[answer.headers["x-regrow-event-id"]] = answer
        assert client.post("/invocations", content=b"no picture").status_code == 400
        service.observing.close()  # type: ignore[union-attr]
        found = [line for _, line in captured(tmp_path / "captures")]
        assert [line["eventMetadata"]["eventId"] for line in found] == list(answers)
        for line in found:
            _check(line, answers[line["eventMetadata"]["eventId"]], client)
    # The packed code gives the very answer of the server.
    (jpeg, *_) = found
    pictures = inference.input_fn(body(jpeg["captureData"]["endpointInput"]), JPEG)
    text, _ = inference.output_fn(
        inference.predict_fn(pictures, inference.model_fn(str(tmp_path))), None
    )
    assert json.loads(text) == json.loads(body(jpeg["captureData"]["endpointOutput"]))


def _check(line: dict[str, Any], answer: Any, client: TestClient) -> None:
    """Check one captured line, and that it is answered the same once more."""
    given, made = (line["captureData"][f"endpoint{name}"] for name in ("Input", "Output"))
    assert body(made) == answer.content
    assert (made["encoding"], made["observedContentType"]) == (
        "JSON",
        answer.headers["content-type"],
    )
    assert line["eventMetadata"]["inferenceId"] == "cam3-000017"
    assert line["eventMetadata"]["customAttributes"] == ["camera=3;site=north"]
    again = client.post(
        "/invocations", content=body(given), headers={"Content-Type": given["observedContentType"]}
    )
    assert again.content == answer.content
