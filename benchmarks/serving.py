"""Speed and memory of the server: regrow beside ONNX Runtime and decoding in a loop.

    python benchmarks/serving.py speed --seconds 20
    python benchmarks/serving.py ping --seconds 20
    python benchmarks/serving.py memory --requests 2000
    python benchmarks/serving.py reloads --reloads 50

`speed` sends JPEGs from so many clients, in a process of their own, to a server of each task, and
runs the same pictures through the same graph in a loop, with the same threads in each session: in
one thread that decodes, runs and writes the answer (`loop`), and in as many such threads as there
are processors (`loops`). Rounds of the three take turns, and figures are medians over rounds; a
ratio of 1 is the speed of the loop. `ping` asks for `/ping` while clients send pictures of 12
megapixels. `memory` and `reloads` fit a line through the memory of the server's process, over
requests of 50 sizes, or over models that take over. Weights are random.

Prints one JSON line a figure.
"""

import argparse
import http.client
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.pictures import read_pictures
from regrow.deploy.serving.served_model import ServedModel
from regrow.models.checkpoint import file_hash, save
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

ROOT = Path(__file__).parents[1]
NUM_CLASSES, NUM_SIZES = 10, 50
PAGE = os.sysconf("SC_PAGE_SIZE") / 2**20  # MiB


def network(kind: str, seed: int = 0) -> Task:
    """Return an untrained network of a size that people serve."""
    torch.manual_seed(seed)
    classes = [f"class {number}" for number in range(NUM_CLASSES)]
    if kind == "classification":
        return Classification(classes, (224, 224), net="timm/resnet18").eval()
    if kind == "detection":
        return Detection(classes, (320, 320), net="fcos").eval()
    return Segmentation(classes, (256, 256), net="small").eval()


def jpeg(seed: int, width: int = 640, height: int = 480) -> bytes:
    """Return a JPEG about as hard to decode as a photo."""
    random, file = np.random.default_rng(seed), io.BytesIO()
    rough = random.integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    smooth = Image.fromarray(rough).resize((width, height), Image.Resampling.BICUBIC)
    noise = random.integers(-8, 8, (height, width, 3))
    pixels = (np.asarray(smooth) + noise).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(file, "JPEG", quality=85)
    return file.getvalue()


