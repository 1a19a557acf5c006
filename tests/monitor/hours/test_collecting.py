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
from regrow.monitor.hours.collecting import Blocks, HourCollector

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)
Captured = Callable[..., list[Event]]


def _collected(baseline: Baseline, events: list[Event], blocks: Blocks) -> HourCollector:
    collector = HourCollector(baseline, blocks, Decoding())
    for event in events:
        collector.add(event)
    return collector.finish()


def test_scores_come_in_the_order_of_their_time(baseline: Baseline, captured: Captured) -> None:
    events = captured(HOUR, 20)
    one = _collected(baseline, events, Blocks()).ordered("brightness")
    other = _collected(baseline, events[::-1], Blocks()).ordered("brightness")
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (np.diff(one[1]) > 0).all()
    assert len(one[0]) == 20
    assert one[3] == []


def test_missing_scores_are_left_out(baseline: Baseline, captured: Captured) -> None:
    events = captured(HOUR, 10)
    events[3] = replace(events[3], output=None)
    collector = _collected(baseline, events, Blocks())
    assert len(collector.ordered("confidence")[0]) == 9
    assert len(collector.ordered("brightness")[0]) == 10
    assert collector.not_captured == frozenset()
    without = _collected(baseline, [replace(e, input=None) for e in events], Blocks())
    assert without.not_captured == frozenset(PICTURE)


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
    assert len(collector.ordered("brightness")[3]) == 12
    # What has no such attribute stands for itself.
    bare = [replace(event, attributes={}) for event in events]
    assert _collected(baseline, bare, Blocks("camera", minutes)).num_steps == 12
