"""An observer is told of each exchange by a thread of its own, and nothing waits for it."""

import hashlib
import threading
from dataclasses import replace

import pytest

from regrow.deploy.serving import observing
from regrow.deploy.serving.metrics import Metrics
from regrow.deploy.serving.observing import Exchange, Observing, is_sampled


def exchange(number: int = 0, size: int = 1) -> Exchange:
    return Exchange(str(number), "", "", 0.0, "m", "", "", b"x" * size, "", b"")


def test_an_observer_that_raises_or_is_slow_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observing, "MAX_BYTES", 10 + 2 * observing.OWN_BYTES)
    may_go, begun, seen, metrics = threading.Event(), threading.Event(), [], Metrics()

    class Slow:
        is_closed = False

        def __call__(self, given: Exchange) -> None:
            begun.set()
            assert may_go.wait(20)
            seen.append(given.event_id)
            raise OSError("disk full")

        def close(self) -> None:
            self.is_closed = True

    slow = Slow()
    told = Observing(slow, metrics)
    told.tell(exchange(0, 4))
    assert begun.wait(20)
    for number in (1, 2):
        told.tell(exchange(number, 4))  # the second one is too much
    may_go.set()
    told.close()
    told.tell(exchange(3))
    assert seen == ["0", "1"]
    assert slow.is_closed
    assert b'regrow_observed_total{outcome="full"} 2.0' in metrics.text()
    assert b'regrow_observed_total{outcome="error"} 2.0' in metrics.text()
    assert "0: was not observed (disk full)" in capsys.readouterr().err


def test_an_observer_that_never_ends_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    may_go = threading.Event()
    told = Observing(lambda _: bool(may_go.wait(20)) and None, Metrics())
    told.tell(exchange(0))
    told.tell(exchange(1))
    told.close(0.1)
    assert "were not observed in 0.1 s" in capsys.readouterr().err
    may_go.set()


def test_an_observer_that_raised_is_told_of_the_next_and_closed_once() -> None:
    calls: list[str] = []

    class Failing:
        def __call__(self, given: Exchange) -> None:
            calls.append(given.event_id)
            if given.event_id == "0":
                raise ValueError("odd")

        def close(self) -> None:
            calls.append("closed")

    metrics = Metrics()
    told = Observing(Failing(), metrics)
    for number in range(3):
        told.tell(exchange(number))
    told.close()
    told.close()
    told.tell(exchange(3))
    assert calls == ["0", "1", "2", "closed"]
    assert b'regrow_observed_total{outcome="error"} 1.0' in metrics.text()
    assert b'regrow_observed_total{outcome="full"} 1.0' in metrics.text()


def test_a_backlog_takes_as_many_bytes_as_its_limit_and_has_room_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bodies of both directions count, and the exchange that is looked at counts as well."""
    monkeypatch.setattr(observing, "MAX_BYTES", 10 + 2 * observing.OWN_BYTES)
    begun, steps, seen = threading.Semaphore(0), threading.Semaphore(0), []

    def slow(given: Exchange) -> None:
        begun.release()
        assert steps.acquire(timeout=20)
        seen.append(given.event_id)

    metrics = Metrics()
    told = Observing(slow, metrics)
    told.tell(replace(exchange(0, 2), response_body=b"y" * 4))
    assert begun.acquire(timeout=20)
    told.tell(exchange(1, 5))  # 6 and 5 bytes are too many
    told.tell(exchange(2, 4))
    steps.release()
    assert begun.acquire(timeout=20)  # the first has left, the third is looked at
    told.tell(exchange(3, 6))
    told.tell(exchange(4, 1))
    steps.release(2)
    told.close()
    assert seen == ["0", "2", "3"]
    assert b'regrow_observed_total{outcome="full"} 2.0' in metrics.text()


def test_the_last_that_waits_is_seen_before_an_observer_without_close_ends() -> None:
    seen: list[str] = []
    told = Observing(lambda given: seen.append(given.event_id), Metrics())
    for number in range(50):
        told.tell(exchange(number))
    told.close()
    assert seen == [str(number) for number in range(50)]


def test_a_sample_is_repeatable_and_grows_with_its_share() -> None:
    ids = [f"cam{n}" for n in range(20_000)]
    kept = {share: {own for own in ids if is_sampled(own, share)} for share in (0, 0.1, 0.2, 1)}
    assert kept[0] == set()
    assert kept[0.1] < kept[0.2] < kept[1] == set(ids)
    # Binomial: 4,000 with a deviation of 57.
    assert abs(len(kept[0.2]) - 4000) < 300
    first = hashlib.sha256(b"cam0").hexdigest()[:16]
    assert is_sampled("cam0", (int(first, 16) + 2**12) / 2**64)
    assert not is_sampled("cam0", (int(first, 16) - 2**12) / 2**64)
    assert is_sampled("\ud800", 1)


def test_an_observer_is_told_of_a_sample_by_the_clients_id_and_else_by_the_event() -> None:
    asked = [replace(exchange(n), inference_id=f"cam{n}" if n % 2 else "") for n in range(400)]
    kept: list[list[str]] = []
    # Another run, then one whose events have other ids where the client gives its own.
    renamed = [replace(e, event_id=f"x{e.event_id}") if e.inference_id else e for e in asked]
    for exchanges in (asked, asked, renamed):
        seen: list[str] = []
        metrics = Metrics()
        told = Observing(lambda given, seen=seen: seen.append(given.event_id), metrics, 0.25)
        for one in exchanges:
            told.tell(one)
        told.close()
        text = metrics.text().decode()
        assert f'regrow_observed_total{{outcome="seen"}} {len(seen)}.0' in text
        assert f'regrow_observed_total{{outcome="unsampled"}} {400 - len(seen)}.0' in text
        kept.append([own.removeprefix("x") for own in seen])
    assert kept[0] == kept[1] == kept[2]
    assert kept[0] == [e.event_id for e in asked if is_sampled(e.inference_id or e.event_id, 0.25)]
    assert 50 < len(kept[0]) < 150


def test_an_observer_is_synced_soon_though_nobody_tells_more(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And by its own thread, once for what came together, though the last time failed."""
    calls: list[str] = []
    synced = threading.Semaphore(0)

    class Syncing:
        def __call__(self, given: Exchange) -> None:
            calls.append(given.event_id)

        def sync(self) -> None:
            calls.append(f"sync by {threading.current_thread().name}")
            synced.release()
            raise OSError("disk full")

    told = Observing(Syncing(), Metrics(), sync_seconds=0.2)
    for number in range(2):
        told.tell(exchange(number))
        assert synced.acquire(timeout=20)
    told.close()
    assert calls == ["0", "sync by observe", "1", "sync by observe"]
    assert "the observer could not sync (disk full)" in capsys.readouterr().err
