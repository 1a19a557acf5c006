"""The server as a process: ready by one line, ended well by a signal, swapped under load."""

import base64
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regrow.files import file_hash
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.scripts import serve

ROOT = Path(__file__).parents[2]
Start = Callable[..., "Server"]


def network(seed: int) -> Classification:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Classification(["a", "b"], (32, 32), net_args={"width": 4}).eval()


class Server:
    """A server in a process of its own, and what it prints."""

    def __init__(self, *words: str) -> None:
        line = [sys.executable, str(ROOT / "scripts" / "serve.py"), *words]
        self.process = subprocess.Popen(
            line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.lines: list[str] = []
        assert self.process.stdout is not None
        for row in self.process.stdout:
            self.lines.append(row)
            ready = re.fullmatch(r"serving (\S+) at http://127\.0\.0\.1:(\d+)\n", row)
            if ready:
                self.name, self.port = ready[1], int(ready[2])
                return
        raise AssertionError("".join(self.lines))

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, body, {"content-type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def predict(self, picture: bytes) -> tuple[int, str]:
        """Return the status of a picture, and the model that answered."""
        status, content = self.ask("POST", "/invocations", picture, "image/png")
        return status, json.loads(content).get("model", content.decode())

    def end(self) -> tuple[int, str]:
        """Return the exit code and the rest of what was printed."""
        rest, _ = self.process.communicate(timeout=30)
        return self.process.returncode, rest


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[Server] = []

    def make(*words: object) -> Server:
        begun.append(Server(*map(str, words), "--port=0", "--num_threads=1"))
        return begun[-1]

    yield make
    for server in begun:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


@pytest.fixture
def picture() -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 800, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_what_is_under_way_at_a_signal_is_answered(
    start: Start, tmp_path: Path, picture: bytes
) -> None:
    file = export_graph(network(0), tmp_path / "model.onnx")
    server = start(tmp_path, "--name=mine", "--num_decoders=1")
    assert server.name == "mine"
    assert server.ask("GET", "/v2/models/mine/ready")[0] == 200
    assert server.predict(picture) == (200, file_hash(file))

    found: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda: found.append(server.predict(picture))) for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    server.process.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert found == [(200, file_hash(file))] * 12
    code, rest = server.end()
    assert code == 0
    assert rest == "no longer ready; what is under way is answered\n"


def test_a_long_body_is_answered_and_ctrl_c_ends_well_with_ready_503_first(
    start: Start, tmp_path: Path
) -> None:
    export_graph(network(0), tmp_path / "model.onnx")
    server = start(tmp_path / "model.onnx")
    status, said = server.ask("POST", "/invocations", bytes(2**25), "image/png")
    assert (status, b"send a JPEG" in said) == (413, True)  # seen though all of it was sent
    server.process.send_signal(signal.SIGINT)
    assert server.process.stdout is not None
    assert "no longer ready" in server.process.stdout.readline()
    assert server.ask("GET", "/v2/health/ready")[0] == 503
    assert server.ask("GET", "/v2/health/live")[0] == 200
    assert server.end()[0] == 0


def promote(folder: Path, checkpoint: str, sha256: str | None = None) -> None:
    content = {
        "checkpoint": checkpoint,
        "sha256": sha256 or file_hash(folder / checkpoint),
        "refused": None,
    }
    (folder / "new.json").write_text(json.dumps(content))
    os.replace(folder / "new.json", folder / "promoted.json")


@pytest.mark.slow
def test_a_promoted_model_takes_over_under_load_without_an_error(
    start: Start, tmp_path: Path, picture: bytes
) -> None:
    for number in range(2):
        save(tmp_path / f"{number}.ckpt", network(number))
    first, second = (file_hash(tmp_path / f"{number}.ckpt") for number in range(2))
    promote(tmp_path, "0.ckpt")
    server = start(tmp_path / "promoted.json")
    found: list[tuple[int, str]] = []
    is_over = threading.Event()

    def ask() -> None:
        while not is_over.is_set():
            found.append(server.predict(picture))

    clients = [threading.Thread(target=ask) for _ in range(3)]
    for client in clients:
        client.start()
    try:
        promote(tmp_path, "1.ckpt", "0" * 64)  # not the file that was meant
        line = b'regrow_model_reloads_total{model="regrow",outcome="failed"} 1.0'
        wait_for(lambda: line in server.ask("GET", "/metrics")[1])
        promote(tmp_path, "1.ckpt")
        wait_for(lambda: server.predict(picture) == (200, second))
    finally:
        is_over.set()
        for client in clients:
            client.join()
    assert {status for status, _ in found} == {200}
    assert {model for _, model in found} <= {first, second}
    models = [model for _, model in found]
    assert models[0] == first
    server.process.terminate()
    code, rest = server.end()
    assert code == 0
    assert "1.ckpt is not the file that was promoted" in rest
    assert f"1.ckpt ({second[:12]}) is served now, no longer {first[:12]}" in rest


def wait_for(is_met: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(600):
        if is_met():
            return
        waiting.wait(0.1)
    raise AssertionError("it did not happen within a minute")


def test_what_was_answered_is_captured_and_counted(
    start: Start, tmp_path: Path, picture: bytes
) -> None:
    export_graph(network(0), tmp_path / "model.onnx")
    # However full the disk is that the tests run on.
    words = [f"--capture={tmp_path / 'captures'}", "--disk.max_share=1", "--name=my+road"]
    server = start(tmp_path, *words)
    answers = [server.ask("POST", "/invocations", picture, "image/png") for _ in range(3)]
    assert server.ask("POST", "/invocations", b"none", "image/png")[0] == 400
    written = 'regrow_capture_total{outcome="written"} 3.0'
    for _ in range(100):
        if written in server.ask("GET", "/metrics")[1].decode():
            break
        time.sleep(0.05)
    else:
        raise AssertionError(server.ask("GET", "/metrics")[1].decode())
    server.process.send_signal(signal.SIGTERM)
    assert server.end()[0] == 0
    (file,) = (tmp_path / "captures" / "my-road" / "AllTraffic").rglob("*.jsonl")
    lines = [json.loads(line)["captureData"] for line in file.read_text().splitlines()]
    given = [base64.b64decode(line["endpointInput"]["data"]) for line in lines]
    assert given == [picture] * 3
    told = [(200, line["endpointOutput"]["data"].encode()) for line in lines]
    assert told == answers


def test_a_port_in_use_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export_graph(network(0), tmp_path / "model.onnx")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert serve.main([str(tmp_path), f"--port={port}"]) == 2
    said = capsys.readouterr().err
    assert said == (
        f"error: port {port} of 127.0.0.1 is in use; give another one with --port, or --port 0 "
        "for a free one\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gone"], "gone: no such file or folder; give a run folder"),
        (["empty"], "empty: no model in it, it holds nothing"),
        (["a.onnx"], "a.onnx: ONNX Runtime cannot load it"),
        (["a.ckpt"], "a.ckpt"),
        (["a.tar.gz"], "a.tar.gz: cannot be unpacked"),
        (["promoted.json"], "promoted.json: names no checkpoint"),
        (["a.onnx", "--port=70000"], "port is 70000, it must be 0 to 65535"),
        (["a.onnx", "--host=no.such.host.invalid"], "host no.such.host.invalid, port 0"),
        (["a.onnx", "--max_batch=0"], "max_batch is 0, it must be 1 to 256"),
        (["a.onnx", "--max_delay=-1"], "max_delay is -1"),
        (["a.onnx", "--queue=0"], "queue is 0, it must be 1 to 10,000"),
        (["a.onnx", "--max_body=1"], "max_body is 1"),
        (["a.onnx", "--timeout=0"], "timeout is 0"),
        (["a.onnx", "--models=gone"], "models is gone, which is no folder"),
        (
            ["a.onnx", "--capture=a.ckpt"],
            "a.ckpt: captures cannot be written there (Not a directory)",
        ),
        (["a.onnx", "--capture=/proc/1/captures"], "captures cannot be written there"),
        (["a.onnx", "--sample=20"], "sample is 20.0, it must be 0 to 1"),
        (["a.onnx", "--disk.max_share=75"], "the share of the disk is 75.0; it must be 0 to 1"),
        (["a.onnx", "--capturing.mode=Both"], "capturing.mode"),
    ],
)
def test_what_cannot_be_served_ends_with_2(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name in ("a.onnx", "a.ckpt", "a.tar.gz", "promoted.json"):
        (tmp_path / name).write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    assert serve.main([words[0], "--port=0", *words[1:]]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
