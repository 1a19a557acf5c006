"""What lies in a folder is read, or counted where it is left out."""

import os
from pathlib import Path

import pytest

from regrow.data.checks.remarks import Remarks
from regrow.data.names.listing import list_folders, list_images


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b.jfif", "c.gif", "deep/d.png")
    touch(tmp_path, "e.heic", "f.avif", "notes.txt", "g.xml", ".h.png", "._a.JPG", "Thumbs.db")
    touch(tmp_path, "__MACOSX/i.png", ".ipynb_checkpoints/j.png", "@eaDir/k.png", ".DS_Store")
    touch(tmp_path.parent / "beside", "l.png")
    (tmp_path / "link").symlink_to(tmp_path.parent / "beside")
    (tmp_path / "lost.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    remarks = Remarks()
    found = list_images(tmp_path, remarks, counts_others=True)
    names = [file.relative_to(tmp_path).as_posix() for file in found]
    assert names == ["a.JPG", "b.jfif", "c.gif", "deep/d.png"]
    told = {kind: value["first"] for kind, value in remarks.to_dict().items()}
    assert sorted(map(sorted, told.values())) == [
        [".h.png", ".ipynb_checkpoints", "@eaDir", "__MACOSX"],
        ["e.heic", "f.avif"],
        ["g.xml", "notes.txt", "pipe.png"],
        ["link"],
        ["lost.png"],
    ]


def test_folders_of_systems_are_none(tmp_path: Path) -> None:
    for name in ("a", "__MACOSX", "lost+found", ".git", "@eaDir", "$RECYCLE.BIN"):
        (tmp_path / name).mkdir()
    remarks = Remarks()
    assert [folder.name for folder in list_folders(tmp_path, remarks)] == ["a"]
    assert [value["count"] for value in remarks.to_dict().values()] == [5]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_locked_folder_is_counted(tmp_path: Path) -> None:
    touch(tmp_path, "locked/a.png")
    (tmp_path / "locked").chmod(0)
    remarks = Remarks()
    assert list_images(tmp_path, remarks) == []
    (tmp_path / "locked").chmod(0o700)
    assert [value["count"] for value in remarks.to_dict().values()] == [1]
