"""Where YOLO's classes, images and label files lie, as its tools lay them out."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.formats import Yolo
from regrow.data.formats.tools.yolo_files import find_names, find_place, label_places, read_layout
from regrow.errors import BadInput


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8)).save(path)
    return path


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def layout(root: Path, content: Any = None) -> tuple[dict[str, str | None], Remarks]:
    """Read the split of each image by its name below the root."""
    if content is not None:
        write(root / "data.yaml", {"names": ["ant"], **content})
    remarks = Remarks()
    found = read_layout(root, None, Faults(), remarks)
    return {p.relative_to(root).as_posix(): split for p, split in found.splits.items()}, remarks


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for name in ("train/images/a", "valid/images/b", "images/train/c", "images/val/d", "e"):
        picture(root / f"{name}.png")
    return root


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        ({"train": "images/train", "val": "images/val"}, {"c": "train", "d": "val"}),
        ({"train": "../train/images", "val": "../valid/images"}, {"a": "train", "b": "val"}),
        ({"train": "./images/train/"}, {"c": "train"}),
        ({"path": ".", "train": "images/train"}, {"c": "train"}),
        ({"path": "../datasets/set", "train": "images/train"}, {"c": "train"}),
        ({"path": "/content/datasets/set", "train": "images/train"}, {"c": "train"}),
        ({"path": "C:\\data\\set", "train": "images\\train"}, {"c": "train"}),
        ({"train": "/content/set/train/images"}, {"a": "train"}),
        ({"path": "images", "train": "train", "val": "val"}, {"c": "train", "d": "val"}),
        ({"train": ["images/train", "train/images"]}, {"a": "train", "c": "train"}),
        ({"train": "images/train", "test": "valid/images"}, {"c": "train", "b": "test"}),
        ({"train": "images/train", "val": None, "test": ""}, {"c": "train"}),
    ],
)
def test_folders_of_splits_are_found_below_the_root(
    root: Path, content: dict[str, Any], wanted: dict[str, str]
) -> None:
    found, remarks = layout(root, content)
    assert {Path(name).stem: split for name, split in found.items()} == wanted
    assert remarks.lines == []


def test_without_splits_all_images_are_taken_by_their_folders(root: Path) -> None:
    found, _ = layout(root, {"nc": 1})
    splits = {"a": "train", "b": "val", "c": "train", "d": "val", "e": None}
    assert {Path(name).stem: split for name, split in found.items()} == splits


def test_a_list_names_images_below_it_or_the_root(root: Path) -> None:
    lines = ["./images/train/c.png", "", "train/images/a.png"]
    write(root / "lists" / "train.txt", "\n".join(lines) + "\n")
    found, _ = layout(root, {"train": "lists/train.txt", "val": "images/val"})
    assert found == {
        "images/train/c.png": "train",
        "train/images/a.png": "train",
        "images/val/d.png": "val",
    }
    write(root / "lists" / "train.txt", "/content/set/images/train/c.png\n")
    found, _ = layout(root, {"train": "lists/train.txt"})
    assert found == {"images/train/c.png": "train"}


def test_a_line_of_a_list_without_its_image_is_a_fault(root: Path) -> None:
    write(root / "train.txt", "images/train/c.png\nimages/train/gone.png\n")
    write(root / "data.yaml", {"names": ["ant"], "train": "train.txt"})
    faults = Faults()
    read_layout(root, None, faults, Remarks())
    with pytest.raises(BadInput, match=r"train\.txt line 2: no image images/train/gone\.png"):
        faults.refuse()


def test_nothing_outside_of_the_root_is_taken(root: Path) -> None:
    picture(root.parent / "other" / "images" / "x.png")
    for value in ("../other/images", str(root.parent / "other" / "images")):
        write(root / "data.yaml", {"names": ["ant"], "train": value})
        with pytest.raises(BadInput, match=r"train is .*other/images, which is not below .*/set"):
            read_layout(root, None, Faults(), Remarks())
    for value in ("\0", "a\0b", "/", "//", "..", "x" * 9000, "y" * 300, "../.."):
        place = find_place(root, root, None, value)
        assert place is None or place.resolve().is_relative_to(root.resolve())
    # With the folder above as root, the file may name what lies beside its own folder.
    write(root / "data.yaml", {"names": ["ant"], "train": "../other/images"})
    found = read_layout(root.parent, "set/data.yaml", Faults(), Remarks()).splits
    assert [*found] == [root.parent / "other" / "images" / "x.png"]


def test_a_split_for_evaluation_that_is_not_there_is_told(root: Path) -> None:
    found, remarks = layout(root, {"train": "images/train", "test": "../test/images"})
    assert [*found] == ["images/train/c.png"]
    (line,) = remarks.lines
    assert line == (
        "1 folder of splits left out that data.yaml names and that is not there: "
        "test (../test/images)"
    )


def test_images_of_several_splits_are_told_and_taken_for_the_last(root: Path) -> None:
    found, remarks = layout(root, {"train": ["images/train", "images/val"], "val": "images/val"})
    assert found == {"images/train/c.png": "train", "images/val/d.png": "val"}
    assert "images/val/d.png" in remarks.lines[0]
    with pytest.raises(BadInput, match="all images of train are of val or test too; name other"):
        layout(root, {"train": "images/train", "val": "images/train"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "not YOLO's layout"),
        ("names: [a", "not YAML"),
        ({"train": "images/train"}, "names is None, no list of class names"),
        ({"names": [], "train": "images/train"}, r"names is \[\], no list"),
        ({"names": "ant", "train": "images/train"}, "names is ant, no list"),
        ({"names": [["ant"]], "train": "images/train"}, "is no text"),
        ({"names": {"x": "ant"}, "train": "images/train"}, "invalid literal|not a whole number"),
        ({"names": {-1: "ant"}, "train": "images/train"}, "class number -1 is not a whole"),
        ({"names": ["ant", "ant "], "train": "images/train"}, "ant is named twice"),
        ({"names": ["ant"], "nc": 2, "train": "images/train"}, "nc is 2, and names has 1"),
        ({"nc": 3_000_000, "train": "images/train"}, r"nc 3000000 is not .* \[0, 300000\]"),
        ({"names": ["ant"], "nc": "x", "train": "images/train"}, "invalid literal|nc x is not"),
        ({"names": ["ant"], "train": None}, "names no images; give train"),
        ({"names": ["ant"], "train": 3}, "train is 3; give a folder"),
        ({"names": ["ant"], "train": [["images"]]}, "train is .*; give a folder"),
        ({"names": ["ant"], "train": "nowhere"}, "train is nowhere, which is not below"),
        ({"names": ["ant"], "train": "images/train", "kpt_shape": [17, 3]}, "keypoints"),
    ],
)
def test_another_layout_is_refused_by_its_file(root: Path, content: Any, message: str) -> None:
    file = write(root / "data.yaml", content)
    with pytest.raises(BadInput, match=message) as refused:
        read_layout(root, None, Faults(), Remarks())
    assert str(file) in str(refused.value)


def test_names_are_a_list_or_a_mapping_or_numbers(root: Path) -> None:
    for names, wanted in (
        ({"names": ["ant", " bee"]}, {0: "ant", 1: "bee"}),
        ({"names": {0: "ant", 1: "bee"}, "nc": 2}, {0: "ant", 1: "bee"}),
        ({"names": {1: "bee", "0": "ant"}}, {1: "bee", 0: "ant"}),
        ({"names": [1, 2]}, {0: "1", 1: "2"}),
        ({"nc": 2}, {0: "0", 1: "1"}),
    ):
        write(root / "data.yaml", {"train": "images/train", **names})
        assert read_layout(root, None, Faults(), Remarks()).names == wanted


def test_the_file_of_the_classes_is_found(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no data\.yaml in it, nor classes\.txt"):
        find_names(tmp_path)
    listed = write(tmp_path / "classes.txt", "ant\n")
    assert find_names(tmp_path) == listed
    write(tmp_path / "other.yaml", {"data": {}})
    assert find_names(tmp_path) == listed
    own = write(tmp_path / "coco8.yml", {"names": ["ant"]})
    assert find_names(tmp_path) == own
    write(tmp_path / "more.yaml", {"names": ["ant"]})
    with pytest.raises(BadInput, match=r"coco8\.yml, more\.yaml all name classes; say which"):
        find_names(tmp_path)
    usual = write(tmp_path / "data.yaml", {})
    assert find_names(tmp_path) == usual
    assert find_names(tmp_path, "more.yaml") == tmp_path / "more.yaml"
    with pytest.raises(BadInput, match=r"gone\.yaml: no such file; set data\.source\.file"):
        find_names(tmp_path, "gone.yaml")


def box(file: Path) -> None:
    write(file, "1 0.5 0.5 0.5 0.5\n")


def test_exports_of_labelimg_have_all_in_one_folder(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    box(tmp_path / "a.txt")
    write(tmp_path / "classes.txt", "ant\r\nbee\r\n\r\n")
    content = Yolo().read(tmp_path)
    assert content.classes == ["ant", "bee"]
    assert [(i.target.classes, i.split) for i in content.items] == [(("bee",), None)]  # type: ignore[union-attr]
    assert content.remarks.lines == []


def test_exports_of_cvat_have_a_folder_a_split(tmp_path: Path) -> None:
    for folder in ("obj_train_data", "obj_valid_data"):
        picture(tmp_path / folder / "a.png")
        box(tmp_path / folder / "a.txt")
    write(tmp_path / "obj.names", "ant\nbee\n")
    write(tmp_path / "train.txt", "data/obj_train_data/a.png\n")
    content = Yolo().read(tmp_path)
    assert [item.split for item in content.items] == ["train", "val"]


def test_exports_of_label_studio_have_folders_of_images_and_labels(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    box(tmp_path / "labels" / "a.txt")
    write(tmp_path / "classes.txt", "ant\nbee\n")
    assert [item.split for item in Yolo().read(tmp_path).items] == [None]


def test_labels_lie_in_the_last_folder_of_that_name_or_beside(tmp_path: Path) -> None:
    image = tmp_path / "images" / "x" / "images" / "train" / "a.b.jpg"
    assert label_places(tmp_path, image) == (
        tmp_path / "images" / "x" / "labels" / "train" / "a.b.txt",
        tmp_path / "images" / "x" / "images" / "train" / "a.b.txt",
    )
    assert label_places(tmp_path, tmp_path / "a.jpg") == (tmp_path / "a.txt",)
