"""The container that serves: the word `serve`, and what the platform sets and asks."""

import http.client
import io
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import Child
from PIL import Image

from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.scripts import sagemaker_entry

SCRIPT = Path(__file__).parents[2] / "scripts" / "sagemaker_entry.py"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def ask(port: int, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        # Whatever the name that the platform asks for.
        connection.request(method, path, body, {"Host": "model.local", "Content-Type": "image/png"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[tuple[Child, int]]:
    (tmp_path / "model").mkdir()
    task = Classification(["red", "green"], (16, 16), net_args={"width": 4}).eval()
    export_graph(task, tmp_path / "model" / "model.onnx")
    port = free_port()
    own = {
        "SAGEMAKER_BASE_DIR": str(tmp_path),
        "SAGEMAKER_BIND_TO_PORT": str(port),
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "1",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3",
    }
    child = Child(SCRIPT, ["serve"], tmp_path, {**os.environ, **own})
    yield child, port
    child.end()


def test_the_word_serve_serves_until_sigterm(endpoint: tuple[Child, int]) -> None:
    child, port = endpoint
    for _ in range(600):
        try:
            assert ask(port, "GET", "/ping") == (200, b"")
            break
        except OSError:
            assert child.poll() is None
            time.sleep(0.1)
    else:
        raise AssertionError("not ready within a minute")
    picture = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 40, 40)).save(picture, "PNG")
    status, content = ask(port, "POST", "/invocations", picture.getvalue())
    assert status == 200
    (prediction,) = json.loads(content)["predictions"]
    assert set(prediction["scores"]) == {"red", "green"}
    told = json.loads(ask(port, "GET", "/execution-parameters")[1])
    assert told["MaxConcurrentTransforms"] == 3
    assert (told["BatchStrategy"], told["MaxPayloadInMB"]) == ("SINGLE_RECORD", 1)
    assert ask(port, "POST", "/invocations", b"0" * (2**20 + 1))[0] == 413
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate()
    assert child.returncode == 0, err
    assert f"at http://0.0.0.0:{port}" in out


def test_an_empty_folder_of_the_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGEMAKER_BASE_DIR", str(tmp_path))
    assert sagemaker_entry.main(["serve"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'model'}: there is no model in it" in line
