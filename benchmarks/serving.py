"""Speed, memory and faults of the server: regrow beside ONNX Runtime in a loop, and other servers.

    python benchmarks/serving.py                              # all parts
    python benchmarks/serving.py --part speed ping --seconds 20
    python benchmarks/serving.py --litserve PYTHON --fastapi PYTHON

Every server, and the loop, has the first half of the processors; clients have the others, so that
they take nothing from what is measured. PYTHON is that of an environment with LitServe or FastAPI,
see `benchmarks/serving_litserve.py` and `serving_fastapi.py`.

`speed` sends JPEGs from 8 clients to a server of each task. The loop decodes the same pictures,
runs the same graph and writes the answers, in as many threads as it has processors, without a
server. Rounds take turns, and figures are medians over rounds; a ratio of 1 is the speed of the
loop. `ping` asks for `/ping` while clients send pictures of 12 megapixels. `memory` and `reloads`
fit a line through the memory of the server's process, over requests of 50 sizes, or over models
that are loaded and unloaded. The other parts are in `benchmarks/serving_faults.py`. Weights are
random.

Prints one JSON line a figure.
"""

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import serving_faults
import torch
from serving_faults import Figures
from serving_load import CLIENTS, MEASURED, Asked, Server, asked, jpeg, serving, stop

from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.pictures import read_pictures
from regrow.deploy.serving.served_model import ServedModel
from regrow.models.classification import Classification
from regrow.models.detection import Detection
from regrow.models.onnx.graph import export_graph
from regrow.models.segmentation import Segmentation
from regrow.models.task import Task

NUM_CLASSES, NUM_SIZES = 10, 50
TASKS = ("classification", "detection", "segmentation")
FORMS = {"server": "raw", "litserve": "json", "fastapi": "form"}


def network(kind: str, seed: int = 0) -> Task:
    """Return an untrained network of a size that people serve."""
    torch.manual_seed(seed)
    classes = [f"class {number}" for number in range(NUM_CLASSES)]
    if kind == "classification":
        return Classification(classes, (224, 224), net="timm/resnet18").eval()
    if kind == "detection":
        return Detection(classes, (320, 320), net="fcos").eval()
    return Segmentation(classes, (256, 256), net="small").eval()


def loop(model: ServedModel, bodies: Sequence[bytes], seconds: float) -> float:
    """Return pictures a second of threads that decode, run and write answers in a loop."""
    end, count = time.monotonic() + seconds, len(MEASURED)

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


