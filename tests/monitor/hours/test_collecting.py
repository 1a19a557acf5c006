"""Collecting an hour: in the order of time, whatever the order of files, and by blocks."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from regrow.data.images.conversion import Decoding
from regrow.monitor.baseline import Baseline
from regrow.monitor.features import PICTURE
from regrow.monitor.files.captures import Event
from regrow.monitor.hours import collecting
from regrow.monitor.hours.collecting import Blocks, HourCollector
from regrow.monitor.network.probe import Findings
from regrow.monitor.rows import rows_of

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
Captured = Callable[..., list[Event]]


def _collected(baseline: Baseline, events: list[Event], blocks: Blocks) -> HourCollector:
    collector = HourCollector(baseline, blocks, Decoding())
    for event in events:
        collector.add(event)
    return collector.finish()


def _in_order(collector: HourCollector) -> np.ndarray:
    return np.concatenate([*collector.in_order()])


def test_scores_come_in_the_order_of_their_time(baseline: Baseline, captured: Captured) -> None:
    events = captured(HOUR, 20)
    one = _in_order(_collected(baseline, events, Blocks()))
    other = _in_order(_collected(baseline, events[::-1], Blocks()))
    assert one.tobytes() == other.tobytes()
    assert one["time"].tolist() == [event.time.timestamp() for event in events]
    place = [*baseline.scores].index("brightness")
    expected = [rows_of(event, baseline.classes)[0].values["brightness"] for event in events]
    assert one["scores"][:, place].tolist() == expected


def test_missing_scores_are_no_numbers(baseline: Baseline, captured: Captured) -> None:
    events = captured(HOUR, 10)
    events[3] = replace(events[3], output=None)
    collector = _collected(baseline, events, Blocks())
    scores = _in_order(collector)["scores"]
    places = [[*baseline.scores].index(name) for name in ("confidence", "brightness")]
    assert np.isnan(scores[:, places]).sum(axis=0).tolist() == [1, 0]
    assert np.isnan(scores[3, places[0]])
    assert collector.not_captured == frozenset()
    without = _collected(baseline, [replace(e, input=None) for e in events], Blocks())
    assert without.not_captured == frozenset(PICTURE)


def test_a_mean_is_that_of_the_pictures_that_have_the_score(
    baseline: Baseline, captured: Captured
) -> None:
    events = captured(HOUR, 10)
    events[3] = replace(events[3], output=None)
    collector = _collected(baseline, events, Blocks())
    scores = np.array([0.5, np.nan, 0.25])
    collector.findings = Findings({"embedding_distance": scores, "projection_0": scores[1:2]})
    rows = [row.values for event in events for row in rows_of(event, baseline.classes)]
    known = [row["confidence"] for row in rows if "confidence" in row]
    assert len(known) == 9
    assert collector.mean("confidence") == pytest.approx(np.mean(known))
    assert collector.mean("embedding_distance") == 0.375
    assert collector.mean("projection_0") is collector.mean("box_score") is None


def test_only_so_many_attributes_are_counted_whatever_their_order(
    baseline: Baseline, captured: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collecting, "MAX_ATTRIBUTES", 3)
    monkeypatch.setattr(collecting, "BATCH", 4)
    events = [
        replace(event, attributes={f"a{n % 7}": "x", "b": "y"})
        for n, event in enumerate(captured(HOUR, 21))
    ]
    one = _collected(baseline, events, Blocks()).summary
    other = _collected(baseline, events[::-1], Blocks()).summary
    assert one.to_dict() == other.to_dict()
    kept = {n: f.num_present for n, f in one.features.items() if n.startswith("metadata ")}
    assert len(kept) == 3
    assert kept == {name: 21 if name == "metadata b" else 3 for name in kept}


def test_the_same_pictures_are_counted(baseline: Baseline, captured: Captured) -> None:
    events = captured(HOUR, 5)
    again = [replace(event, id=f"again {event.id}") for event in events[:3]]
    collector = _collected(baseline, [*events, *again], Blocks())
    assert (collector.num_pictures, collector.num_repeated_pictures) == (8, 3)


@pytest.mark.parametrize(("minutes", "count"), [(1.0, 6), (2.0, 3), (60.0, 1)])
def test_blocks_are_a_value_and_some_minutes(
    baseline: Baseline, captured: Captured, minutes: float, count: int
) -> None:
    events = [
        replace(event, time=HOUR + timedelta(seconds=30 * n))
        for n, event in enumerate(captured(HOUR, 12))
    ]
    collector = _collected(baseline, events, Blocks("camera", minutes))
    assert collector.num_steps == count
    assert len(np.unique(_in_order(collector)["block"])) == count
    # What has no such attribute stands for itself.
    bare = [replace(event, attributes={}) for event in events]
    assert _collected(baseline, bare, Blocks("camera", minutes)).num_steps == 12
