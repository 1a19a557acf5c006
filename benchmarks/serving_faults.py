"""What becomes of requests when something goes wrong: parts of `benchmarks/serving.py`."""

import argparse
import json
import os
import random
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from serving_load import LOST, REFUSED, Asked, Load, Server, digest_of, jpeg, request, serving

from regrow.data.checks.remarks import Remarks
from regrow.deploy.serving.answers import predictions
from regrow.deploy.serving.pictures import read_pictures
from regrow.deploy.serving.served_model import ServedModel
from regrow.files import file_hash
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.onnx.graph import export_graph
from regrow.monitor.files.captures import BAD_LINE, capture_files, read_events

Figures = Iterator[dict[str, Any]]
SOON = 0.005  # seconds after which a client leaves
TYPES = ("image/jpeg", "image/png", "application/x-npy", "application/json", "text/csv", "")
PATHS = ("/invocations", "/v2/models/regrow/infer", "/models", "/v2/models/%00/infer")


def promote(folder: Path, checkpoint: Path) -> str:
    """Name the checkpoint that `promoted.json` means, at once; return its hash."""
    told = {"checkpoint": checkpoint.name, "sha256": file_hash(checkpoint), "refused": None}
    (folder / "new.json").write_text(json.dumps(told))
    os.replace(folder / "new.json", folder / "promoted.json")
    return str(told["sha256"])


def statuses(found: Sequence[Asked]) -> dict[str, int]:
    """Count requests by their status."""
    names = {REFUSED: "no connection", LOST: "lost"}
    counts = Counter(names.get(one.status, str(one.status)) for one in found)
    return dict(sorted(counts.items()))


