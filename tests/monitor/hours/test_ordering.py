"""Records come back in the order of their time, however they came and whatever went to disk."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from regrow.monitor.hours import ordering
from regrow.monitor.hours.ordering import TimeOrder

DTYPE = np.dtype([("time", np.float64), ("key", np.uint64), ("scores", np.float64, (3,))])


def _records(count: int, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    records = np.zeros(count, dtype=DTYPE)
    records["time"] = draw.integers(0, 3600, count)  # many alike
    records["key"] = draw.permutation(count)
    records["scores"] = draw.normal(size=(count, 3))
    records["scores"][::5] = np.nan
    return records


def _added(order: TimeOrder, records: np.ndarray, parts: int) -> TimeOrder:
    for part in np.array_split(records, parts):
        order.add(part, part["time"].astype(int) // 60)
    return order


@pytest.mark.parametrize("most", [0, 100, 10**6])
@pytest.mark.parametrize("fewest", [1, 300, 10**6])
def test_it_is_one_large_sort(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, fewest: int
) -> None:
    monkeypatch.setattr(ordering, "MOST", most)
    monkeypatch.setattr(ordering, "FEWEST", fewest)
    records = _records(1000)
    expected = sorted(records.tolist(), key=lambda record: record[:2])
    for parts in (1, 7):
        found = [*_added(TimeOrder(DTYPE, tmp_path), records, parts)]
        assert np.concatenate(found).tobytes() == np.array(expected, dtype=DTYPE).tobytes()
        # A minute comes whole.
        minutes = [{*(part["time"] // 60)} for part in found]
        assert sum(map(len, minutes)) == len(set.union(*minutes))
    assert not [*tmp_path.iterdir()]


def test_nothing_gives_nothing() -> None:
    assert [*_added(TimeOrder(DTYPE), _records(0), 1)] == []


def test_memory_does_not_grow_with_the_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MOST", 500)
    monkeypatch.setattr(ordering, "FEWEST", 100)
    peaks = []
    for count in (5_000, 40_000):
        records = np.sort(_records(count), order="time")
        records["time"] *= count // 5_000  # as many a minute, in a longer time
        tracemalloc.start()
        order = _added(TimeOrder(DTYPE), records, count // 100)
        assert sum(len(part) for part in order) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 35_000 * DTYPE.itemsize / 10


def test_the_file_is_closed_with_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "MOST", 10)
    before = len(os.listdir("/proc/self/fd"))
    order = _added(TimeOrder(DTYPE), _records(100), 1)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    del order
    assert len(os.listdir("/proc/self/fd")) == before
