"""Serve a model over HTTP: found, loaded, and answered for until a signal ends it."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from regrow.cli import parse
from regrow.deploy.capture.lines import Capturing
from regrow.deploy.capture.space import DiskLimit
from regrow.deploy.capture.writer import CaptureWriter
from regrow.deploy.serving.app import Background, make_app
from regrow.deploy.serving.observing import Observer
from regrow.deploy.serving.opener import Opener
from regrow.deploy.serving.protocol.multi_model import ModelsApi
from regrow.deploy.serving.server import bound_socket, run
from regrow.deploy.serving.service import Limits, Service
from regrow.deploy.serving.watching import Watch, stamp
from regrow.errors import BadInput
from regrow.files import SMALL, file_hash, read_json
from regrow.incremental.gating.promotion import read_promoted
from regrow.logs import log

LARGEST_BATCH = 256


def run_server(
    model: Path | None,
    host: str = "127.0.0.1",
    port: int = 8080,
    name: str = "regrow",
    max_batch: int = 1,
    max_delay: float = 0.0,
    queue: int = 64,
    max_body: int = 2**24,
    timeout: float = 55.0,
    num_threads: int | None = None,
    num_decoders: int | None = None,
    models: Path | None = None,
    grey_range: tuple[int, int] | None = None,
    allow: list[str] | None = None,
    capture: Path | None = None,
    sample: float = 1.0,
    capturing: Capturing = Capturing(),
    disk: DiskLimit = DiskLimit(),
    observer: Observer | None = None,
    fixed: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Serve a model over HTTP until SIGTERM or Ctrl-C; what is under way is answered first.

    Args:
        model: The model: a run folder, a checkpoint, `model.onnx`, `model.tar.gz`, or a
            `promoted.json`, which is watched, so that a new model takes over without a gap. None
            serves only what is loaded below `/models`.
        host: Address to listen at; 0.0.0.0 lets other machines in.
        port: Port to listen at; 0 takes a free one.
        name: Name of the model in the paths of the Open Inference Protocol V2.
        max_batch: Batch size: images that the network gets at once at most.
        max_delay: Batching delay: seconds that a request waits for others; 0 runs together only
            what waits anyway.
        queue: Queue length: requests under way; more are answered with 503.
        max_body: Body size: bytes of a request at most; more are answered with 413.
        timeout: Deadline of a request in seconds; a later one is answered with 503.
        num_threads: Threads of the network on the CPU; null takes as many as torch does.
        num_decoders: Threads that decode pictures; null takes as many as there are processors.
        models: Multi-model: a folder below which models may be loaded and unloaded by `/models`;
            null leaves those paths out.
        grey_range: The values of 16-bit grey pictures that become 0 and 255; null takes those of
            the `data.yaml` beside the model.
        allow: Other packages that the network of a checkpoint may come from.
        capture: Data capture: a folder that answered requests are written to, as SageMaker's JSON
            lines by the hour; null captures nothing.
        sample: Sampling share of the capture, in [0, 1], by a hash of the request's id.
        capturing: Data capture: what is captured of each request.
        disk: Data capture: how much of the disk it may take.
        observer: What looks at the requests that were answered, in the place of the capture.
        fixed: Further paths that always answer the same, as JSON.

    Raises:
        BadInput: If the model cannot be served, or the port not be had.
    """
    _refuse(max_batch, max_delay, queue, max_body, timeout)
    if not 0 <= sample <= 1:
        raise BadInput(f"sample is {sample}, it must be 0 to 1")
    if model is None and models is None:
        raise BadInput("there is no model to serve; name one, or a folder with --models")
    if models is not None and not models.is_dir():
        raise BadInput(f"models is {models}, which is no folder")
    decoders = num_decoders or len(os.sched_getaffinity(0))
    writer = None
    if capture is not None and observer is None:
        writer = CaptureWriter(capture, _endpoint(name), capturing=capturing, limit=disk)
    opener = Opener(promoted_model, max_batch, num_threads, grey_range, tuple(allow or ()))

    with bound_socket(host, port) as listening:
        limits = Limits(max_batch, max_delay, queue, max_body, timeout, decoders)
        service, background = Service(limits, observer or writer, sample), [opener.run]
        if writer is not None:
            service.metrics.show_counts("capture", "Requests to capture.", lambda: _counted(writer))
        if model is not None:
            background += _serve(service, opener, model, name)
        api = ModelsApi(models, opener.beside) if models is not None else None
        app = make_app(
            service,
            name,
            version=version("regrow"),
            models_api=api,
            fixed=fixed,
            background=background,
        )
        run(app, service, listening, name)


def _counted(writer: CaptureWriter) -> dict[str, int]:
    """Return the counts of a writer of captures, by what became of the requests."""
    return {name: count for name, count in asdict(writer.counts).items() if name != "num_bytes"}


def _endpoint(name: str) -> str:
    """Return a model's name as a folder of captures may be called."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip("._-")[:63] or "regrow"


def _serve(service: Service, opener: Opener, path: Path, name: str) -> list[Background]:
    """Load the model; return the watch over the file that names it, if one does."""
    # Before it is read: a change meanwhile is seen.
    seen = {file: stamp(file) for file in (path, path / "promoted.json")}
    model, found = opener.open(path)
    service.host.put(name, model)
    log.info(f"{model.file}: {model.kind} of {len(model.classes)} classes, {model.sha256}")
    if found.promoted is None:
        return []
    watch = Watch(
        service,
        name,
        found.promoted,
        opener.beside,
        seen=seen.get(found.promoted),
    )
    return [watch.run]


def promoted_model(file: Path) -> Path:
    """Return the checkpoint that a `promoted.json` names, which must be the one that it means.

    Raises:
        BadInput: If it names none, or that is not there, or has another hash.
    """
    named = read_promoted(file)
    if named is None:
        raise BadInput(f"{file}: is not there, so no network is promoted")
    if not named.is_file():
        raise BadInput(f"{file}: names {named}, which is not there; promote a network again")
    wanted = read_json(file, SMALL).get("sha256")
    if wanted is not None and file_hash(named) != wanted:
        raise BadInput(
            f"{file}: {named} is not the file that was promoted, its hash is another; promote it "
            "again, or name the checkpoint itself"
        )
    return named


def _refuse(max_batch: int, max_delay: float, queue: int, max_body: int, timeout: float) -> None:
    """Refuse limits that nothing could be served with."""
    bounds = {
        "max_batch": (max_batch, 1, LARGEST_BATCH),
        "max_delay": (max_delay, 0, 10),
        "queue": (queue, 1, 10_000),
        "max_body": (max_body, 1000, 2**30),
        "timeout": (timeout, 0.1, 3600),
    }
    for name, (value, low, high) in bounds.items():
        if not low <= value <= high:
            raise BadInput(f"{name} is {value}, it must be {low} to {high:,}")


def serve(args: Sequence[str] | None = None) -> None:
    """Serve a model over HTTP: pictures in, labels, boxes or masks out."""
    values, _ = parse(
        run_server,
        args,
        description=serve.__doc__ or "",
        skip=["observer", "fixed"],
        positional={
            "model": "A run folder, a checkpoint, model.onnx, model.tar.gz or promoted.json."
        },
    )
    run_server(**values)
