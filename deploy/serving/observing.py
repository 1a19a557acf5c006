"""Observers of a server: what was asked and answered, told by a thread that nothing waits for."""

import hashlib
import math
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from regrow.deploy.serving.metrics import Metrics
from regrow.files import one_line
from regrow.logs import log

MAX_BYTES = 2**27  # of exchanges that wait for the observer
OWN_BYTES = 2**10  # of an exchange beside its bodies, about
SYNC_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request that was answered with predictions or tensors, and its answer.

    Args:
        event_id: A new UUID for each request, which the answer names in the header
            `X-Regrow-Event-Id`.
        inference_id: What the client calls the request, by the header
            `X-Amzn-SageMaker-Inference-Id`; empty if it gives none.
        custom_attributes: The header `X-Amzn-SageMaker-Custom-Attributes`; empty if there is none.
        time: When the request came, in seconds since 1970, UTC.
        model: The name of the model, as in the path of V2.
        sha256: The hash of the model's file that answered.
        request_type: The Content-Type of the request, which says how long the head of a binary
            request is, however the client said it.
        request_body: Its body, whole.
        response_type: The Content-Type of the response, likewise.
        response_body: Its body, whole.
    """

    event_id: str
    inference_id: str
    custom_attributes: str
    time: float
    model: str
    sha256: str
    request_type: str
    request_body: bytes
    response_type: str
    response_body: bytes

    @property
    def num_bytes(self) -> int:
        """Return the bytes that it takes in memory, about."""
        return len(self.request_body) + len(self.response_body) + OWN_BYTES


class Observer(Protocol):
    """What looks at exchanges, such as the writer of captures.

    It is called with one `Exchange` at a time, in the order of the answers, by a thread of its own,
    so it may write files; what it raises is logged and counted, and ends nothing. While it is
    busy, up to `MAX_BYTES` of exchanges wait; what comes then is dropped and counted. It is called
    for answers with status 200 of `/invocations`, `/v2/.../infer` and `/models/.../invoke`. If it
    has a method `sync`, that is called within a second after each exchange, by the same thread; if
    it has a method `close`, that is called once, after the last one.
    """

    def __call__(self, exchange: Exchange) -> None:
        """Take one exchange."""


def is_sampled(own: str, share: float) -> bool:
    """Whether an id is in the sample: its hash decides, so it is the same in every run.

    Args:
        own: The id.
        share: The share of ids that are in the sample, in [0, 1].
    """
    digest = hashlib.sha256(own.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class Observing:
    """The thread that tells an observer.

    Args:
        observer: The observer.
        metrics: Where exchanges are counted: `seen`, `unsampled`, `full` if too much waited, or
            `error` if the observer raised.
        share: Sampling share in [0, 1]: how many exchanges the observer is told of. The client's
            id decides where there is one, so that the client can tell which, else the event's.
        sync_seconds: Seconds after an exchange until the observer is synced at the latest.
    """

    def __init__(
        self,
        observer: Observer,
        metrics: Metrics,
        share: float = 1.0,
        *,
        sync_seconds: float = SYNC_SECONDS,
    ) -> None:
        self._observer, self._share, self._sync_seconds = observer, share, sync_seconds
        self._counts = metrics.observed
        self._waiting: deque[Exchange] = deque()
        self._num_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="observe", daemon=True)
        self._thread.start()

    def tell(self, exchange: Exchange) -> None:
        """Let an exchange wait for the observer, if it is in the sample; never waits itself."""
        if not is_sampled(exchange.inference_id or exchange.event_id, self._share):
            self._counts.labels("unsampled").inc()
            return
        with self._changed:
            if self._num_bytes + exchange.num_bytes > MAX_BYTES or self._is_closed:
                self._counts.labels("full").inc()
                return
            self._num_bytes += exchange.num_bytes
            self._waiting.append(exchange)
            self._changed.notify()

    def close(self, seconds: float = 5.0) -> None:
        """Let the observer see what waits, and close it; wait so many seconds at most."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(seconds)
        if self._thread.is_alive():
            log.warning(f"{len(self._waiting)} exchanges were not observed in {seconds:g} s")

    def _work(self) -> None:
        due = math.inf  # when the observer must be synced
        while True:
            with self._changed:
                left = None if due == math.inf else max(0.0, due - time.monotonic())
                self._changed.wait_for(lambda: self._waiting or self._is_closed, left)
                exchange = self._waiting.popleft() if self._waiting else None
                if exchange is None and self._is_closed:
                    break
            if exchange is not None:
                due = min(due, time.monotonic() + self._sync_seconds)
                self._see(exchange)
                with self._changed:
                    self._num_bytes -= exchange.num_bytes
            if time.monotonic() >= due:
                due = math.inf
                self._end("sync")
        self._end("close")

    def _see(self, exchange: Exchange) -> None:
        start = time.monotonic()
        try:
            self._observer(exchange)
        except Exception as error:  # whatever an observer raises ends no server
            self._counts.labels("error").inc()
            log.warning(
                f"{exchange.event_id}: was not observed ({one_line(error)}), after "
                f"{time.monotonic() - start:.1f} s"
            )
        else:
            self._counts.labels("seen").inc()

    def _end(self, name: str) -> None:
        """Call a method of the observer, if it has it."""
        try:
            getattr(self._observer, name, lambda: None)()
        except Exception as error:  # as above
            log.warning(f"the observer could not {name} ({one_line(error)})")
