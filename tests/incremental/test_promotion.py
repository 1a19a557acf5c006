"""`promoted.json` moves to a network that may be served, and stays otherwise."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from regrow.data.errors import BadInput
from regrow.incremental.promotion import PROMOTED, promote, read_promoted

WHY = ["cat: accuracy 0.1000 is below the floor of 0.5"]


def checkpoint(folder: Path) -> Path:
    folder.mkdir()
    file = folder / "best.ckpt"
    file.write_bytes(folder.name.encode())
    return file


def content(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_network_that_passes_is_named_with_its_hash(tmp_path: Path, monkeypatch) -> None:
    new = checkpoint(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    file = Path("new") / PROMOTED
    assert promote(file, Path("new/best.ckpt"), [], None) == Path("new/best.ckpt")
    sha256 = hashlib.sha256(b"new").hexdigest()
    assert content(file) == {"checkpoint": str(new), "sha256": sha256, "refused": None}
    monkeypatch.chdir("/")
    assert read_promoted(new.parent / PROMOTED) == new


def test_a_refused_network_leaves_its_parent_to_be_served(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path / "old"), checkpoint(tmp_path / "new")
    file = new.parent / PROMOTED
    assert promote(file, new, WHY, old) == old
    assert content(file) == {
        "checkpoint": str(old),
        "sha256": hashlib.sha256(b"old").hexdigest(),
        "refused": {"checkpoint": str(new), "why": WHY},
    }
    assert not (old.parent / PROMOTED).exists()


def test_the_child_of_a_refused_network_leaves_what_was_served_before_it(tmp_path: Path) -> None:
    first, second, third = (checkpoint(tmp_path / name) for name in ("one", "two", "three"))
    promote(first.parent / PROMOTED, first, [], None)
    promote(second.parent / PROMOTED, second, WHY, first)
    assert promote(third.parent / PROMOTED, third, WHY, second) == first
    assert read_promoted(third.parent / PROMOTED) == first
    # It may itself be the better one.
    assert promote(third.parent / PROMOTED, third, [], second) == third
    assert content(third.parent / PROMOTED)["refused"] is None


def test_a_file_that_runs_share_moves_with_what_passes_alone(tmp_path: Path) -> None:
    first, second, third = (checkpoint(tmp_path / name) for name in ("one", "two", "three"))
    file = tmp_path / "served" / PROMOTED
    promote(file, first, [], None)
    # Whatever its parent is, the one that is served stays.
    assert promote(file, second, WHY, third) == first
    assert read_promoted(file) == first
    assert content(file)["sha256"] == hashlib.sha256(b"one").hexdigest()
    promote(file, third, [], first)
    assert read_promoted(file) == third


def test_where_nothing_else_is_served_the_file_names_nothing(tmp_path: Path) -> None:
    new = checkpoint(tmp_path / "new")
    assert promote(new.parent / PROMOTED, new, WHY, None) is None
    assert read_promoted(new.parent / PROMOTED) is None


def test_a_network_that_passed_and_was_trained_on_is_not_its_own_stand_in(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path / "old"), checkpoint(tmp_path / "new")
    file = new.parent / PROMOTED
    promote(file, new, [], old)
    new.write_bytes(b"trained on")
    assert promote(file, new, WHY, old) == old
    assert read_promoted(file) == old
    promote(file, new, [], None)
    assert promote(file, new, WHY, None) is None
    assert read_promoted(file) is None


def test_a_file_that_was_moved_with_its_run_stands_for_no_other_network(tmp_path: Path) -> None:
    first = checkpoint(tmp_path / "run")
    promote(first.parent / PROMOTED, first, [], None)
    moved = first.parent.rename(tmp_path / "run-1") / "best.ckpt"
    new = checkpoint(tmp_path / "new")
    assert promote(new.parent / PROMOTED, new, WHY, moved) == moved
    checkpoint(tmp_path / "run").write_bytes(b"another network, where the first one was")
    assert promote(tmp_path / PROMOTED, new, WHY, moved) == moved


def test_a_refused_network_stands_in_for_none_that_is_gone(tmp_path: Path) -> None:
    first, second, third = (checkpoint(tmp_path / name) for name in ("one", "two", "three"))
    promote(second.parent / PROMOTED, second, WHY, first)
    first.parent.rename(tmp_path / "one-1")
    assert promote(third.parent / PROMOTED, third, WHY, second) is None
    assert read_promoted(third.parent / PROMOTED) is None


def test_a_served_network_that_is_gone_is_named_without_a_hash(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path / "old"), checkpoint(tmp_path / "new")
    file = tmp_path / PROMOTED
    promote(file, old, [], None)
    old.unlink()
    assert promote(file, new, WHY, None) == old
    assert content(file)["sha256"] is None


def test_no_file_names_nothing(tmp_path: Path) -> None:
    assert read_promoted(tmp_path / PROMOTED) is None


@pytest.mark.parametrize(
    "text", [b'{"checkpoint": "/a/b', b"", b"\xff\xfe", b"[]", b"3", b"{}", b'{"checkpoint": null}']
)
def test_a_file_that_names_none_is_refused_and_left(tmp_path: Path, text: bytes) -> None:
    file, new = tmp_path / PROMOTED, checkpoint(tmp_path / "new")
    file.write_bytes(text)
    with pytest.raises(BadInput, match=r"promoted\.json: names no checkpoint; remove it, or"):
        read_promoted(file)
    with pytest.raises(BadInput, match=r"promoted\.json: names no checkpoint"):
        promote(file, new, WHY, None)
    assert file.read_bytes() == text
    assert promote(file, new, [], None) == new
    assert read_promoted(file) == new