class Server:
    """The server in a process of its own."""

    def __init__(self, *words: str) -> None:
        line = [sys.executable, str(ROOT / "scripts" / "serve.py"), *words, "--port=0"]
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        for row in self.process.stdout:
            found = re.match(r"serving .* at http://127.0.0.1:(\d+)", row)
            if found:
                self.port = int(found[1])
                return
        raise SystemExit("the server did not start")

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def memory(self) -> float:
        """Return the resident memory, MiB."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * PAGE


@contextmanager
def serving(*words: str) -> Iterator[Server]:
    """Serve until the context ends."""
    server = Server(*words)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.communicate(timeout=40)


def post(connection: http.client.HTTPConnection, body: bytes) -> dict[str, Any]:
    """Send a picture and return the answer."""
    connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
    answer = connection.getresponse()
    content: dict[str, Any] = json.loads(answer.read())
    assert answer.status == 200, content
    return content


def clients(port: int, count: int, seconds: float, bodies: Sequence[bytes]) -> list[float]:
    """Return the seconds of each request that some clients made, from a process of their own."""
    with tempfile.NamedTemporaryFile(suffix=".npz") as file:
        np.savez(file.name, *[np.frombuffer(body, np.uint8) for body in bodies])
        words = ["clients", "--port", str(port), "--clients", str(count)]
        line = [sys.executable, __file__, *words, "--seconds", str(seconds), "--bodies", file.name]
        done = subprocess.run(line, check=True, capture_output=True, text=True)
    found: list[float] = json.loads(done.stdout)
    return found


def run_clients(port: int, count: int, seconds: float, file: str) -> None:
    """Send pictures from threads, and print the seconds of each request."""
    stored = np.load(file)
    bodies = [stored[name].tobytes() for name in stored.files]
    times: list[float] = []
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.monotonic() < end:
            start = time.monotonic()
            post(connection, bodies[number % len(bodies)])
            times.append(time.monotonic() - start)
            number += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(times))


def loop(model: ServedModel, bodies: Sequence[bytes], seconds: float, count: int) -> float:
    """Return pictures a second of threads that decode, run and write answers in a loop."""
    end = time.monotonic() + seconds

    def work(number: int) -> int:
        torch.set_num_threads(1)
        done = 0
        while time.monotonic() < end:
            body = bodies[(number + done) % len(bodies)]
            pictures = read_pictures([body], model.size, model.decoding)
            outputs = model.run(pictures.images, model.outputs)
            json.dumps(predictions(model, outputs, pictures.sizes))
            done += 1
        return done

    start = time.monotonic()
    with ThreadPoolExecutor(count) as pool:
        total = sum(pool.map(work, range(count)))
    return total / (time.monotonic() - start)


def speed(folder: Path, tasks: Sequence[str], options: argparse.Namespace) -> None:
    """Compare the server with loops, task by task."""
    bodies, cores = [jpeg(seed) for seed in range(8)], len(os.sched_getaffinity(0))
    for kind in tasks:
        file = export_graph(network(kind), folder / kind / "model.onnx")
        model = ServedModel(file, num_threads=options.threads)
        model.warm_up(1)
        rates: dict[str, list[float]] = {"loop": [], "loops": [], "server": []}
        times: list[float] = []
        with serving(str(file), f"--num_threads={options.threads}") as server:
            clients(server.port, options.clients, 1, bodies)
            for _ in range(options.rounds):
                part = options.seconds / options.rounds
                rates["loop"].append(loop(model, bodies, part, 1))
                rates["loops"].append(loop(model, bodies, part, cores))
                found = clients(server.port, options.clients, part, bodies)
                rates["server"].append(len(found) / part)
                times += found
        middle = {name: statistics.median(values) for name, values in rates.items()}
        told = {
            "task": kind,
            "clients": options.clients,
            "cores": cores,
            "requests_per_second": {name: round(value, 1) for name, value in middle.items()},
            "server_by_loop": round(middle["server"] / middle["loop"], 3),
            "server_by_loops": round(middle["server"] / middle["loops"], 3),
            "p50_ms": round(1000 * float(np.quantile(times, 0.5)), 1),
            "p99_ms": round(1000 * float(np.quantile(times, 0.99)), 1),
        }
        print(json.dumps(told), flush=True)


def ping(folder: Path, options: argparse.Namespace) -> None:
    """Ask for `/ping` while clients send pictures of 12 megapixels."""
    file = export_graph(network("classification"), folder / "model.onnx")
    bodies = [jpeg(seed, 4000, 3000) for seed in range(2)]
    found: list[float] = []
    with serving(str(file), f"--num_threads={options.threads}") as server:
        connection = server.connect()
        is_over = threading.Event()

        def ask() -> None:
            while not is_over.wait(0.02):
                start = time.monotonic()
                connection.request("GET", "/ping")
                assert connection.getresponse().read() == b""
                found.append(time.monotonic() - start)

        asking = threading.Thread(target=ask)
        asking.start()
        sent = clients(server.port, options.clients, options.seconds, bodies)
        is_over.set()
        asking.join()
    quantiles = {f"p{q}": round(1000 * float(np.quantile(found, q / 100)), 1) for q in (50, 99)}
    told = {"pings": len(found), "pictures": len(sent), "ping_ms": quantiles}
    print(json.dumps({**told, "bytes": len(bodies[0])}), flush=True)


def slope(values: Sequence[float]) -> float:
    """Return the slope of the line through the last half of values, by their number."""
    kept = np.asarray(values[len(values) // 2 :])
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0])


def memory(folder: Path, options: argparse.Namespace) -> None:
    """Send pictures of many sizes, and look at the memory of the server."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(50, 1500, (NUM_SIZES, 2)).tolist()
    bodies = [jpeg(n, max(32, w), max(32, h)) for n, (w, h) in enumerate(sizes)]
    for kind in options.tasks:
        file = export_graph(network(kind), folder / kind / "model.onnx")
        with serving(str(file), "--max_batch=4") as server:
            connections = [server.connect() for _ in range(4)]
            taken = []
            with ThreadPoolExecutor(4) as pool:
                for start in range(0, options.requests, 4):
                    some = [bodies[(start + n) % NUM_SIZES] for n in range(4)]
                    list(pool.map(post, connections, some))
                    taken.append(server.memory())
        told = {
            "task": kind,
            "requests": options.requests,
            "sizes": NUM_SIZES,
            "MiB": [round(taken[n * (len(taken) - 1) // 8]) for n in range(9)],
            "MiB_per_1000_requests": round(slope(taken) * 250, 2),
        }
        print(json.dumps(told), flush=True)


def reloads(folder: Path, options: argparse.Namespace) -> None:
    """Promote one model after the other, and look at the memory of the server."""
    names = []
    for seed in range(2):
        save(folder / f"{seed}.ckpt", network("classification", seed))
        names.append(file_hash(folder / f"{seed}.ckpt"))
    body = jpeg(0)

    def promote(number: int) -> None:
        told = {"checkpoint": f"{number}.ckpt", "sha256": names[number], "refused": None}
        (folder / "new").write_text(json.dumps(told))
        os.replace(folder / "new", folder / "promoted.json")

    promote(0)
    taken, start = [], time.monotonic()
    with serving(str(folder / "promoted.json"), f"--num_threads={options.threads}") as server:
        connection = server.connect()
        for turn in range(1, options.reloads + 1):
            promote(turn % 2)
            while post(connection, body)["model"] != names[turn % 2]:
                time.sleep(0.05)
            taken.append(server.memory())
    told = {
        "reloads": options.reloads,
        "seconds_per_reload": round((time.monotonic() - start) / options.reloads, 2),
        "MiB": [round(taken[0]), round(taken[-1])],
        "MiB_per_reload": round(slope(taken), 3),
    }
    print(json.dumps(told), flush=True)


COMMANDS: dict[str, Callable[[Path, argparse.Namespace], None]] = {
    "ping": ping,
    "memory": memory,
    "reloads": reloads,
}


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["speed", *COMMANDS, "clients"])
    tasks = ["classification", "detection", "segmentation"]
    parser.add_argument("--tasks", nargs="+", default=tasks, choices=tasks)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--reloads", type=int, default=50)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--bodies", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "clients":
        run_clients(options.port, options.clients, options.seconds, options.bodies)
        return
    with tempfile.TemporaryDirectory() as name:
        if options.what == "speed":
            speed(Path(name), options.tasks, options)
        else:
            COMMANDS[options.what](Path(name), options)


if __name__ == "__main__":
    main()
