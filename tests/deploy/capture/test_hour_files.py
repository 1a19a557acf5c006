"""Lines are appended whole, hour by hour, and what a killed process tore is cut off."""

import fcntl
import os
import resource
import signal
from pathlib import Path

import pytest

from regrow.deploy.capture import hour_files
from regrow.deploy.capture.hour_files import BLOCK, HourFiles, cut_torn_lines

HOUR = "2026/11/30/07"


def _content(folder: Path, hour: str = HOUR) -> bytes:
    (file,) = (folder / hour).iterdir()
    return file.read_bytes()


def test_a_clock_that_goes_back_goes_on_in_the_file_of_that_hour(tmp_path: Path) -> None:
    files = HourFiles(tmp_path)
    hours = [f"2026/11/30/{hour:02d}" for hour in range(hour_files.MAX_OPEN + 3)]
    for hour in [*hours, *reversed(hours), hours[0]]:
        files.append(hour, f"{hour}\n".encode())
    files.close()
    assert _content(tmp_path, hours[0]) == f"{hours[0]}\n".encode() * 3
    for hour in hours[1:]:
        assert _content(tmp_path, hour) == f"{hour}\n".encode() * 2


def test_few_files_stay_open(tmp_path: Path) -> None:
    files = HourFiles(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for hour in range(24):
        files.append(f"2026/11/30/{hour:02d}", b"1\n")
    assert len(os.listdir("/proc/self/fd")) - before == hour_files.MAX_OPEN
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("content", "left"),
    [
        (b'{"a":1}\n{"b"', b'{"a":1}\n'),
        (b'{"a":1}\n' + b"x" * 3 * BLOCK, b'{"a":1}\n'),
        (b"x" * (BLOCK - 1) + b"\n" + b"y" * BLOCK, b"x" * (BLOCK - 1) + b"\n"),
        (b"torn", b""),
    ],
)
def test_a_torn_last_line_is_cut_off(tmp_path: Path, content: bytes, left: bytes) -> None:
    file = tmp_path / HOUR / "regrow-1.jsonl"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert cut_torn_lines(tmp_path) == 1
    assert file.read_bytes() == left
    assert cut_torn_lines(tmp_path) == 0


def test_files_of_others_and_of_the_living_and_links_stay(tmp_path: Path) -> None:
    inside, outside = tmp_path / "captures", tmp_path / "outside.jsonl"
    inside.mkdir()
    outside.write_bytes(b"no line end")
    (inside / "regrow-link.jsonl").symlink_to(outside)
    (inside / "34-10-900-74b0dd56.jsonl").write_bytes(b"of SageMaker, without a line end")
    os.mkfifo(inside / "regrow-pipe.jsonl")
    living = inside / "regrow-living.jsonl"
    living.write_bytes(b"half a li")
    with living.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert cut_torn_lines(inside) == 0
        assert living.read_bytes() == b"half a li"
    assert outside.read_bytes() == b"no line end"
    assert cut_torn_lines(inside) == 1
    assert living.read_bytes() == b""


def test_a_write_that_fails_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    files = HourFiles(tmp_path)
    files.append(HOUR, b"whole\n")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            files.append(HOUR, b"x" * 20_000 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert _content(tmp_path) == b"whole\n"
    files.append(HOUR, b"again\n")
    files.close()
    assert _content(tmp_path) == b"whole\nagain\n"


def test_files_that_somebody_removes_are_made_again(tmp_path: Path) -> None:
    files = HourFiles(tmp_path)
    files.append(HOUR, b"1\n")
    (file,) = (tmp_path / HOUR).iterdir()
    file.unlink()
    files.sync()
    files.append(HOUR, b"2\n")
    files.close()
    assert file.read_bytes() == b"2\n"