def leavers(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """200 clients send a picture and leave after 5 ms; the next one is answered as ever."""
    body, headers = request(jpeg(0), "raw")
    head = [f"POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"]
    head += [f"{name}: {value}\r\n" for name, value in headers.items()]
    raw = "".join([*head, "\r\n"]).encode() + body
    with serving(str(models[0]), "--queue=300") as server:
        before, seconds = _answer(server, body)
        for _ in range(options.leavers):
            with socket.create_connection(("127.0.0.1", server.port)) as one:
                one.sendall(raw)
                time.sleep(SOON)
        start = time.monotonic()
        after, _ = _answer(server, body)
        waited = time.monotonic() - start
        metrics = server.metrics()
        canceled = metrics.get('regrow_request_failure_total{model="regrow",reason="CANCELED"}', 0)
        runs = metrics['regrow_inference_exec_total{model="regrow"}']
    yield {
        "left": options.leavers,
        "next_is_right": before == after,
        "next_ms": round(1000 * waited, 1),
        "usual_ms": round(1000 * seconds, 1),
        "canceled": int(canceled),
        "runs_of_the_network": int(runs),
        "pending": int(metrics["regrow_pending_request_count"]),
        "queued": int(metrics['regrow_queue_depth{model="regrow"}']),
    }


def _answer(server: Server, body: bytes) -> tuple[Any, float]:
    connection, start = server.connect(), time.monotonic()
    connection.request("POST", "/invocations", body, {"Content-Type": "image/jpeg"})
    content = json.loads(connection.getresponse().read())
    connection.close()
    return content, time.monotonic() - start


def sigterm(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """SIGTERM while 8 clients send: what was begun is answered, and the server ends with 0."""
    bodies = [jpeg(seed) for seed in range(4)]
    with serving(str(models[0])) as server:
        load = Load(server.port, bodies, options.clients, 8, is_fresh=True)
        time.sleep(3)
        start = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        code = server.process.wait(40)
        seconds = time.monotonic() - start
        found = load.end()
    yield {"statuses": statuses(found), "exit_code": code, "seconds_to_end": round(seconds, 2)}


def kill(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """SIGKILL while 8 clients send and all is captured: how much of what was answered is lost."""
    bodies, captures = [jpeg(seed) for seed in range(4)], folder / "captures"
    words = [str(models[0]), f"--capture={captures}", "--disk.max_share=1"]
    with serving(*words) as server:
        load = Load(server.port, bodies, options.clients, 8)
        time.sleep(5)
        server.process.kill()
        server.process.wait()
        killed = time.time()
        found = [one for one in load.end() if one.status == 200]
    (file,) = capture_files(captures)
    torn = file.read_bytes().rpartition(b"\n")[2]
    with serving(*words):  # cuts the torn line off
        remarks = Remarks()
        kept = {event.inference_id for event in read_events(file, remarks)}
    lost = [one for one in found if one.id not in kept]
    ages = [killed - one.start - one.seconds for one in lost]
    yield {
        "answered": len(found),
        "captured": len(kept),
        "lost": len(lost),
        "oldest_lost_seconds": round(max(ages, default=0.0), 3),
        "bytes_of_a_torn_line": len(torn),
        "lines_that_cannot_be_read": remarks.count(BAD_LINE),
    }


def swap(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """Models take over from each other while 8 clients send: no error, and no wrong name.

    Each answer must be the one that the model whose hash it names gives to that picture alone.
    """
    bodies, wanted = [jpeg(seed) for seed in range(4)], {}
    checkpoints = [folder / f"{seed}.ckpt" for seed in range(2)]
    for seed, checkpoint in enumerate(checkpoints):
        torch.manual_seed(seed)
        task = Classification(["a", "b", "c"], (96, 96), net="small").eval()
        save(checkpoint, task)
        model = ServedModel(export_graph(task, folder / f"swap {seed}.onnx"), num_threads=1)
        for picture, body in enumerate(bodies):
            pictures = read_pictures([body], model.size, model.decoding)
            outputs = model.run(pictures.images, model.outputs)
            alone = digest_of(predictions(model, outputs, pictures.sizes))
            wanted[file_hash(checkpoint), picture] = alone
    names = [promote(folder, checkpoint) for checkpoint in reversed(checkpoints)][::-1]
    with serving(str(folder / "promoted.json"), "--num_threads=1") as server:
        load = Load(server.port, bodies, options.clients, 600)
        for turn in range(1, options.swaps + 1):
            time.sleep(1)
            promote(folder, checkpoints[turn % 2])
            shown = f'regrow_model_info{{model="regrow",sha256="{names[turn % 2]}"}}'
            while shown not in server.metrics():
                time.sleep(0.2)
        time.sleep(1)
        found = load.stop()
        reloads = 'regrow_model_reloads_total{model="regrow",outcome="taken"}'
        taken = int(server.metrics()[reloads])
    answered = [one for one in found if one.status == 200]
    yield {
        "swaps": taken,
        "statuses": statuses(found),
        "wrong_names": sum(wanted.get((one.model, one.picture)) != one.digest for one in answered),
        "by_model": dict(Counter(names.index(one.model) for one in answered)),
    }


def hostile(models: Sequence[Path], folder: Path, options: argparse.Namespace) -> Figures:
    """300 damaged bodies of all kinds: none is answered with an error of the server's."""
    draw = random.Random(0)
    array = np.lib.format.magic(1, 0) + b"x" * 40
    text = json.dumps({"instances": [{"b64": "QUJD"}]}).encode()
    good = [jpeg(0), array, text, b"[" * 10_000, bytes(2**20), jpeg(1)[:500]]
    counts: Counter[int] = Counter()
    with serving(str(models[0]), f"--models={folder}") as server:
        for _ in range(options.hostile):
            headers = {"Content-Type": draw.choice(TYPES)}
            if draw.random() < 0.2:
                headers["Inference-Header-Content-Length"] = draw.choice(("0", "7", "-1", "x"))
            connection = server.connect()
            body = _damaged(draw.choice(good), draw)
            path = "/invocations" if draw.random() < 0.7 else draw.choice(PATHS)
            connection.request("POST", path, body, headers)
            counts[connection.getresponse().status] += 1
            connection.close()
        after, _ = _answer(server, jpeg(0))
    wrong = sum(count for status, count in counts.items() if status >= 500 and status != 503)
    statuses_ = {str(status): count for status, count in sorted(counts.items())}
    yield {"statuses": statuses_, "errors": wrong, "still_answers": "predictions" in after}


def _damaged(body: bytes, draw: random.Random) -> bytes:
    """Flip, cut or repeat some bytes."""
    made = bytearray(body)
    for _ in range(draw.choice((0, 1, 3, 20))):
        place = draw.randrange(len(made))
        match draw.randrange(3):
            case 0:
                made[place] ^= 1 << draw.randrange(8)
            case 1:
                del made[place : place + draw.choice((1, 16, 1000))]
            case _:
                made[place:place] = made[place : place + 16] * draw.choice((1, 50))
        if not made:
            break
    return bytes(made)


PARTS = {"leavers": leavers, "sigterm": sigterm, "kill": kill, "swap": swap, "hostile": hostile}
