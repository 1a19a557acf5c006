"""The index finds the events of an hour wherever their files lie."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regrow.data.checks.remarks import Remarks
from regrow.monitor.files.captures import Event, event_line
from regrow.monitor.files.index import CaptureIndex

HOUR = datetime(2026, 11, 30, 7, tzinfo=UTC)


def _write(file: Path, *minutes: float) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    events = [Event(f"{file.stem}{n}", HOUR + timedelta(minutes=m)) for n, m in enumerate(minutes)]
    file.write_text("".join(map(event_line, events)))


def test_events_count_in_the_hour_of_their_time(tmp_path: Path) -> None:
    _write(tmp_path / "p/2026/11/30/07/a.jsonl", 1, 2, 70)
    _write(tmp_path / "p/2026/11/30/07/b.jsonl", 59)
    _write(tmp_path / "p/2026/12/24/00/late.jsonl", 3)
    index = CaptureIndex.read(tmp_path, None, Remarks())
    assert index.hours() == [HOUR, HOUR + timedelta(hours=1)]
    assert index.of_hour(HOUR) == {
        "p/2026/11/30/07/a.jsonl": 2,
        "p/2026/11/30/07/b.jsonl": 1,
        "p/2026/12/24/00/late.jsonl": 1,
    }
    assert index.of_hour(HOUR + timedelta(hours=5)) == {}


def test_a_clock_that_goes_back_is_counted(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 30, 31, 1, 2, 1.5)
    (file,) = CaptureIndex.read(tmp_path, None, Remarks()).files.values()
    assert file.num_backwards == 1


def test_another_event_in_the_place_of_one_changes_the_fingerprint(tmp_path: Path) -> None:
    _write(tmp_path / "a.jsonl", 1, 2, 61)
    before = CaptureIndex.read(tmp_path, None, Remarks())
    text = (tmp_path / "a.jsonl").read_text()
    (tmp_path / "a.jsonl").write_text(text.replace('"a0"', '"b0"'))
    after = CaptureIndex.read(tmp_path, None, Remarks())
    assert before.of_hour(HOUR) == after.of_hour(HOUR)
    assert before.fingerprint(HOUR) != after.fingerprint(HOUR)
    later = HOUR + timedelta(hours=1)
    assert before.fingerprint(later) == after.fingerprint(later)
    # The order of lines does not count.
    (tmp_path / "a.jsonl").write_text("".join(text.splitlines(keepends=True)[::-1]))
    assert CaptureIndex.read(tmp_path, None, Remarks()).fingerprint(HOUR) == before.fingerprint(
        HOUR
    )


def test_only_changed_files_are_read_again(tmp_path: Path) -> None:
    captures, cache = tmp_path / "captures", tmp_path / "index.json"
    _write(captures / "a.jsonl", 1)
    _write(captures / "b.jsonl", 2)
    CaptureIndex.read(captures, cache, Remarks())
    content = json.loads(cache.read_text())
    content["files"]["a.jsonl"][3] = {
        "2026-11-30T09:00:00Z": [5, "ab"]
    }  # what no reading would give
    cache.write_text(json.dumps(content))
    _write(captures / "b.jsonl", 61, 62)
    index = CaptureIndex.read(captures, cache, Remarks())
    assert index.files["a.jsonl"].counts == {HOUR + timedelta(hours=2): 5}
    assert index.files["b.jsonl"].counts == {HOUR + timedelta(hours=1): 2}


@pytest.mark.parametrize("text", ["", "[]", '{"folder": 1}', '{"folder": "x", "files": {"a": 1}}'])
def test_a_damaged_cache_is_made_again(tmp_path: Path, text: str) -> None:
    captures, cache = tmp_path / "captures", tmp_path / "index.json"
    _write(captures / "a.jsonl", 1)
    cache.write_text(text.replace('"x"', json.dumps(str(captures))))
    assert CaptureIndex.read(captures, cache, Remarks()).hours() == [HOUR]
    assert json.loads(cache.read_text())["files"]
