"""Formats that the library labelformat reads, in files written by hand."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from regrow.data.described import build_data
from regrow.data.formats import LabelFormat
from regrow.data.targets.labels import Boxes
from regrow.errors import BadInput


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20)).save(path)


def boxes(root: Path, source: LabelFormat) -> dict[str, list[tuple[str, list[float]]]]:
    found = {}
    for item in source.read(root).items:
        assert isinstance(item.target, Boxes)
        pairs = zip(item.target.classes, item.target.xyxy.tolist(), strict=True)
        found[item.name] = [*pairs]
    return found


KITTI = LabelFormat("kitti", {"input_folder": "labels", "category_names": "Car,Van"})


def kitti(root: Path) -> None:
    pytest.importorskip("labelformat")
    (root / "labels").mkdir()
    for name in "ab":
        picture(root / "images" / f"{name}.png")
    # Type, truncated, occluded, alpha, then left, top, right, bottom, and seven numbers in 3D.
    rest = "1.5 1.6 3.9 1.0 2.0 8.0 0.0"
    row = f"Van 0.00 0 -1.57 10.5 2.0 30.0 18.0 {rest}\n"
    (root / "labels" / "a.txt").write_text(row)
    (root / "labels" / "b.txt").write_text("")


def test_kitti(tmp_path: Path) -> None:
    kitti(tmp_path)
    content = KITTI.read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["Car", "Van"])
    assert boxes(tmp_path, KITTI) == {
        "images/a.png": [("Van", [10.5, 2, 30, 18])],
        "images/b.png": [],
    }
    assert content.items[0].declared == (20, 40, 0)


def test_cvat(tmp_path: Path) -> None:
    pytest.importorskip("labelformat")
    picture(tmp_path / "images" / "train" / "a.png")
    (tmp_path / "a.xml").write_text(
        "<annotations><meta><task><labels><label><name>ant</name></label></labels></task></meta>"
        '<image id="0" name="train/a.png" width="40" height="20">'
        '<box label="ant" xtl="1.5" ytl="2" xbr="9" ybr="10"/></image></annotations>'
    )
    source = LabelFormat("cvat", {"input_file": "a.xml"}, group="(a)")
    assert boxes(tmp_path, source) == {"images/train/a.png": [("ant", [1.5, 2, 9, 10])]}
    (item,) = source.read(tmp_path).items
    assert (item.split, item.group) == ("train", "a")


def test_labelbox_names_images_by_a_key_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("labelformat")
    picture(tmp_path / "images" / "a.png")
    box = {"left": 1, "top": 2, "width": 3, "height": 4}
    objects = [{"annotation_kind": "ImageBoundingBox", "name": "ant", "bounding_box": box}]
    row = {
        "data_row": {"global_key": "x.png", "external_id": "a.png"},
        "media_attributes": {"width": 40, "height": 20},
        "projects": {"p": {"labels": [{"annotations": {"objects": objects}}]}},
    }
    (tmp_path / "a.ndjson").write_text(json.dumps(row) + "\n")
    arguments = {"input_file": "a.ndjson", "category_names": "ant", "filename_key": "external_id"}
    assert boxes(tmp_path, LabelFormat("labelbox", arguments)) == {
        "images/a.png": [("ant", [1, 2, 4, 6])]
    }
    arguments["filename_key"] = "name"
    with pytest.raises(BadInput, match=r"arguments\.filename_key is name: 'name' is not a valid"):
        LabelFormat("labelbox", arguments).read(tmp_path)


def test_without_the_library_the_way_out_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "labelformat", None)
    monkeypatch.setitem(sys.modules, "labelformat.formats", None)
    with pytest.raises(BadInput, match=r'not installed; pip install "regrow\[formats\]"'):
        KITTI.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nothing", {}, "data.source.format is nothing; labelformat has .*kitti"),
        (
            "kitti",
            {},
            "has nothing; KittiObjectDetectionInput takes .* needs input_folder",
        ),
        ("kitti", {"input_folder": "labels", "x": 1}, "has input_folder, x; Kitti"),
        ("cvat", {"input_file": "gone.xml"}, "read as cvat by labelformat: not to be read"),
        ("cvat", {"input_file": "bad.xml"}, "read as cvat by labelformat: not to be read"),
        (
            "kitti",
            {"input_folder": "labels", "category_names": "Car"},
            r"read as kitti by labelformat: not to be read \(KeyError",
        ),
    ],
)
def test_what_it_cannot_read_ends_in_one_line(
    tmp_path: Path, name: str, arguments: dict[str, Any], message: str
) -> None:
    kitti(tmp_path)
    (tmp_path / "bad.xml").write_text("<annotations>")
    with pytest.raises(BadInput, match=message):
        LabelFormat(name, arguments).read(tmp_path)


def test_no_images_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("labelformat")
    (tmp_path / "labels").mkdir()
    with pytest.raises(BadInput, match="no images with labels; check data.source.arguments"):
        KITTI.read(tmp_path)


def test_a_file_that_nobody_named_may_not_name_it(tmp_path: Path) -> None:
    # The library reads files without limits of its own.
    source = {"class_path": "regrow.data.formats.LabelFormat", "init_args": {"format": "cvat"}}
    with pytest.raises(BadInput, match="which is not taken from a file that is read by itself"):
        build_data({"source": source})
