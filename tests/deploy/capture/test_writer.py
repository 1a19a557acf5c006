"""The writer of captures loses no whole line, and counts what it drops."""

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from exchanges import TIME, body, captured, ids, told
from regrow.deploy.capture import writer as module
from regrow.deploy.capture.space import DiskLimit
from regrow.deploy.capture.writer import CaptureWriter
from regrow.errors import BadInput

Make = Callable[..., CaptureWriter]
SHARED = Path(__file__).parents[2] / "shared"
CHILD = """
import sys
from pathlib import Path
from exchanges import told
from regrow.deploy.capture.space import DiskLimit
from regrow.deploy.capture.writer import CaptureWriter
folder, name, most, size = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
writer = CaptureWriter(folder, limit=DiskLimit(1.0))
for number in range(most):
    writer(told(event_id=f"{name}-{number}", request_body=bytes(size)))
    print(writer.counts.written, flush=True)
writer.close()
"""


def _child(folder: Path, name: str, most: int, size: int) -> "subprocess.Popen[str]":
    path = f"{SHARED}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder), name, str(most), str(size)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )


def test_requests_lie_by_endpoint_variant_and_hour_in_order(tmp_path: Path, make: Make) -> None:
    writer = make(endpoint="road", variant="blue")
    asked = [told(event_id=f"{n}", request_body=bytes([n])) for n in range(50)]
    for one in asked:
        writer(one)
    writer.close()
    found = list(captured(tmp_path / "road" / "blue"))
    assert {hour for hour, _ in found} == {"2026/11/30/07"}
    assert [line["eventMetadata"]["eventId"] for _, line in found] == [t.event_id for t in asked]
    inputs = [body(line["captureData"]["endpointInput"]) for _, line in found]
    assert inputs == [one.request_body for one in asked]
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.jsonl"))
    assert writer.counts == module.Counts(written=50, num_bytes=size)


def test_hours_change_and_clocks_go_back(tmp_path: Path, make: Make) -> None:
    writer = make()
    times = [TIME, TIME + 3600, TIME - 86_400, TIME + 3601, TIME]
    for number, time in enumerate(times):
        writer(told(event_id=f"{number}", time=time))
    writer.close()
    by_hour: dict[str, list[str]] = {}
    for hour, line in captured(tmp_path / "regrow" / "AllTraffic"):
        by_hour.setdefault(hour, []).append(line["eventMetadata"]["eventId"])
    assert by_hour == {
        "2026/11/30/07": ["0", "4"],
        "2026/11/30/08": ["1", "3"],
        "2026/11/29/07": ["2"],
    }
    assert len(list(tmp_path.rglob("*.jsonl"))) == 3


def test_a_line_that_no_reader_takes_is_dropped(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 600)
    writer = make()
    writer(told(event_id="large", request_body=bytes(450)))
    writer(told(event_id="small"))
    writer.close()
    assert ids(tmp_path) == ["small"]
    assert (writer.counts.large, writer.counts.written) == (1, 1)


