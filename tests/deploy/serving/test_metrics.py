"""Metrics are what Prometheus reads: names, labels, sums and cumulative buckets."""

import re
from collections import Counter

import pytest

from regrow.deploy.serving.metrics import BUCKETS, Metrics

SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"(?:,|$)')
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read(metrics: Metrics) -> tuple[Samples, dict[str, str]]:
    """Return the samples of Prometheus's text format, and the kind of each metric."""
    samples: Samples = {}
    kinds: dict[str, str] = {}
    for line in metrics.text().decode().splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split()
            assert name not in kinds
            kinds[name] = kind
        elif line and not line.startswith("#"):
            found = SAMPLE.fullmatch(line)
            assert found is not None, line
            key = (found[1], tuple(sorted(LABEL.findall(found[2] or ""))))
            assert key not in samples, line
            samples[key] = float(found[3])
    return samples, kinds


def of(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, tuple(sorted(labels.items()))))


def test_each_count_stands_under_its_labels_and_kind() -> None:
    metrics = Metrics()
    metrics.success.labels("a").inc()
    metrics.success.labels("a").inc()
    metrics.success.labels('odd "b"').inc()
    metrics.failure.labels("a", "REJECTED").inc()
    metrics.codes.labels("503").inc()
    metrics.images.labels("a").inc(7)
    metrics.batches.labels("a").inc(2)
    metrics.queued.labels("a").set(3)
    metrics.reloads.labels("a", "taken").inc()
    metrics.observed.labels("full").inc()
    samples, kinds = read(metrics)
    assert of(samples, "regrow_request_success_total", model="a") == 2
    assert of(samples, "regrow_request_success_total", model=r"odd \"b\"") == 1
    assert of(samples, "regrow_request_failure_total", model="a", reason="REJECTED") == 1
    assert of(samples, "regrow_responses_total", code="503") == 1
    assert of(samples, "regrow_inference_count_total", model="a") == 7
    assert of(samples, "regrow_inference_exec_total", model="a") == 2
    assert of(samples, "regrow_queue_depth", model="a") == 3
    assert of(samples, "regrow_model_reloads_total", model="a", outcome="taken") == 1
    assert of(samples, "regrow_observed_total", outcome="full") == 1
    assert of(samples, "regrow_pending_request_count") == 0
    for name, kind in {
        "regrow_request_success_total": "counter",
        "regrow_queue_depth": "gauge",
        "regrow_pending_request_count": "gauge",
        "regrow_queue_duration_seconds": "histogram",
    }.items():
        assert kinds[name] == kind


def test_seconds_are_counted_in_cumulative_buckets() -> None:
    metrics, given = Metrics(), [0.0004, 0.001, 0.03, 0.03, 7.0, 61.0]
    for seconds in given:
        metrics.observe("queue", "a", seconds)
    metrics.observe("request", "a", 1.0)
    samples, _ = read(metrics)
    name = "regrow_queue_duration_seconds"
    assert of(samples, f"{name}_count", model="a") == len(given)
    assert of(samples, f"{name}_sum", model="a") == pytest.approx(sum(given))
    ends = {
        float(dict(labels)["le"]): value
        for (own, labels), value in samples.items()
        if own == f"{name}_bucket"
    }
    assert sorted(ends) == [*BUCKETS, float("inf")]
    for end, value in ends.items():  # a bucket holds what is its end or less
        assert value == sum(seconds <= end for seconds in given), end
    assert of(samples, "regrow_request_duration_seconds_count", model="a") == 1
    assert of(samples, "regrow_compute_infer_duration_seconds_count", model="a") is None


def test_what_takes_time_is_counted_though_it_fails() -> None:
    metrics = Metrics()
    with pytest.raises(KeyError), metrics.timed("compute_input", "a"):
        raise KeyError
    samples, _ = read(metrics)
    assert of(samples, "regrow_compute_input_duration_seconds_count", model="a") == 1


def test_a_model_is_shown_by_the_hash_of_its_last_file_alone() -> None:
    metrics = Metrics()
    metrics.name_model("a", "11")
    metrics.name_model("b", "11")
    metrics.name_model("a", "11", "11")
    shown = [key for key in read(metrics)[0] if key[0] == "regrow_model_info"]
    assert len(shown) == 2
    metrics.name_model("a", "22", "11")
    samples, _ = read(metrics)
    assert of(samples, "regrow_model_info", model="a", sha256="22") == 1
    assert of(samples, "regrow_model_info", model="a", sha256="11") is None
    assert of(samples, "regrow_model_info", model="b", sha256="11") == 1


def test_counts_that_something_else_keeps_are_read_whenever_the_metrics_are() -> None:
    metrics, kept = Metrics(), Counter(written=2)
    metrics.show_counts("captured", "Exchanges by what became of them.", lambda: kept)
    assert of(read(metrics)[0], "regrow_captured_total", outcome="written") == 2
    kept.update(written=3, dropped=1)
    samples, kinds = read(metrics)
    assert of(samples, "regrow_captured_total", outcome="written") == 5
    assert of(samples, "regrow_captured_total", outcome="dropped") == 1
    assert kinds["regrow_captured_total"] == "counter"


def test_two_servers_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.success.labels("a").inc()
    assert of(read(other)[0], "regrow_request_success_total", model="a") is None
