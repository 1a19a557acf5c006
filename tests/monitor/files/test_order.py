"""Events are yielded by their time, whatever files they lie in, and each once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.monitor.files import captures
from regrow.monitor.files.captures import BAD_LINE, Body, Event, event_line
from regrow.monitor.files.order import TWICE, ordered_events

TIME = datetime(2026, 11, 30, 7, 59, tzinfo=UTC)
Write = Callable[..., Path]


def made(number: int, minutes: float) -> Event:
    body = Body("image/png", f"picture {number}", "NONE")
    return Event(f"e{number}", TIME + timedelta(minutes=minutes), body)


def names(folder: Path, remarks: Remarks | None = None) -> list[str]:
    found = list(ordered_events(folder, Remarks() if remarks is None else remarks))
    assert [event.input.data for event in found if event.input] == [
        f"picture {event.id[1:]}" for event in found
    ]
    return [event.id for event in found]


def test_hours_and_files_are_read_together_in_the_order_of_time(
    tmp_path: Path, write: Write
) -> None:
    write(tmp_path, [made(4, 4), made(0, 0), made(2, 2)], "late")
    write(tmp_path, [made(1, 1), made(3, 3)], "b")
    # A clock that was set back: an early event in the file of a late hour.
    write(tmp_path, [made(6, 90), made(5, 5)], "c")
    assert names(tmp_path) == [f"e{number}" for number in range(7)]


def test_events_of_one_second_stay_in_the_order_of_their_file(tmp_path: Path, write: Write) -> None:
    write(tmp_path, [made(number, 0) for number in (3, 1, 2)], "a")
    write(tmp_path, [made(0, 0)], "b")
    assert names(tmp_path) == ["e3", "e1", "e2", "e0"]


def test_an_event_that_was_captured_twice_comes_once(tmp_path: Path, write: Write) -> None:
    remarks = Remarks()
    write(tmp_path, [made(0, 1), made(1, 0)], "a")
    write(tmp_path, [made(0, 1)], "copy")
    assert names(tmp_path, remarks) == ["e1", "e0"]
    assert remarks.count(TWICE) == 1


def test_lines_that_cannot_be_read_move_no_other(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, [made(0, 1)])
    longest = len(file.read_bytes()) + 50
    monkeypatch.setattr(captures, "MAX_LINE", longest)
    lines = [event_line(made(0, 1)), "\n", "{}\n", "x" * 3 * longest + "\n", event_line(made(1, 0))]
    file.write_text("".join(lines))
    remarks = Remarks()
    assert names(tmp_path, remarks) == ["e1", "e0"]
    assert remarks.count(BAD_LINE) == 2


def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path, [made(0, 0), made(1, 1)])
    events = ordered_events(tmp_path, Remarks())
    assert next(events).id == "e0"
    file.write_text("nothing\n")
    with pytest.raises(BadInput, match="a.jsonl: was changed while it was read"):
        next(events)
    events = ordered_events(write(tmp_path, [made(0, 0)]).parent, Remarks())
    file.unlink()
    assert list(events) == []


def test_a_file_that_is_gone_is_named(tmp_path: Path, write: Write) -> None:
    file = write(tmp_path, [made(0, 0), made(1, 1)])
    events = ordered_events(tmp_path, Remarks())
    next(events)
    file.unlink()
    with pytest.raises(BadInput, match="a.jsonl: cannot be read"):
        next(events)


def test_a_folder_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="gone: no such folder"):
        next(ordered_events(tmp_path / "gone", Remarks()))
