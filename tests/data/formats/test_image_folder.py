"""Folders of classes."""

from pathlib import Path

import pytest

from layouts import picture, rows, write
from regrow.data.formats import ImageFolder
from regrow.errors import BadInput


def test_folders_are_classes(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "1.png")
    picture(tmp_path / "cat" / "sub" / "2.JPG")
    content = ImageFolder().read(tmp_path)
    assert content.kind == "labels"
    assert content.classes == ["cat", "dog"]
    assert rows(content) == [("cat/sub/2.JPG", "cat", None), ("dog/1.png", "dog", None)]
    assert content.items[1].image == tmp_path / "dog" / "1.png"


def test_folders_of_splits(tmp_path: Path) -> None:
    for split in ("training", "valid", "test"):
        picture(tmp_path / split / "dog" / "1.png")
    (tmp_path / "train" / "cat").mkdir(parents=True)  # empty: no class
    content = ImageFolder().read(tmp_path)
    assert content.classes == ["dog"]
    assert sorted(rows(content)) == [
        ("test/dog/1.png", "dog", "test"),
        ("training/dog/1.png", "dog", "train"),
        ("valid/dog/1.png", "dog", "val"),
    ]


def test_folders_of_splits_by_any_of_their_names(tmp_path: Path) -> None:
    for name in ("Train/ant", "VALIDATION/ant", "Test/ant"):
        picture(tmp_path / name / "a.png")
    assert rows(ImageFolder().read(tmp_path)) == [
        ("Test/ant/a.png", "ant", "test"),
        ("Train/ant/a.png", "ant", "train"),
        ("VALIDATION/ant/a.png", "ant", "val"),
    ]


def test_folders_of_splits_and_classes_side_by_side_are_refused(tmp_path: Path) -> None:
    for name in ("train/ant", "bee"):
        picture(tmp_path / name / "a.png")
    with pytest.raises(BadInput, match=r"holds splits \(train\) beside other folders .*\(bee\)"):
        ImageFolder().read(tmp_path)
    (tmp_path / "bee" / "a.png").rename(tmp_path / "bee" / "notes.txt")
    assert rows(ImageFolder().read(tmp_path)) == [("train/ant/a.png", "ant", "train")]


def test_folders_ignore_what_is_no_image(tmp_path: Path) -> None:
    picture(tmp_path / "dog" / "1.png")
    for name in ("notes.txt", "Thumbs.db", "._1.png", ".ipynb_checkpoints/1.png"):
        write(tmp_path / "dog" / name, "no image")
    write(tmp_path / ".git" / "1.png", "no image")
    (tmp_path / "dog" / "folder.png").mkdir()
    assert rows(ImageFolder().read(tmp_path)) == [("dog/1.png", "dog", None)]


def test_images_without_a_folder_of_their_class_are_told_the_layout(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    with pytest.raises(BadInput, match=r"no images in it; expected .*<class>/<image>\.jpg"):
        ImageFolder().read(tmp_path)
