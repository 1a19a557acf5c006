"""Observers of a server: what was asked and answered, told by a thread that nothing waits for."""

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from regrow.deploy.serving.metrics import Metrics
from regrow.files import one_line
from regrow.logs import log

MAX_BYTES = 2**27  # of bodies that wait for the observer


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
        request_type: The Content-Type of the request, as it was sent.
        request_body: Its body, whole.
        response_type: The Content-Type of the response.
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
        """Return the bytes of both bodies."""
        return len(self.request_body) + len(self.response_body)


class Observer(Protocol):
    """What looks at every exchange, such as the writer of captures.

    It is called with one `Exchange` at a time, in the order of the answers, by a thread of its own,
    so it may write files; what it raises is logged and counted, and ends nothing. While it is
    busy, up to `MAX_BYTES` of bodies wait; what comes then is dropped and counted. It is called for
    answers with status 200 of `/invocations`, `/v2/.../infer` and `/models/.../invoke`. If it has a
    method `close`, that is called once, after the last exchange.
    """

    def __call__(self, exchange: Exchange) -> None:
        """Take one exchange."""


class Observing:
    """The thread that tells an observer.

    Args:
        observer: The observer.
        metrics: Where what is lost is counted, as `full` or `error`.
    """

    def __init__(self, observer: Observer, metrics: Metrics) -> None:
        self._observer, self._metrics = observer, metrics
        self._waiting: deque[Exchange] = deque()
        self._num_bytes = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="observe", daemon=True)
        self._thread.start()

    def tell(self, exchange: Exchange) -> None:
        """Let an exchange wait for the observer; never waits itself."""
        with self._changed:
            if self._num_bytes + exchange.num_bytes > MAX_BYTES or self._is_closed:
                self._metrics.lost.labels("full").inc()
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
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if not self._waiting:
                    break
                exchange = self._waiting.popleft()
            self._call(exchange)
            with self._changed:
                self._num_bytes -= exchange.num_bytes
        close = getattr(self._observer, "close", None)
        if close is not None:
            close()

    def _call(self, exchange: Exchange) -> None:
        start = time.monotonic()
        try:
            self._observer(exchange)
        except Exception as error:  # whatever an observer raises ends no server
            self._metrics.lost.labels("error").inc()
            log.warning(
                f"{exchange.event_id}: was not observed ({one_line(error)}), after "
                f"{time.monotonic() - start:.1f} s"
            )
