"""Captures stop at a share of the disk, and at a largest total."""

from pathlib import Path
from typing import Any

import pytest

from regrow.deploy.capture.space import DiskLimit, Space
from regrow.errors import BadInput


def test_a_share_of_the_disk_that_is_used_stops(tmp_path: Path) -> None:
    assert "of the disk is used, max_share is 0" in Space(tmp_path, DiskLimit(0.0)).refusal(1)
    assert Space(tmp_path, DiskLimit(1.0)).refusal(1) == ""


def test_a_largest_total_counts_what_is_there_and_what_comes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.jsonl").write_bytes(b"x" * 60)
    (tmp_path / "a" / "2.jsonl").write_bytes(b"x" * 30)
    (tmp_path / "other.bin").write_bytes(b"x" * 1000)
    space = Space(tmp_path, DiskLimit(1.0, 100))
    assert space.refusal(10) == ""
    assert "captures take 90 bytes, max_bytes is 100" in space.refusal(11)
    space.add(10)
    assert space.refusal(1)
    (tmp_path / "a" / "2.jsonl").unlink()
    space.measure()
    assert space.refusal(40) == ""


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    space = Space(tmp_path / "a", DiskLimit(1.0, 100))
    (tmp_path / "a").rmdir()
    space.measure()
    assert (tmp_path / "a").is_dir()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"max_share": 75}, "is 75; it must be 0 to 1"),
        ({"max_bytes": -1}, "is -1 bytes, below 0"),
    ],
)
def test_limits_without_a_meaning_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        DiskLimit(**options)
