"""Captures are copied to other hours: the same requests and answers, in their order."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from regrow.data.checks.remarks import Remarks
from regrow.monitor.files.captures import Body, Event, capture_files, event_line, read_events
from regrow.pipelines.demonstration.dating import date

NOW = datetime(2026, 11, 30, 9, 59, 58, tzinfo=UTC)
DAY, NIGHT = (datetime(2026, 11, 30, hour, tzinfo=UTC) for hour in (23, 7))


def captured(folder: Path) -> list[Event]:
    """Write captures as one server makes them while an hour turns, and return them."""
    made = []
    for number in range(5):
        word = "day" if number < 3 else "night"
        body = Body("image/png", f"{number:04d}", "BASE64")
        time = NOW + timedelta(seconds=number)
        name = f"{word}/scenes/val/{number}"
        made.append(Event(f"e{number}", time, body, None, name, {"camera": "3"}))
    made.append(Event("other", NOW, None, None, "warm-up"))
    for number, event in enumerate(made):
        file = folder / "regrow/AllTraffic" / event.time.strftime("%Y/%m/%d/%H") / "a.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a") as opened:
            opened.write(event_line(made[number]))
    return made


def read(folder: Path) -> list[Event]:
    remarks = Remarks()
    events = [event for file in capture_files(folder) for event in read_events(file, remarks)]
    assert not remarks
    return sorted(events, key=lambda event: event.time)


def test_each_part_is_spread_over_its_hour(tmp_path: Path) -> None:
    made = captured(tmp_path / "captured")
    before = {file: file.read_bytes() for file in capture_files(tmp_path / "captured")}
    counts = date(tmp_path / "captured", tmp_path / "out", {"day": DAY, "night": NIGHT})
    assert counts == {"day": 3, "night": 2}
    places = [DAY + n * timedelta(minutes=20) for n in range(3)]
    places += [NIGHT + n * timedelta(minutes=30) for n in range(2)]
    wanted = [replace(event, time=time) for event, time in zip(made, places, strict=False)]
    assert read(tmp_path / "out") == sorted(wanted, key=lambda event: event.time)
    assert (tmp_path / "out/2026/11/30/23/day.jsonl").is_file()
    assert {file: file.read_bytes() for file in capture_files(tmp_path / "captured")} == before


def test_an_hour_without_captures_has_no_file(tmp_path: Path) -> None:
    (tmp_path / "captured").mkdir()
    assert date(tmp_path / "captured", tmp_path / "out", {"day": DAY}) == {"day": 0}
    assert not (tmp_path / "out").exists()
