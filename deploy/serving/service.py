"""The way of a request: admitted, read, decoded, run and answered."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from regrow.deploy.serving.answers import MASKS, MaskForm, mask_form, predictions
from regrow.deploy.serving.bodies import BUSY, Refused, Unread, read_body, unless_gone
from regrow.deploy.serving.host import Entry, Host
from regrow.deploy.serving.metrics import BACKEND, CANCELED, OTHER, REJECTED, Metrics
from regrow.deploy.serving.observing import Exchange, Observer, Observing
from regrow.deploy.serving.pictures import Pictures, read_npy, read_pictures
from regrow.deploy.serving.protocol.tensors import (
    Infer,
    content_type_of,
    from_base64,
    head_length_of,
    read_infer,
    write_infer,
)
from regrow.deploy.serving.served_model import ServedModel
from regrow.deploy.session import Outputs
from regrow.errors import BadInput
from regrow.files import one_line
from regrow.logs import log
from regrow.plain import parse_json

T = TypeVar("T")
# A request for tensors, or encoded pictures, or decoded ones, to be answered with predictions.
Asked = Infer | list[bytes] | np.ndarray
Read = Callable[[bytes, ServedModel], Asked]
JSON = "application/json"
NPY = "application/x-npy"
# What is taken for an encoded picture; which one it is, its bytes say.
BYTES = ("", "application/octet-stream", "application/x-image", "binary/octet-stream")
CLIENT_LEFT = 499  # as nginx logs it; nobody reads the answer
EVENT_ID = "x-regrow-event-id"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server takes upon itself.

    Args:
        max_batch: Images that the network gets at once at most.
        max_delay: Seconds that a request waits for others, to be run with them.
        max_requests: Requests under way; more are answered with 503.
        max_body: Bytes of a body.
        seconds: How long a request may take; then it is answered with 503.
        num_decoders: Threads that decode pictures and make answers.
    """

    max_batch: int = 1
    max_delay: float = 0.0
    max_requests: int = 64
    max_body: int = 2**24
    seconds: float = 55.0
    num_decoders: int = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request: its body and its headers."""

    body: bytes
    headers: dict[str, str]


class Service:
    """Models, threads, limits and metrics of a server.

    Args:
        limits: The limits.
        observer: What looks at exchanges.
        share: Sampling share of the exchanges that it looks at, in [0, 1].
    """

    def __init__(
        self, limits: Limits = Limits(), observer: Observer | None = None, share: float = 1.0
    ) -> None:
        self.limits, self.metrics = limits, Metrics()
        self.host = Host(self.metrics, max_batch=limits.max_batch, max_delay=limits.max_delay)
        # One thread of torch in each: pictures are decoded side by side instead.
        self.pool = ThreadPoolExecutor(
            limits.num_decoders, "decode", initializer=torch.set_num_threads, initargs=(1,)
        )
        self.observing = None
        if observer is not None:
            self.observing = Observing(observer, self.metrics, share)
        self.is_draining = False
        self._num_requests = 0

    async def invoke(self, request: Request, name: str) -> Response:
        """Answer a picture, an array or JSON with predictions, and V2 with tensors."""
        kind = content_type_of(request.headers)
        response = await self._respond(request, name, _reader(request), kind)
        # SageMaker passes no other header on that says how long the head of an answer is.
        response.headers["content-type"] = content_type_of(response.headers)
        return response

    async def infer(self, request: Request, name: str) -> Response:
        """Answer a request of V2 with tensors."""
        length, kind = head_length_of(request.headers), content_type_of(request.headers)
        if length is None and _plain(kind) != JSON:
            kind = JSON  # many clients do not say so
        return await self._respond(
            request, name, lambda body, model: read_infer(body, length, model), kind
        )

    async def close(self) -> None:
        """End all threads, after what they do."""
        await self.host.close()
        self.pool.shutdown(wait=False, cancel_futures=True)
        if self.observing is not None:
            await asyncio.to_thread(self.observing.close)

    async def _respond(self, request: Request, name: str, read: Read, kind: str) -> Response:
        started, clock = time.time(), time.monotonic()
        label = name if name in self.host.entries else ""
        is_read = False
        try:
            with self._admitted(), self._used(name) as entry:
                body = await self._body(request)
                is_read = True
                left = self.limits.seconds - (time.monotonic() - clock)
                form = mask_form(request.headers.get("accept", ""))
                answer = await unless_gone(request, self._answer(entry, body, read, form), left)
                self.metrics.success.labels(label).inc()
                event_id = self._observe(request, entry, started, kind, body, answer)
            return Response(answer.body, 200, {**answer.headers, EVENT_ID: event_id})
        except Exception as error:  # no body may end in a traceback
            status, text, headers, reason = _refusal(error)
            self.metrics.failure.labels(label, reason).inc()
            return refused(status, text, headers, Response if is_read else Unread)
        finally:
            self.metrics.observe("request", label, time.monotonic() - clock)

    async def _body(self, request: Request) -> bytes:
        try:
            async with asyncio.timeout(self.limits.seconds):
                return await read_body(request, self.limits.max_body)
        except TimeoutError as error:
            said = f"the body did not come within {self.limits.seconds:g} seconds"
            raise Refused(408, said, {"connection": "close"}) from error

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        if self._num_requests >= self.limits.max_requests:
            raise Refused(503, f"{self._num_requests} requests are under way; try again", BUSY)
        self._num_requests += 1
        self.metrics.pending.set(self._num_requests)
        try:
            yield
        finally:
            self._num_requests -= 1
            self.metrics.pending.set(self._num_requests)

    @contextmanager
    def _used(self, name: str) -> Iterator[Entry]:
        if name not in self.host.entries:
            raise Refused(404, f"there is no model {name[:100]!r}")
        with self.host.use(name) as entry:
            yield entry

    async def _answer(self, entry: Entry, body: bytes, read: Read, form: MaskForm) -> Answer:
        name, model = entry.name, entry.model
        with self.metrics.timed("compute_input", name):
            asked, pictures = await self._in_pool(lambda: _read(body, model, read))
        names = tuple(asked.outputs) if isinstance(asked, Infer) else model.outputs
        outputs = await asyncio.wrap_future(entry.runner.submit(pictures.images, names))
        with self.metrics.timed("compute_output", name):
            return await self._in_pool(
                lambda: _written(asked, pictures, outputs, name, model, form)
            )

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    def _observe(
        self,
        request: Request,
        entry: Entry,
        started: float,
        kind: str,
        body: bytes,
        answer: Answer,
    ) -> str:
        event_id = str(uuid.uuid4())
        if self.observing is not None:
            headers = request.headers
            self.observing.tell(
                Exchange(
                    event_id,
                    headers.get("x-amzn-sagemaker-inference-id", "")[:64],
                    headers.get("x-amzn-sagemaker-custom-attributes", "")[:1024],
                    started,
                    entry.name,
                    entry.model.sha256,
                    kind,
                    body,
                    content_type_of(answer.headers),
                    answer.body,
                )
            )
        return event_id


def refused(
    status: int,
    text: str,
    headers: dict[str, str] | None = None,
    kind: type[Response] = Response,
) -> Response:
    """Return the answer to a request that is refused: `{"error": text}`."""
    line = json.dumps({"error": " ".join(text.split())})
    return kind(line, status, headers, JSON)


def _refusal(error: Exception) -> tuple[int, str, dict[str, str], str]:
    """Return status, text, headers and the metrics' reason of a request that failed."""
    if isinstance(error, Refused):
        return error.status, str(error), error.headers, REJECTED if error.status == 503 else OTHER
    if isinstance(error, ClientDisconnect):
        return CLIENT_LEFT, "the client left", {}, CANCELED
    if isinstance(error, BadInput):
        return 400, str(error), {}, OTHER
    if isinstance(error, MemoryError):
        return 503, "too little memory; send a smaller picture, or later", BUSY, REJECTED
    log.error(f"a request failed ({one_line(error)})", exc_info=error)
    return 500, "the server failed; its log says why", {}, BACKEND


