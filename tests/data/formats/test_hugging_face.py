"""Hugging Face's image folder, as its documentation shows it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import HuggingFace
from regrow.data.targets.labels import Boxes
from regrow.errors import BadInput


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (640, 480)).save(path)
    return path


def write(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    )
    return path


def refusal(root: Path, source: HuggingFace | None = None) -> str:
    with pytest.raises(BadInput) as refused:
        (source or HuggingFace()).read(root)
    return str(refused.value)


def detection(root: Path, key: str = "categories") -> None:
    """Write the example of the documentation, with one more image."""
    picture(root / "0001.png")
    picture(root / "0002.png")
    write(
        root / "metadata.jsonl",
        {"file_name": "0001.png", "objects": {"bbox": [[302.0, 109.0, 73.0, 52.0]], key: [0]}},
        {
            "file_name": "0002.png",
            "objects": {"bbox": [[10, 20, 30, 40], [1.5, 2, 3, 4]], key: [1, "10"]},
        },
    )


@pytest.mark.parametrize("key", ["categories", "category"])
def test_boxes_are_left_top_width_and_height(tmp_path: Path, key: str) -> None:
    detection(tmp_path, key)
    content = HuggingFace().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["0", "1", "10"])
    first, second = (item.target for item in content.items)
    assert isinstance(first, Boxes)
    assert isinstance(second, Boxes)
    assert (first.classes, first.xyxy.tolist()) == (("0",), [[302, 109, 375, 161]])
    assert second.classes == ("1", "10")
    assert second.xyxy.tolist() == [[10, 20, 40, 60], [1.5, 2, 4.5, 6]]


def test_objects_may_be_a_list_of_mappings(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    entry = {"bbox": [1, 2, 3, 4], "category": "ant"}
    write(tmp_path / "metadata.jsonl", {"file_name": "a.png", "objects": [entry, entry]})
    (item,) = HuggingFace().read(tmp_path).items
    assert isinstance(item.target, Boxes)
    assert item.target.xyxy.tolist() == [[1, 2, 4, 6]] * 2
    write(tmp_path / "metadata.jsonl", {"file_name": "a.png", "objects": []})
    (item,) = HuggingFace(names=["ant"]).read(tmp_path).items
    assert isinstance(item.target, Boxes)
    assert item.target.xyxy.shape == (0, 4)


def test_a_table_may_hold_objects_as_text(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    objects = '{""bbox"": [[1, 2, 3, 4]], ""categories"": [""ant""]}'
    write(tmp_path / "metadata.csv", "file_name,objects", f'a.png,"{objects}"')
    (item,) = HuggingFace().read(tmp_path).items
    assert isinstance(item.target, Boxes)
    assert item.target.xyxy.tolist() == [[1, 2, 4, 6]]


def test_classes_in_a_table_a_split(tmp_path: Path) -> None:
    for split in ("train", "validation"):
        picture(tmp_path / split / "1.png")
        write(tmp_path / split / "metadata.csv", "file_name,label", f"1.png,{split[0]}")
    content = HuggingFace().read(tmp_path)
    assert (content.kind, content.classes) == ("labels", ["t", "v"])
    found = [(item.name, item.target, item.split) for item in content.items]
    assert found == [("train/1.png", "t", "train"), ("validation/1.png", "v", "val")]


def test_one_file_may_name_images_of_several_folders(tmp_path: Path) -> None:
    rows = []
    for name in ("train/1.png", "test/2.png", "3.png"):
        picture(tmp_path / name)
        rows.append({"file_name": name, "label": len(rows)})
    write(tmp_path / "metadata.jsonl", *rows)
    content = HuggingFace(names=["ant", "bee", "cat", "dog"]).read(tmp_path)
    assert content.classes == ["ant", "bee", "cat", "dog"]
    found = [(item.name, item.target, item.split) for item in content.items]
    assert found == [
        ("train/1.png", "ant", "train"),
        ("test/2.png", "bee", "test"),
        ("3.png", "cat", None),
    ]


def test_another_column_may_be_the_label(tmp_path: Path) -> None:
    picture(tmp_path / "1.png")
    write(tmp_path / "metadata.csv", "file_name,label,breed", "1.png,dog,pug")
    assert HuggingFace(column="breed").read(tmp_path).items[0].target == "pug"
    assert HuggingFace().read(tmp_path).items[0].target == "dog"
    assert "needs file_name and colour, has" in refusal(tmp_path, HuggingFace(column="colour"))


def test_images_without_a_row_are_told(tmp_path: Path) -> None:
    detection(tmp_path)
    picture(tmp_path / "0003.png")
    lines = HuggingFace().read(tmp_path).remarks.lines
    assert lines == ["1 image left out that no annotation lists: 0003.png"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"file_name": "a.png", "text": "a dog"}, "needs file_name and label or objects, has"),
        ({"label": "ant"}, "needs file_name and label or objects"),
        ({"file_name": "gone.png", "label": "ant"}, "no image gone.png below"),
        ({"file_name": "../a.png", "label": "ant"}, "no image ../a.png below"),
        (
            {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]]}},
            "its objects are none ('category')",
        ),
        ({"file_name": "a.png", "label": float("nan")}, "the class nan is none"),
        (
            {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": {"ant": 0}}},
            "its objects are none (categories is",
        ),
        (
            {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3]], "category": [1]}},
            "its objects are none",
        ),
        (
            {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": []}},
            "1 boxes and 0 categories",
        ),
        (
            {"file_name": "a.png", "objects": {"bbox": [["x", 2, 3, 4]], "category": [1]}},
            "its objects are none",
        ),
        (
            {"file_name": "a.png", "objects": {"bbox": [[1, 2, 3, 4]], "category": [[1]]}},
            "the class [1] is none",
        ),
        ({"file_name": "a.png", "objects": "{"}, "not JSON"),
        ("[1]", "not a JSON object"),
        ("{", "not JSON"),
    ],
)
def test_a_bad_row_is_refused_by_its_line(tmp_path: Path, row: Any, message: str) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "metadata.jsonl", row)
    line = refusal(tmp_path)
    assert "metadata.jsonl line 1" in line
    assert message in line


@pytest.mark.parametrize("label", [2, -1, "x", 0.5])
def test_a_number_that_no_name_has_is_refused(tmp_path: Path, label: Any) -> None:
    picture(tmp_path / "a.png")
    write(tmp_path / "metadata.jsonl", {"file_name": "a.png", "label": label})
    line = refusal(tmp_path, HuggingFace(names=["ant", "bee"]))
    assert f"the class {label} is none of the 2 of data.source.names" in line


def test_what_contradicts_itself_is_refused(tmp_path: Path) -> None:
    assert "no metadata.jsonl nor metadata.csv in it" in refusal(tmp_path)
    detection(tmp_path)
    write(tmp_path / "metadata.csv", "file_name,label")
    assert "has metadata.jsonl and metadata.csv; remove one of them" in refusal(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("")
    (tmp_path / "metadata.csv").unlink()
    assert "metadata.jsonl list no images" in refusal(tmp_path)
    write(
        tmp_path / "metadata.jsonl",
        {"file_name": "0001.png", "label": "ant"},
        {"file_name": "0002.png", "objects": {"bbox": [], "category": []}},
    )
    assert "rows with boxes and with classes; set data.source.column" in refusal(tmp_path)


def test_groups_go_by_names(tmp_path: Path) -> None:
    detection(tmp_path)
    items = HuggingFace(group=r"^(\d{3})").read(tmp_path).items
    assert [item.group for item in items] == ["000", "000"]
    assert np.unique([item.name for item in items]).size == 2