def rival(library: str, python: str, file: Path, threads: int) -> Server:
    """Serve a model with another library."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    script = Path(__file__).with_name(f"serving_{library}.py")
    words = [str(file), f"--port={port}", f"--threads={threads}"]
    return Server([python, str(script), *words], None, port)


def speed(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """Compare the server with the loop, and with other servers, task by task."""
    bodies = [jpeg(seed) for seed in range(8)]
    rivals = {name: python for name, python in vars(options).items() if name in FORMS and python}
    for kind in options.tasks:
        file = export_graph(network(kind), folder / kind / "model.onnx")
        model = ServedModel(file, num_threads=options.threads)
        model.warm_up(1)
        with ExitStack() as stack:
            words = (str(file), f"--num_threads={options.threads}")
            servers = {"server": stack.enter_context(serving(*words))}
            for name, python in rivals.items():
                servers[name] = rival(name, python, file, options.threads)
                stack.callback(stop, servers[name])
            yield {"task": kind, **_compared(servers, model, bodies, options)}


def _compared(
    servers: dict[str, Server], model: ServedModel, bodies: Sequence[bytes], options: Any
) -> dict[str, Any]:
    rates: dict[str, list[float]] = {"loop": []}
    found: dict[str, list[Asked]] = {name: [] for name in servers}
    part = options.seconds / options.rounds
    for name, server in servers.items():  # once, to warm up
        asked(server.port, bodies, options.clients, 0.5, form=FORMS[name])
    for _ in range(options.rounds):
        rates["loop"].append(loop(model, bodies, part))
        for name, server in servers.items():
            own = asked(server.port, bodies, options.clients, part, form=FORMS[name])
            rates.setdefault(name, []).append(len(own) / part)
            found[name] += own
    middle = {name: statistics.median(values) for name, values in rates.items()}
    errors = {name: sum(one.status != 200 for one in own) for name, own in found.items()}
    times = {name: [1000 * one.seconds for one in own] for name, own in found.items()}
    return {
        "clients": options.clients,
        "requests_per_second": {name: round(rate, 1) for name, rate in middle.items()},
        "by_loop": {name: round(middle[name] / middle["loop"], 3) for name in servers},
        "p50_ms": {name: round(float(np.quantile(own, 0.5)), 1) for name, own in times.items()},
        "p99_ms": {name: round(float(np.quantile(own, 0.99)), 1) for name, own in times.items()},
        "errors": errors,
    }


def ping(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """Ask for `/ping` while clients send pictures of 12 megapixels."""
    bodies = [jpeg(seed, 4000, 3000) for seed in range(2)]
    found: list[float] = []
    with serving(str(models[0]), f"--num_threads={options.threads}") as server:
        connection, is_over = server.connect(), threading.Event()

        def ask() -> None:
            os.sched_setaffinity(0, CLIENTS)  # of this thread
            while not is_over.wait(0.02):
                start = time.monotonic()
                connection.request("GET", "/ping")
                assert connection.getresponse().read() == b""
                found.append(1000 * (time.monotonic() - start))

        asking = threading.Thread(target=ask)
        asking.start()
        sent = asked(server.port, bodies, options.clients, options.seconds)
        is_over.set()
        asking.join()
    quantiles = {f"p{q}": round(float(np.quantile(found, q / 100)), 1) for q in (50, 99)}
    told = {"pings": len(found), "pictures": len(sent), "ping_ms": quantiles}
    yield {**told, "picture_bytes": len(bodies[0])}


def slope(values: Sequence[float]) -> float:
    """Return the slope of the line through the last half of values, by their number."""
    kept = np.asarray(values[len(values) // 2 :])
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0])


def memory(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """Send pictures of many sizes, and look at the memory of the server."""
    draw = np.random.default_rng(0)
    sizes = draw.integers(50, 1500, (NUM_SIZES, 2)).tolist()
    bodies = [jpeg(n, max(32, w), max(32, h)) for n, (w, h) in enumerate(sizes)]
    segmented = export_graph(network("segmentation"), folder / "masks" / "model.onnx")
    for kind, file in (("classification", models[0]), ("segmentation", segmented)):
        with serving(str(file), "--max_batch=4") as server:
            connections = [server.connect() for _ in range(4)]
            taken = []

            def post(connection: Any, body: bytes) -> None:
                connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
                answer = connection.getresponse()
                assert answer.status == 200, answer.read()
                answer.read()

            with ThreadPoolExecutor(
                4, initializer=os.sched_setaffinity, initargs=(0, CLIENTS)
            ) as p:
                for start in range(0, options.requests, 4):
                    some = [bodies[(start + n) % NUM_SIZES] for n in range(4)]
                    list(p.map(post, connections, some))
                    taken.append(server.memory())
        yield {
            "task": kind,
            "requests": options.requests,
            "sizes": NUM_SIZES,
            "MiB": [round(taken[n * (len(taken) - 1) // 8]) for n in range(9)],
            "MiB_per_1000_requests": round(slope(taken) * 250, 2),
        }


def reloads(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """Load one model after the other, ask it and unload it, and look at the server's memory."""
    taken, body, start = [], jpeg(0), time.monotonic()
    with serving(str(models[0]), f"--models={folder}") as server:
        connection = server.connect()

        def ask(method: str, path: str, content: bytes = b"") -> None:
            connection.request(method, path, content, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            answer.read()

        for turn in range(options.reloads):
            told = {"model_name": "other", "url": models[turn % 2].name}
            ask("POST", "/models", json.dumps(told).encode())
            ask("POST", "/models/other/invoke", body)
            ask("DELETE", "/models/other")
            taken.append(server.memory())
    yield {
        "reloads": options.reloads,
        "seconds_per_reload": round((time.monotonic() - start) / options.reloads, 2),
        "model_MiB": round(models[0].stat().st_size / 2**20, 1),
        "MiB": [round(taken[n * (len(taken) - 1) // 4]) for n in range(5)],
        "MiB_per_reload": round(slope(taken), 3),
    }


PARTS = {
    "speed": speed,
    "ping": ping,
    "memory": memory,
    "reloads": reloads,
    **serving_faults.PARTS,
}


def main() -> None:
    """Read the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", nargs="+", default=[*PARTS], choices=[*PARTS])
    parser.add_argument("--tasks", nargs="+", default=[*TASKS], choices=TASKS)
    parser.add_argument("--litserve", help="the Python of an environment with LitServe")
    parser.add_argument("--fastapi", help="the Python of an environment with FastAPI")
    for name, default in {"clients": 8, "rounds": 4, "threads": len(MEASURED)}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    for name, default in {"requests": 2000, "reloads": 50, "leavers": 200, "swaps": 3}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--hostile", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=12, help="of each measurement of speed")
    options = parser.parse_args()
    os.sched_setaffinity(0, MEASURED)  # and of every process that begins here
    print(json.dumps({"measured": MEASURED, "clients": CLIENTS, **vars(options)}), file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models = [
            export_graph(network("classification", seed), folder / f"{seed}.onnx")
            for seed in range(2)
        ]
        for part in options.part:
            start = time.monotonic()
            for figures in PARTS[part](models, folder, options):
                told = {"part": part, **figures, "took_s": round(time.monotonic() - start)}
                print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