def _reader(request: Request) -> Read:
    """Return what reads the body of `/invocations`, by its type."""
    head_length = head_length_of(request.headers)
    kind = _plain(request.headers.get("content-type", ""))

    def read(body: bytes, model: ServedModel) -> Asked:
        if head_length is not None:
            return read_infer(body, head_length, model)
        if kind == JSON:
            return _of_json(body, model)
        if kind == NPY:
            return read_npy(body, model.decoding.max_pixels)
        if kind in BYTES or kind.startswith("image/"):
            return [body]
        raise Refused(
            415, f"no body of type {kind[:100]!r} is read; send image/jpeg, {NPY} or {JSON}"
        )

    return read


def _plain(kind: str) -> str:
    """Return a content type without its parameters."""
    return kind.partition(";")[0].strip().lower()


def _of_json(body: bytes, model: ServedModel) -> Asked:
    """Read JSON: a request of V2, or `{"instances": [{"b64": ...}]}`."""
    if b'"instances"' not in body:
        return read_infer(body, None, model)
    value = parse_json(body.decode("utf-8", "replace"), "the body")
    instances = value.get("instances") if isinstance(value, dict) else None
    if instances is None:
        return read_infer(body, None, model)
    if not isinstance(instances, list) or not all(isinstance(i, dict) for i in instances):
        raise BadInput('instances must be a list of objects {"b64": picture}')
    return [from_base64(instance.get("b64")) for instance in instances]


def _read(body: bytes, model: ServedModel, read: Read) -> tuple[Asked, Pictures]:
    """Return what is asked, and its images as the graph takes them."""
    asked = read(body, model)
    given = asked.given if isinstance(asked, Infer) else asked
    if isinstance(asked, Infer) and not isinstance(given, list):
        return asked, Pictures(given, [])
    pictures = read_pictures(given, model.size, model.decoding)
    return asked, Pictures(model.as_input(pictures.images), pictures.sizes)


def _written(
    asked: Asked,
    pictures: Pictures,
    outputs: Outputs,
    name: str,
    model: ServedModel,
    form: MaskForm,
) -> Answer:
    if isinstance(asked, Infer):
        return Answer(*write_infer(asked, outputs, name, model.sha256))
    found = predictions(model, outputs, pictures.sizes, form)
    text = json.dumps({"model": model.sha256, "predictions": found}, ensure_ascii=False)
    kind = f"{JSON};{MASKS}={form}" if form != "png" and model.kind == MASKS else JSON
    return Answer(text.encode("utf-8", "backslashreplace"), {"content-type": kind})
