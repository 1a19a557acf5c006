"""The chain of checkpoints is printed from the first training on, whether its files are there."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ancestors import made

from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import load
from regrow.pipelines import commands, lineage_table
from regrow.pipelines.training.session import Session
from regrow.scripts import lineage, train

Words = Callable[..., list[str]]
Folder = Callable[..., Path]
Chain = list[tuple[str, str | None, str | None]]


@pytest.fixture
def three(tmp_path: Path, made_once: Callable[..., None]) -> list[Path]:
    """Train, warm-start on grown data, and prune; return the three checkpoints."""

    def fill(folder: Folder, words: Words) -> None:
        short, root = "--fit.epochs=1", folder("old")
        base = root.parents[1]
        commands.train(words(root, "first", short))
        new = folder("new", ("blue", "green", "red"))
        commands.train(words(new, "grown", short, f"--warm-start={base / 'first' / 'best.ckpt'}"))
        options = ["--clock.runtime=torch", "--search=null", "--num_steps=1", "--recovery.epochs=0"]
        options += ["--budget.max_drop=1", f"--run={base / 'small'}"]
        commands.prune([f"--checkpoint={base / 'grown' / 'best.ckpt'}", *options])

    made_once("three", fill)
    first, grown = tmp_path / "first" / "best.ckpt", tmp_path / "grown" / "best.ckpt"
    return [first, grown, tmp_path / "small" / "pruned.ckpt"]


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert lineage.main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def in_short(figures: dict[str, Any]) -> Chain:
    return [(link["checkpoint"], link["change"], link["path"]) for link in figures["chain"]]


def test_a_chain_survives_the_files_of_its_parents(
    three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hashes = [file_hash(path) for path in three]
    commands = [load(path).provenance.command for path in three]
    changes = [None, "+36 images, +1 class", "+0 images"]
    figures = printed(capsys, str(three[-1].parent))
    assert figures["end"] is None
    expected = list(zip(hashes, changes, map(str, three), strict=True))
    assert in_short(figures) == expected
    first, grown, small = figures["chain"]
    assert [link["command"] for link in figures["chain"]] == commands
    assert [link["parent"] for link in figures["chain"]] == [None, *hashes[:-1]]
    assert first["num_images"] == {"train": 24, "val": 24, "test": 24}
    assert grown["num_images"] == {"train": 36, "val": 36, "test": 36}
    assert (first["num_classes"], first["classes"]) == (2, ["green", "red"])
    assert grown["classes"] == ["blue", "green", "red"]
    for path, link in zip(three, figures["chain"], strict=True):
        own = load(path).provenance
        assert link["data"] == own.data
        assert link["scores"]["val/accuracy"] == own.scores["val/accuracy"]
        assert link["date"] == own.date > "2026"
    assert small["scores"].keys() == {"val/accuracy", "test/accuracy"}

    # One parent is moved to another name, the other is gone.
    shutil.rmtree(three[0].parent)
    moved = tmp_path / "moved.ckpt"
    three[1].rename(moved)
    after = printed(capsys, str(three[-1]))
    paths = [None, str(moved), str(three[-1])]
    assert in_short(after) == list(zip(hashes, changes, paths, strict=True))
    without = [{**link, "path": None} for link in after["chain"]]
    assert without == [{**link, "path": None} for link in figures["chain"]]


def test_a_resumed_run_remembers_its_ancestors(
    folder: Folder, words: Words, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, first = folder(), tmp_path / "first" / "best.ckpt"
    commands.train(words(root, "first", "--fit.epochs=1"))
    start = f"--warm-start={first}"
    whole = Session.train

    def stopped(self: Session) -> None:
        whole(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Session, "train", stopped)
        assert train.main(words(root, "second", start)) == 143
    before = load(tmp_path / "second" / "last.ckpt").provenance
    assert [entry["checkpoint"] for entry in before.lineage] == [file_hash(first)]
    commands.train(words(root, "second", "--resume=auto"))
    after = load(tmp_path / "second" / "last.ckpt").provenance
    assert after.lineage == before.lineage
    assert (after.date, after.change, after.parent) == (before.date, "+0 images", file_hash(first))


def test_checkpoints_from_before_lineage_are_followed_through_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = made(tmp_path / "a" / "best.ckpt", 3, is_old=True)
    second = made(tmp_path / "b" / "best.ckpt", 5, first, is_old=True)
    third = made(tmp_path / "c" / "best.ckpt", 4, second, is_old=True)
    figures = printed(capsys, str(third))
    assert figures["end"] is None
    assert in_short(figures) == [
        (file_hash(first), None, str(first)),
        (file_hash(second), "+2 images", str(second)),
        (file_hash(third), "+0 images, -1 image", str(third)),
    ]
    elsewhere = tmp_path / "far" / "away" / "from" / "here.ckpt"
    elsewhere.parent.mkdir(parents=True)
    missing = file_hash(first)
    first.rename(elsewhere)
    figures = printed(capsys, str(third))
    assert [link["path"] for link in figures["chain"]] == [str(second), str(third)]
    assert figures["end"] == (
        f"parent {missing[:12]} not found below {tmp_path}; {file_hash(second)[:12]}, "
        "which was made from it, was written before lineage was kept"
    )
    figures = printed(capsys, str(third), f"--folders=[{elsewhere.parent}]")
    assert [link["path"] for link in figures["chain"]] == [
        str(path) for path in (elsewhere, second, third)
    ]
    assert figures["end"] is None
    # The text says the same.
    assert lineage.main([str(third)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"breaks off: parent {missing[:12]} not found below {tmp_path}" in said


def test_a_folder_without_a_checkpoint_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lineage.main([str(tmp_path)]) == 2
    assert "no run with a checkpoint (pruned.ckpt, best.ckpt" in capsys.readouterr().err
    (tmp_path / "best.ckpt").write_bytes(b"anything")
    with pytest.raises(BadInput, match=r"best\.ckpt: "):
        lineage_table.lineage([str(tmp_path)])
