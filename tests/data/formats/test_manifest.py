"""Lists of images with a label each."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from layouts import picture, rows, write
from regrow.data.formats import ManifestFile
from regrow.errors import BadInput


def test_csv_with_splits_and_groups(tmp_path: Path) -> None:
    for name in "abc":
        picture(tmp_path / "images" / f"{name}.png")
    with (tmp_path / "list.csv").open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(["image", "label", "split", "group"])
        table.writerow(["images/a.png", "dog, big", "training", "7"])
        table.writerow(["images/b.png", "cat", "", ""])
        table.writerow(["images/c.png", "0", "validation"])
    content = ManifestFile().read(tmp_path)
    assert content.classes == ["0", "cat", "dog, big"]
    assert rows(content) == [
        ("images/a.png", "dog, big", "train"),
        ("images/b.png", "cat", None),
        ("images/c.png", "0", "val"),
    ]
    assert [item.group for item in content.items] == ["7", None, None]
    assert content.items[0].image == tmp_path / "images" / "a.png"


def test_json_lines(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    lines = [{"image": "a.png", "label": 0, "group": 3}, {"image": "b.png", "label": "x"}]
    write(tmp_path / "list.jsonl", "\n\n".join(map(json.dumps, lines)) + "\n")
    content = ManifestFile("list.jsonl").read(tmp_path)
    assert rows(content) == [("a.png", "0", None), ("b.png", "x", None)]
    assert [item.group for item in content.items] == ["3", None]


def test_a_sagemaker_augmented_manifest(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / "photos" / f"{name}.png")
    lines: list[dict[str, Any]] = [
        {
            "source-ref": "s3://bucket/some/prefix/photos/a.png",
            "class": 1,
            "class-metadata": {"class-name": "dog", "confidence": 0.9, "human-annotated": "yes"},
        },
        {"source-ref": "s3://bucket/photos/b.png", "class": 0, "class-metadata": {}},
        {"source-ref": "photos/c.png", "class": "cat", "class-metadata": None, "split": "test"},
    ]
    write(tmp_path / "output.manifest", "\n".join(map(json.dumps, lines)))
    content = ManifestFile().read(tmp_path)
    assert content.classes == ["0", "cat", "dog"]
    assert [item.target for item in content.items] == ["dog", "0", "cat"]
    assert [item.split for item in content.items] == [None, None, "test"]
    assert content.items[0].image == tmp_path / "photos" / "a.png"


def test_a_list_in_each_folder_of_a_split(tmp_path: Path) -> None:
    for folder, label in (("train", "ant"), ("validation", "bee")):
        picture(tmp_path / folder / "a.png")
        write(tmp_path / folder / "list.csv", f"image,label\na.png,{label}\n")
    (tmp_path / "test").mkdir()
    assert rows(ManifestFile().read(tmp_path)) == [
        ("train/a.png", "ant", "train"),
        ("validation/a.png", "bee", "val"),
    ]
    write(tmp_path / "train" / "more.csv", "image,label\n")
    with pytest.raises(BadInput, match="train: 2 lists of images in it"):
        ManifestFile().read(tmp_path)


def test_a_group_may_be_number_zero(tmp_path: Path) -> None:
    lines = [{"image": picture(tmp_path / "a.png").name, "label": 0, "group": 0}]
    write(tmp_path / "list.jsonl", "\n".join(map(json.dumps, lines)))
    (item,) = ManifestFile().read(tmp_path).items
    assert (item.target, item.group) == ("0", "0")


def test_a_list_may_name_links_but_nothing_outside(tmp_path: Path) -> None:
    picture(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.png").symlink_to(tmp_path / "elsewhere" / "a.png")
    write(root / "list.csv", "image,label\na.png,ant\n")
    assert rows(ManifestFile().read(root)) == [("a.png", "ant", None)]
    picture(tmp_path / "elsewhere" / "b.png")
    for name in ("../elsewhere/b.png", "x" * 5000):
        write(root / "list.csv", f"image,label\n{name},ant\n")
        with pytest.raises(BadInput, match=r"list\.csv line 2: no image"):
            ManifestFile().read(root)


def test_another_label_attribute(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    line = {"source-ref": "a.png", "kind-metadata": {"class-name": "dog"}, "class": "no"}
    write(tmp_path / "list.manifest", line)
    assert ManifestFile(attribute="kind").read(tmp_path).classes == ["dog"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.csv", "image,label\na.png,x\n,x\n", "l.csv line 3: needs an image and a label"),
        ("l.csv", "file,label\na.png,x\n", "l.csv line 2: needs an image and a label"),
        ("l.csv", "image,label\na.png,\n", "l.csv line 2: needs an image and a label"),
        ("l.csv", "image,label\n", "l.csv: lists no images"),
        ("l.csv", "", "l.csv: lists no images"),
        ("l.jsonl", '{"image": "a.png", "label": ["x", "y"]}', "label .* is not one class name"),
        ("l.csv", "image,label\nb.png,x\n", "l.csv line 2: no image b.png below"),
        ("l.csv", "image,label\n../out.png,x\n", "l.csv line 2: no image ../out.png below"),
        ("l.csv", "image,label,split\na.png,x,fold1\n", "line 2: the split 'fold1' is not train"),
        ("l.jsonl", '{"image": "a.png", "label": "x", "split": ["val"]}', "line 1: the split"),
        ("l.jsonl", '{"image": "a.png"', "l.jsonl line 1: not JSON"),
        ("l.jsonl", '\n["a.png"]', "l.jsonl line 2: not a JSON object"),
        ("l.manifest", '{"source-ref": "a.png"}', "line 1: needs an image and a label"),
    ],
)
def test_lists_with_mistakes_are_refused_by_line(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    picture(tmp_path / "data" / "a.png")
    picture(tmp_path / "out.png")
    write(tmp_path / "data" / name, text)
    with pytest.raises(BadInput, match=message) as found:
        ManifestFile().read(tmp_path / "data")
    assert "\n" not in str(found.value)


def test_lists_that_cannot_be_found_or_read(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "image,label\n")
    write(tmp_path / "b.csv", "image,label\n")
    with pytest.raises(BadInput, match=r"2 lists of images in it; name one, data\.source\.file"):
        ManifestFile().read(tmp_path)
    with pytest.raises(BadInput, match=r"c\.csv: no such list of images"):
        ManifestFile("c.csv").read(tmp_path)
    (tmp_path / "a.csv").write_bytes("image,label\nä.png,x".encode("latin-1"))
    with pytest.raises(BadInput, match=r"a\.csv: cannot be read as UTF-8"):
        ManifestFile("a.csv").read(tmp_path)
    write(tmp_path / "a.csv", f"image,label\n{'a' * 200_000},x")
    with pytest.raises(BadInput, match=r"a\.csv: not CSV"):
        ManifestFile("a.csv").read(tmp_path)
