"""Counts and times of a server for Prometheus, after the names that Triton's dashboards have."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

# Seconds; SageMaker waits 60 for an answer.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MODEL = ("model",)
# Why a request had no answer: a full queue, a client that left or waited too long, a body that
# cannot be used, or a fault of ours.
REJECTED, CANCELED, OTHER, BACKEND = "REJECTED", "CANCELED", "OTHER", "BACKEND"


class Metrics:
    """Metrics of one server, in a registry of its own; labels are models, reasons and codes only.

    Seconds and counts are those of requests (`request`), of waiting (`queue`), of decoding
    (`compute_input`), of the network (`compute_infer`) and of making the answer (`compute_output`).
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.success = self._counter("request_success", "Requests that were answered.", MODEL)
        self.failure = self._counter(
            "request_failure", "Requests that were not answered.", (*MODEL, "reason")
        )
        self.codes = self._counter("responses", "Responses by their HTTP status.", ("code",))
        self.images = self._counter("inference_count", "Images that went through.", MODEL)
        self.batches = self._counter("inference_exec", "Runs of the network.", MODEL)
        self.pending = self._gauge("pending_request_count", "Requests under way.", ())
        self.queued = self._gauge("queue_depth", "Requests that wait for the network.", MODEL)
        self.model_info = self._gauge(
            "model_info", "1 for the model that is served.", (*MODEL, "sha256")
        )
        self.reloads = self._counter(
            "model_reloads", "New models that were taken, or not.", (*MODEL, "outcome")
        )
        self.observed = self._counter(
            "observed", "Answered requests by what became of them.", ("outcome",)
        )
        self.seconds = {
            part: Histogram(
                f"regrow_{part}_duration_seconds",
                f"Seconds of {part}.",
                MODEL,
                registry=self.registry,
                buckets=BUCKETS,
            )
            for part in ("request", "queue", "compute_input", "compute_infer", "compute_output")
        }

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)

    def observe(self, part: str, model: str, seconds: float) -> None:
        """Count the seconds of a part of a request."""
        self.seconds[part].labels(model).observe(seconds)

    @contextmanager
    def timed(self, part: str, model: str) -> Iterator[None]:
        """Count the seconds that the context takes."""
        start = perf_counter()
        try:
            yield
        finally:
            self.observe(part, model, perf_counter() - start)

    def show_counts(self, name: str, about: str, counts: Callable[[], Mapping[str, int]]) -> None:
        """Show counts that something else keeps, read whenever the metrics are.

        Args:
            name: The name of the metric, without its prefix.
            about: What is counted.
            counts: Returns the counts by their label `outcome`.
        """
        self.registry.register(_Counts(f"regrow_{name}", about, counts))

    def name_model(self, model: str, sha256: str, before: str | None = None) -> None:
        """Show which file a model is; an earlier one is shown no more."""
        if before is not None and before != sha256:
            self.model_info.remove(model, before)
        self.model_info.labels(model, sha256).set(1)

    def _counter(self, name: str, about: str, labels: tuple[str, ...]) -> Counter:
        return Counter(f"regrow_{name}", about, labels, registry=self.registry)

    def _gauge(self, name: str, about: str, labels: tuple[str, ...]) -> Gauge:
        return Gauge(f"regrow_{name}", about, labels, registry=self.registry)


class _Counts(Collector):
    """Counts that something else keeps."""

    def __init__(self, name: str, about: str, counts: Callable[[], Mapping[str, int]]) -> None:
        self._name, self._about, self._counts = name, about, counts

    def collect(self) -> Iterator[Metric]:
        family = CounterMetricFamily(self._name, self._about, labels=["outcome"])
        for outcome, count in self._counts().items():
            family.add_metric([outcome], count)
        yield family
