"""`promoted.json` moves to a network that may be served, and stays otherwise."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from regrow.errors import BadInput
from regrow.incremental.gating.promotion import PROMOTED, promote, read_promoted
from regrow.models.checkpoint import save
from regrow.models.classification import Classification
from regrow.models.segmentation import Segmentation

WHY = ["cat: accuracy 0.1000 is below the floor of 0.5"]


def checkpoint(folder: Path, classes: tuple[str, ...] = ("ant", "bee")) -> Path:
    """Write a network of its own, by the name of its folder."""
    folder.mkdir(exist_ok=True)
    torch.manual_seed(sum(folder.name.encode()))
    task = Classification([*classes], (32, 32), net_args={"width": 4})
    task.provenance.command = folder.name
    save(folder / "best.ckpt", task)
    return folder / "best.ckpt"


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def content(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8"))


def test_a_network_that_passes_is_named_with_its_hash(tmp_path: Path, monkeypatch) -> None:
    new = checkpoint(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    file = Path("new") / PROMOTED
    assert promote(file, Path("new/best.ckpt"), [], None) == Path("new/best.ckpt")
    assert content(file) == {"checkpoint": "best.ckpt", "sha256": sha256(new), "refused": None}
    monkeypatch.chdir("/")
    assert read_promoted(new.parent / PROMOTED) == new


def test_a_refused_network_leaves_its_parent_to_be_served(tmp_path: Path) -> None:
    old, new = checkpoint(tmp_path / "old"), checkpoint(tmp_path / "new")
    file = new.parent / PROMOTED
    assert promote(file, new, WHY, old) == old
    assert content(file) == {
        "checkpoint": "../old/best.ckpt",
        "sha256": sha256(old),
        "refused": {"checkpoint": "best.ckpt", "why": WHY},
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
    assert content(file)["sha256"] == sha256(first)
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
    checkpoint(new.parent, ("ant", "bee", "cat"))
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
    checkpoint(tmp_path / "run", ("ant", "bee", "cat"))  # another, where the first one was
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


def test_a_folder_that_is_moved_goes_on_serving_its_network(tmp_path: Path) -> None:
    box = tmp_path / "box"
    box.mkdir()
    old, new = checkpoint(box / "old"), checkpoint(box / "new")
    promote(new.parent / PROMOTED, new, WHY, old)
    promote(box / "served" / PROMOTED, new, [], None)
    moved = box.rename(tmp_path / "elsewhere")
    checkpoint(tmp_path / "box")  # something is where it was
    assert read_promoted(moved / "new" / PROMOTED) == moved / "old" / "best.ckpt"
    assert read_promoted(moved / "served" / PROMOTED) == moved / "new" / "best.ckpt"
    (moved / "link").symlink_to(moved / "served")
    assert read_promoted(moved / "link" / PROMOTED) == moved / "new" / "best.ckpt"


def test_a_file_of_before_with_an_absolute_path_is_read_where_it_was_moved(tmp_path: Path) -> None:
    run = checkpoint(tmp_path / "run")
    file = run.parent / PROMOTED
    file.write_text(json.dumps({"checkpoint": str(run), "sha256": sha256(run), "refused": None}))
    assert read_promoted(file) == run
    moved = run.parent.rename(tmp_path / "moved")
    assert read_promoted(moved / PROMOTED) == moved / "best.ckpt"
    other = checkpoint(tmp_path / "run", ("ant", "bee", "cat"))
    assert read_promoted(moved / PROMOTED) == moved / "best.ckpt"
    (moved / "best.ckpt").unlink()
    assert read_promoted(moved / PROMOTED) == other


def unfit(path: Path) -> list[Path]:
    """Write files that no network could be served from, each with some hash."""
    path.mkdir()
    files = [
        path / name for name in ("text", "plain.ckpt", "masks.ckpt", "other.ckpt", "torn.ckpt")
    ]
    files[0].write_text("secret")
    torch.save({"weight": torch.zeros(1)}, files[1])
    save(files[2], Segmentation(["ant", "bee"], (32, 32)))
    save(files[3], Classification(["road", "sky"], (32, 32)))
    save(files[4], Classification(["ant", "bee"], (32, 32)))
    files[4].write_bytes(files[4].read_bytes()[:-500])
    return files


def test_nothing_is_named_that_could_not_be_served(tmp_path: Path) -> None:
    old, new, file = checkpoint(tmp_path / "old"), checkpoint(tmp_path / "new"), tmp_path / PROMOTED
    promote(file, old, [], None)
    before = file.read_bytes()
    for other in unfit(tmp_path / "unfit"):
        if other.name in ("text", "plain.ckpt", "torn.ckpt"):
            with pytest.raises(BadInput, match=rf"promoted\.json: cannot name .*{other.name}"):
                promote(file, other, [], old)
        assert file.read_bytes() == before
        # Nor does a file stay that names it, with its hash; nor is it what stands for a parent.
        told = json.dumps(
            {"checkpoint": str(other), "sha256": sha256(other), "refused": {"why": []}}
        )
        beside = tmp_path / "beside" / PROMOTED
        beside.parent.mkdir(exist_ok=True)
        beside.write_text(told)
        with pytest.raises(BadInput, match=r"promoted\.json: (names no checkpoint|cannot name)"):
            promote(beside, new, WHY, old)
        assert beside.read_text() == told
        (old.parent / PROMOTED).write_text(told)
        assert promote(tmp_path / "third.json", new, WHY, old) is None


@pytest.mark.parametrize("named", ["", "\0", 5, [], {"a": 1}])
def test_what_is_no_path_is_refused(named: Any, tmp_path: Path) -> None:
    (tmp_path / PROMOTED).write_text(json.dumps({"checkpoint": named, "sha256": None}))
    with pytest.raises(BadInput, match=r"promoted\.json: names no checkpoint; remove it, or"):
        read_promoted(tmp_path / PROMOTED)