def test_capture_stops_at_a_total_and_goes_on_when_there_is_room(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = make(limit=DiskLimit(1.0, 2000), pause_seconds=0)
    for number in range(10):
        writer(told(event_id=f"{number}"))
    writer.close()
    size = sum(file.stat().st_size for file in tmp_path.rglob("*.jsonl"))
    assert 1000 < size <= 2000
    assert writer.counts.disk == 10 - writer.counts.written > 0
    assert "capture stops for 0 s: the captures take" in capsys.readouterr().err
    for file in tmp_path.rglob("*.jsonl"):
        file.unlink()
    again = make(limit=DiskLimit(1.0, 2000))
    again(told(event_id="again"))
    again.close()
    assert ids(tmp_path) == ["again"]


def test_a_full_disk_stops_capture_and_says_so_once(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = make(limit=DiskLimit(0.0))
    for _ in range(20):
        writer(told())
    writer.close()
    assert writer.counts == module.Counts(disk=20)
    assert capsys.readouterr().err.count("of the disk is used") == 1
    assert ids(tmp_path) == []


def test_an_error_of_the_disk_is_counted_and_ends_nothing(
    tmp_path: Path, make: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = make(pause_seconds=0)
    hour = tmp_path / "regrow" / "AllTraffic" / "2026"
    hour.write_text("where a folder should be")
    writer(told(event_id="lost"))
    hour.unlink()
    writer(told(event_id="kept"))
    writer(told(event_id="odd", time=float("nan")))
    writer(told(event_id="last"))
    writer.close()
    assert ids(tmp_path) == ["kept", "last"]
    assert (writer.counts.failed, writer.counts.written) == (2, 2)
    said = capsys.readouterr().err
    assert "the folder cannot be written (" in said
    assert "odd: not captured" in said


@pytest.mark.parametrize("made", ["file", "below a file", "link", "nul"])
def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path, made: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("/proc/1/nothing")
    folder = {
        "file": tmp_path / "file",
        "below a file": tmp_path / "file" / "a",
        "link": tmp_path / "link",
        "nul": tmp_path / "a\0b",
    }[made]
    with pytest.raises(BadInput, match="captures cannot be written there .*; name a folder") as got:
        CaptureWriter(folder)
    assert len(str(got.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "a/b", "a b", "x" * 64, "-a", "é"])
def test_names_that_lead_out_of_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    for options in ({"endpoint": name}, {"variant": name}):
        with pytest.raises(BadInput, match="names no endpoint or variant"):
            CaptureWriter(tmp_path, **options)
    assert not any(tmp_path.iterdir())


def test_a_sync_has_every_line_on_the_disk(
    tmp_path: Path, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def seen(handle: int) -> None:
        fsync(handle)
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))

    writer = make()
    writer(told(event_id="1"))
    writer(told(event_id="2", time=TIME + 3600))
    monkeypatch.setattr(os, "fsync", seen)
    writer.sync()
    assert sorted(synced) == sorted(map(str, tmp_path.rglob("*.jsonl")))
    assert len(synced) == 2
    assert ids(tmp_path) == ["1", "2"]


def test_a_disk_that_fails_at_a_sync_or_the_end_is_told_and_ends_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = make()
    writer(told())
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", Mock(side_effect=OSError(errno.EIO, "no disk")))
        writer.sync()
        writer(told())
        writer.close()
    assert writer.counts.written == writer.counts.disk == 1  # it waits before it tries again
    said = capsys.readouterr().err
    assert said.count("capture stops for 60 s: the folder cannot be written (no disk)") == 2


def test_kill_leaves_every_line_that_was_counted_and_the_next_start_mends(tmp_path: Path) -> None:
    with _child(tmp_path, "a", 1_000_000, 300_000) as child:
        assert child.stdout is not None
        counted = 0
        for line in child.stdout:
            counted = int(line)
            if counted >= 20:
                break
        child.send_signal(signal.SIGKILL)
    (file,) = tmp_path.rglob("*.jsonl")
    *whole, torn = file.read_bytes().split(b"\n")
    found = [json.loads(line)["eventMetadata"]["eventId"] for line in whole]
    assert found == [f"a-{number}" for number in range(len(found))]
    assert len(found) >= counted
    with file.open("ab") as opened:  # a kill in the middle of a line, for certain
        opened.write(torn or b'{"captureData"')
    CaptureWriter(tmp_path).close()
    assert ids(tmp_path) == found


def test_two_processes_share_a_folder(tmp_path: Path) -> None:
    children = [_child(tmp_path, name, 60, 200_000) for name in ("a", "b")]
    CaptureWriter(tmp_path).close()  # a third one begins meanwhile, and mends nothing
    for child in children:
        child.communicate(timeout=120)
        assert child.returncode == 0
    assert len(list(tmp_path.rglob("*.jsonl"))) == 2
    assert sorted(ids(tmp_path)) == sorted(f"{n}-{k}" for n in ("a", "b") for k in range(60))
