"""Pictures arrive as they were sent, and what became of them is counted."""

import io
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from regrow.errors import CheckFailed
from regrow.pipelines.demonstration.traffic import at_night, send


class Handler(BaseHTTPRequestHandler):
    """Keeps what comes; refuses every third picture."""

    protocol_version = "HTTP/1.1"
    came: list[tuple[str, str, str, bytes]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = self.headers["X-Amzn-SageMaker-Inference-Id"]
        self.came.append((self.path, name, self.headers["Content-Type"], body))
        is_full = len(self.came) % 3 == 0
        content = b"full" if is_full else b"{}"
        self.send_response(503 if is_full else 200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Print nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Handler, "came", [])
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_pictures_are_sent_to_the_bit_and_counted(address: str) -> None:
    pictures = {f"day/{n}": picture(n) for n in range(7)}
    sent = send(address, pictures.items())
    assert (sent.requests, sent.answers, sent.refusal) == (7, 5, "503 full")
    assert sent.seconds > 0
    assert [came[:3] for came in Handler.came] == [
        ("/invocations", name, "image/png") for name in pictures
    ]
    for came, pixels in zip(Handler.came, pictures.values(), strict=True):
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(came[3]))), pixels)


def test_a_server_that_is_not_there_is_one_line(address: str) -> None:
    with pytest.raises(CheckFailed, match=r"^http://127\.0\.0\.1:1: picture 1 got no answer"):
        send("http://127.0.0.1:1", [("a", picture(0))])
    assert send(address, []).requests == 0


def test_night_is_darker_and_its_noise_another_one_in_each_picture() -> None:
    grey = np.full((100, 100, 3), 200, np.uint8)
    first, second = at_night(grey, 0), at_night(grey, 1)
    assert first.dtype == np.uint8
    assert first.mean() == pytest.approx(0.4 * 200, abs=1)
    assert first.std() == pytest.approx(20, abs=1)
    assert np.array_equal(first, at_night(grey, 0))
    assert not np.array_equal(first, second)
    assert at_night(np.zeros((4, 4, 3), np.uint8), 0).max() > 0
