"""Servers and clients of the benchmarks of serving, each in a process of its own.

    python benchmarks/serving_load.py --port 8080 --bodies FILE --clients 8 --seconds 10

Sends pictures from so many clients at once, and prints what became of each request as JSON.
"""

import argparse
import base64
import hashlib
import http.client
import io
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[1]
PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20  # MiB
ALL = sorted(os.sched_getaffinity(0))
# The server and what it is compared with have the first half of the processors, clients the rest.
MEASURED, CLIENTS = ALL[: max(1, len(ALL) // 2)], ALL[len(ALL) // 2 :] or ALL
REFUSED, LOST = -1, -2  # no connection; one that ended without an answer


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a client.

    Args:
        id: What the client calls it.
        start: When it was sent, in seconds since 1970.
        seconds: How long it took.
        status: The status, or `REFUSED` or `LOST`.
        picture: The number of the picture.
        model: The hash of the model that answered; empty if there is none.
        digest: A hash of the predictions.
    """

    id: str
    start: float
    seconds: float
    status: int
    picture: int
    model: str
    digest: str


class Server:
    """A server in a process of its own, on the processors that are measured.

    Args:
        line: The command line.
        ready: What it prints when it is ready, with the port; None where `port` is asked until it
            answers.
        port: The port, if the line names it.
    """

    def __init__(self, line: Sequence[str], ready: str | None, port: int = 0) -> None:
        out = subprocess.PIPE if ready is not None else subprocess.DEVNULL
        self.process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT, text=True)
        os.sched_setaffinity(self.process.pid, MEASURED)  # before it has any thread
        self.port = port if ready is None else self._told(ready)
        while ready is None and not self._answers():
            time.sleep(0.1)

    def _told(self, ready: str) -> int:
        assert self.process.stdout is not None
        lines = []
        for row in self.process.stdout:
            lines.append(row)
            found = re.match(ready, row)
            if found:
                return int(found[1])
        raise SystemExit(f"the server did not start: {''.join(lines)}")

    def _answers(self) -> bool:
        if self.process.poll() is not None:
            raise SystemExit("the server did not start")
        try:
            connection = self.connect()
            connection.request("GET", "/")
            return bool(connection.getresponse().status)
        except OSError:
            return False

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def memory(self) -> float:
        """Return the resident memory, MiB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE

    def metrics(self) -> dict[str, float]:
        """Return the metrics by their name with its labels."""
        connection = self.connect()
        connection.request("GET", "/metrics")
        rows = connection.getresponse().read().decode().splitlines()
        connection.close()
        pairs = [row.rpartition(" ") for row in rows if not row.startswith("#")]
        return {name: float(value) for name, _, value in pairs}


@contextmanager
def serving(*words: str) -> Iterator[Server]:
    """Serve a model with regrow until the context ends."""
    line = [sys.executable, str(ROOT / "scripts" / "serve.py"), *words, "--port=0"]
    server = Server(line, r"serving .* at http://127.0.0.1:(\d+)")
    try:
        yield server
    finally:
        stop(server)


def stop(server: Server) -> None:
    """End a server, if it still runs."""
    if server.process.poll() is None:
        server.process.terminate()
    server.process.communicate(timeout=40)


def jpeg(seed: int, width: int = 640, height: int = 480) -> bytes:
    """Return a JPEG about as hard to decode as a photo."""
    random, file = np.random.default_rng(seed), io.BytesIO()
    rough = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    noise = random.integers(-8, 8, (height, width, 3))
    pixels = (np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


class Load:
    """Clients at work in a process of their own, on the processors that are not measured.

    Args:
        port: The port of the server.
        bodies: The pictures that they send by turns.
        clients: How many clients.
        seconds: How long they go on at most.
        form: How pictures are sent: `raw`, or as `json` or a `form` of other servers.
        is_fresh: Whether each request has a connection of its own.
    """

    def __init__(
        self,
        port: int,
        bodies: Sequence[bytes],
        clients: int,
        seconds: float,
        *,
        form: str = "raw",
        is_fresh: bool = False,
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        file = Path(self._folder.name) / "bodies.npz"
        np.savez(file, *[np.frombuffer(body, np.uint8) for body in bodies])
        numbers = [f"--port={port}", f"--clients={clients}", f"--seconds={seconds}"]
        line = [sys.executable, __file__, *numbers, f"--bodies={file}", f"--form={form}"]
        self._process = subprocess.Popen(
            [*line, *(["--fresh"] if is_fresh else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # it begins

    def stop(self) -> list[Asked]:
        """End the clients now, and return what `end` does."""
        assert self._process.stdin is not None
        self._process.stdin.write("stop\n")
        self._process.stdin.flush()
        return self.end()

    def end(self) -> list[Asked]:
        """Wait for the end, and return the requests in the order of their time."""
        assert self._process.stdout is not None
        out = self._process.stdout.read()
        self._process.communicate()
        self._folder.cleanup()
        return sorted((Asked(*row) for row in json.loads(out)), key=lambda one: one.start)


def asked(port: int, bodies: Sequence[bytes], clients: int, seconds: float, **more: Any) -> Any:
    """Return the requests of some clients, once they have ended."""
    return Load(port, bodies, clients, seconds, **more).end()


def request(body: bytes, form: str) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of a request with a picture."""
    if form == "raw":
        return body, {"Content-Type": "image/jpeg"}
    if form == "json":
        text = json.dumps({"image_data": base64.b64encode(body).decode()})
        return text.encode(), {"Content-Type": "application/json"}
    head = b'--cut\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=cut"}
    return head + body + b"\r\n--cut--\r\n", kind


def digest_of(predictions: Any) -> str:
    """Return a hash of predictions."""
    return hashlib.sha256(json.dumps(predictions).encode()).hexdigest()[:16]


class _Client:
    """One client, which sends a picture after the other."""

    def __init__(self, port: int, form: str, is_fresh: bool) -> None:
        self._port, self._is_fresh = port, is_fresh
        self._path = "/invocations" if form == "raw" else "/predict"
        self._connection = self._connected()

    def _connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)

    def ask(self, body: bytes, headers: dict[str, str], picture: int) -> Asked:
        """Send a picture, and return what became of it."""
        own, start, status, value = str(uuid.uuid4()), time.time(), REFUSED, {}
        named = headers | {"X-Amzn-SageMaker-Inference-Id": own}
        try:
            if self._is_fresh:
                self._connection.close()
                self._connection = self._connected()
            self._connection.connect() if self._connection.sock is None else None
            status = LOST
            self._connection.request("POST", self._path, body, named)
            answer = self._connection.getresponse()
            status, content = answer.status, answer.read()
            value = json.loads(content) if status == 200 else {}
        except (OSError, http.client.HTTPException):
            self._connection.close()
        seconds = time.time() - start
        digest = digest_of(value.get("predictions"))
        return Asked(own, start, seconds, status, picture, value.get("model", ""), digest)


def main() -> None:
    """Send pictures from threads, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bodies", required=True)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--form", choices=["raw", "json", "form"], default="raw")
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    os.sched_setaffinity(0, CLIENTS)
    stored = np.load(options.bodies)
    requests = [request(stored[name].tobytes(), options.form) for name in stored.files]
    found: list[Asked] = []
    print("begun", flush=True)
    end, is_over = time.monotonic() + options.seconds, threading.Event()

    def listen() -> None:
        if sys.stdin.readline():
            is_over.set()

    def work(number: int) -> None:
        client = _Client(options.port, options.form, options.fresh)
        while time.monotonic() < end and not is_over.is_set():
            picture = number % len(requests)
            found.append(client.ask(*requests[picture], picture))
            number += 1
            if found[-1].status < 0:
                time.sleep(0.02)

    threading.Thread(target=listen, daemon=True).start()
    threads = [threading.Thread(target=work, args=(number,)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps([astuple(one) for one in found]), flush=True)
    os._exit(0)  # though nobody has said stop


if __name__ == "__main__":
    main()
