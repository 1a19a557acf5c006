"""YOLO's layout, in files written by hand with numbers worked out by hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from regrow.data.formats import ImageFolder, Yolo
from regrow.data.images.decoding import decode_mask
from regrow.data.module import GrowingData
from regrow.data.source import Content
from regrow.data.targets.labels import Boxes, Mask
from regrow.errors import BadInput


def picture(path: Path, width: int = 40, height: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([*"/".join(path.parts[-2:]).encode()]).integers(
        0, 256, (height, width, 3)
    )
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def described(root: Path, **values: Any) -> None:
    settings = {"train": "images/train", "val": "images/val", "names": ["ant", "bee"], **values}
    write(root / "data.yaml", yaml.safe_dump({k: v for k, v in settings.items() if v is not None}))


def labelled(root: Path, name: str, text: str | None, **size: int) -> Path:
    image = picture(root / "images" / f"{name}.png", **size)
    if text is not None:
        write(root / "labels" / f"{name}.txt", text)
    return image


def boxes(content: Content) -> dict[str, list[tuple[str, list[float]]]]:
    found = {}
    for item in content.items:
        assert isinstance(item.target, Boxes)
        pairs = zip(item.target.classes, item.target.xyxy.tolist(), strict=True)
        found[item.name] = [*pairs]
    return found


def refusal(root: Path, source: Yolo | None = None) -> str:
    with pytest.raises(BadInput) as refused:
        (source or Yolo()).read(root)
    return str(refused.value)


def test_boxes_are_shares_of_width_and_height(tmp_path: Path) -> None:
    # Of 40 x 20: centre (20, 5), 10 wide, 8 high; and centre (30, 15), 20 wide, 10 high.
    labelled(tmp_path, "train/a", "1 0.5 0.25 0.25 0.4\n0 0.75 0.75 0.5 0.5\n")
    labelled(tmp_path, "val/b", "0 0.5 0.5 1 1\n", width=10, height=30)
    described(tmp_path)
    content = Yolo().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["ant", "bee"])
    assert boxes(content) == {
        "images/train/a.png": [
            ("bee", [15.0, 1.0, 25.0, 9.0]),
            ("ant", [20.0, 10.0, 40.0, 20.0]),
        ],
        "images/val/b.png": [("ant", [0.0, 0.0, 10.0, 30.0])],
    }
    assert [item.split for item in content.items] == ["train", "val"]
    assert content.remarks.lines == []


def test_boxes_lie_around_polygons(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 0.25 0.5 0.5 0.1 0.75 0.9\n")
    described(tmp_path, val=None)
    (item,) = Yolo().read(tmp_path).items
    assert isinstance(item.target, Boxes)
    assert item.target.xyxy == pytest.approx(np.array([[10, 2, 30, 18]]))


def test_masks_are_drawn_of_polygons_the_smallest_on_top(tmp_path: Path) -> None:
    # Of 4 x 4: `ant` all of the left half, `bee` the upper left pixel, listed first.
    rows = "1 0 0 0.25 0 0.25 0.25 0 0.25\n0 0 0 0.5 0 0.5 1 0 1\n"
    labelled(tmp_path, "train/a", rows, width=4, height=4)
    described(tmp_path, val=None)
    content = Yolo(kind="masks").read(tmp_path)
    assert (content.kind, content.classes) == ("masks", ["background", "ant", "bee"])
    target = content.items[0].target
    assert isinstance(target, Mask)
    assert target.names == {0: "background", 1: "ant", 2: "bee"}
    left = [[1, 1, 0, 0]] * 3
    assert decode_mask(target.pixels).tolist() == [[2, 1, 0, 0], *left]
    void = Yolo(kind="masks", background=None).read(tmp_path)
    assert void.classes == ["ant", "bee"]
    target = void.items[0].target
    assert isinstance(target, Mask)
    assert decode_mask(target.pixels).tolist() == [[1, 0, 255, 255], *[[0, 0, 255, 255]] * 3]


def test_masks_train_as_others_do(tmp_path: Path) -> None:
    for number in range(4):
        labelled(tmp_path, f"train/{number}", "1 0 0 0.5 0 0.5 1 0 1\n")
    labelled(tmp_path, "val/4", None)
    described(tmp_path)
    data = GrowingData(
        Yolo(kind="masks"), tmp_path, (20, 40), num_workers=2, batch_size=2, test_share=0
    )
    masks = [target for _, targets in data.train_dataloader() for target in targets]
    assert len(masks) == 4
    assert all((mask[:, :20] == 2).all() and (mask[:, 20:] == 0).all() for mask in masks)
    assert (data.examples("val")[(0, 0)][1] == 0).all()


def test_images_without_labels_are_background_and_told(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 0.5 0.5 0.5 0.5\n")
    labelled(tmp_path, "train/b", None)
    labelled(tmp_path, "train/c", "\n \n")
    described(tmp_path, val=None)
    content = Yolo().read(tmp_path)
    assert [len(own) for own in boxes(content).values()] == [1, 0, 0]
    assert content.remarks.count("images without a label file: they count as background") == 1
    assert content.remarks.count("images listed without a box: they count as background") == 2


def test_a_set_without_any_label_is_refused(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", None)
    described(tmp_path, val=None)
    assert "none of its 1 images has a label file; that of" in refusal(tmp_path)
    assert str(tmp_path / "labels" / "train" / "a.txt") in refusal(tmp_path)


BAD = [
    ("0 1.5 0.5 0.1 0.1", "1.5 lies outside of [0, 1]; YOLO's numbers are shares"),
    ("0 -0.02 0.5 0.1 0.1", "-0.02 lies outside of [0, 1]"),
    ("0 nan 0.5 0.1 0.1", "nan lies outside of [0, 1]"),
    ("0 inf 0.5 0.1 0.1", "inf lies outside of [0, 1]"),
    ("2 0.5 0.5 0.1 0.1", "the class number 2 has no name, they go to 1; name it in data.yaml"),
    ("-1 0.5 0.5 0.1 0.1", "the class number -1.0 is not a whole number"),
    ("0.5 0.5 0.5 0.1 0.1", "the class number 0.5 is not a whole number"),
    ("nan 0.5 0.5 0.1 0.1", "the class number nan is not a whole number"),
    ("ant 0.5 0.5 0.1 0.1", "'ant' is no number"),
    ("0 0.5 0.5 0.1", "4 numbers; a row has the class and four numbers of a box"),
    ("0 0.5 0.5 0.1 0.1 0.9", "6 numbers; a row has"),
]


@pytest.mark.parametrize(("row", "message"), BAD)
def test_a_bad_row_is_refused_by_its_line_or_left_out(
    tmp_path: Path, row: str, message: str
) -> None:
    labelled(tmp_path, "train/a", f"0 0.5 0.5 0.5 0.5\n{row}\n")
    described(tmp_path, val=None)
    line = refusal(tmp_path)
    assert f"{tmp_path}/labels/train/a.txt line 2: " in line
    assert message in line
    assert line.endswith("data.skip_bad=true leaves out what is bad")
    labelled(tmp_path, "val/b", "1 0.5 0.5 0.5 0.5\n")
    described(tmp_path)
    data = GrowingData(Yolo(), tmp_path, (8, 8), skip_bad=True, test_share=0)
    targets = [item.target for item in data.snapshot.items]
    assert [target.classes for target in targets if isinstance(target, Boxes)] == [
        ("ant",),
        ("bee",),
    ]


def test_all_bad_rows_are_refused_at_once(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 2 0.5 0.5 0.5\n5 0.5 0.5 0.5 0.5\n")
    labelled(tmp_path, "train/b", "0 0.5 0.5 0.5\n")
    described(tmp_path, val=None)
    line = refusal(tmp_path)
    assert line.startswith(f"{tmp_path}: 3 bad rows or boxes: labels/train/a.txt line 1: 2 lies")
    assert "labels/train/a.txt line 2" in line
    assert "labels/train/b.txt line 1" in line


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_a_polygon_of_two_points_is_refused(tmp_path: Path, kind: Any) -> None:
    labelled(tmp_path, "train/a", "0 0.1 0.1 0.5 0.1 0.5 0.5\n0 0.1 0.1 0.5 0.5\n")
    described(tmp_path, val=None)
    line = refusal(tmp_path, Yolo(kind=kind))
    assert "a.txt line 2: a polygon of two points, or a box where masks are read" in line


def test_a_hair_outside_is_rounding(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 0.5 0.5 1.004 1.000001\n")
    labelled(tmp_path, "val/a", "1 0.5 0.5 1 1\n")
    described(tmp_path)
    data = GrowingData(Yolo(), tmp_path, (8, 8), test_share=0)
    target = data.snapshot.items[0].target
    assert isinstance(target, Boxes)
    # 0.08 pixels outside on both sides, as files round: it stays as it is.
    assert target.xyxy[0].tolist() == pytest.approx([-0.08, 0, 40.08, 20], abs=1e-4)


def test_corrupt_images_are_skipped_as_elsewhere(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 0.5 0.5 0.5 0.5\n")
    labelled(tmp_path, "val/a", "1 0.5 0.5 0.5 0.5\n")
    labelled(tmp_path, "train/b", "0 0.5 0.5 0.5 0.5\n").write_bytes(b"no image")
    described(tmp_path)
    data = GrowingData(Yolo(), tmp_path, (8, 8), skip_corrupt=True, test_share=0)
    assert len(data.snapshot.items) == 2
    assert data.num_skipped == 1
    with pytest.raises(BadInput, match=r"b\.png: corrupt"):
        _ = GrowingData(Yolo(), tmp_path, (8, 8)).snapshot


def test_two_images_of_one_label_file_are_refused(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 0.5 0.5 0.5 0.5\n")
    picture(tmp_path / "images" / "train" / "a.jpg")
    described(tmp_path, val=None)
    assert "a.jpg: its label file" in refusal(tmp_path)
    assert "2 bad rows or boxes" in refusal(tmp_path)


def test_label_files_of_no_image_are_told(tmp_path: Path) -> None:
    labelled(tmp_path, "train/a", "0 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "labels" / "train" / "gone.txt", "0 0.5 0.5 0.5 0.5\n")
    write(tmp_path / "labels" / "train" / "classes.txt", "ant\nbee\n")
    described(tmp_path, val=None)
    lines = Yolo().read(tmp_path).remarks.lines
    assert lines == ["1 annotation file left out: labels/train/gone.txt"]


def test_groups_keep_images_together(tmp_path: Path) -> None:
    labelled(tmp_path, "train/v1_0", "0 0.5 0.5 0.5 0.5\n")
    described(tmp_path, val=None)
    assert [item.group for item in Yolo(group=r"(v\d)_").read(tmp_path).items] == ["v1"]


def test_classification_sets_of_ultralytics_are_folders_of_classes(tmp_path: Path) -> None:
    for name in ("train/ant/a", "train/bee/b", "val/ant/c", "test/bee/d"):
        picture(tmp_path / f"{name}.jpg")
    content = ImageFolder().read(tmp_path)
    found = {item.name: (item.target, item.split) for item in content.items}
    assert found == {
        "train/ant/a.jpg": ("ant", "train"),
        "train/bee/b.jpg": ("bee", "train"),
        "val/ant/c.jpg": ("ant", "val"),
        "test/bee/d.jpg": ("bee", "test"),
    }
