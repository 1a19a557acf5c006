"""LabelMe's JSON, in files written by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import LabelMe
from regrow.data.images.decoding import decode_mask
from regrow.data.module import GrowingData
from regrow.data.targets.labels import Boxes, Mask
from regrow.errors import BadInput


def picture(path: Path, width: int = 40, height: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng([*path.name.encode()]).integers(0, 256, (height, width, 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def shape(label: Any, kind: Any, *points: tuple[float, float]) -> dict[str, Any]:
    return {"label": label, "points": [*map(list, points)], "group_id": None, "shape_type": kind}


def annotated(root: Path, name: str, *shapes: Any, **values: Any) -> Path:
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": [*shapes],
        "imagePath": f"{Path(name).name}.png",
        "imageData": "aGVsbG8=",
        "imageHeight": 20,
        "imageWidth": 40,
        **values,
    }
    file = root / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))
    return file


def refusal(root: Path, source: LabelMe | None = None) -> str:
    with pytest.raises(BadInput) as refused:
        (source or LabelMe()).read(root)
    return str(refused.value)


RECTANGLE = shape("ant", "rectangle", (30, 12), (10, 4.5))  # drawn from its lower right corner
POLYGON = shape("bee", "polygon", (1, 2), (7, 2), (7, 9), (3, 11))
CIRCLE = shape("cat", "circle", (20, 10), (23, 14))  # a radius of 5


def test_rectangles_polygons_and_circles_are_boxes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    annotated(tmp_path, "a", RECTANGLE, POLYGON, CIRCLE)
    content = LabelMe().read(tmp_path)
    assert (content.kind, content.classes) == ("boxes", ["ant", "bee", "cat"])
    (item,) = content.items
    assert isinstance(item.target, Boxes)
    assert item.target.classes == ("ant", "bee", "cat")
    wanted = [[10, 4.5, 30, 12], [1, 2, 7, 11], [15, 5, 25, 15]]
    assert item.target.xyxy == pytest.approx(np.array(wanted), abs=1e-4)
    assert (item.name, item.declared) == ("a.png", (20, 40, 0))


def test_masks_have_later_shapes_on_top(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 6, 4)
    low = shape("ant", "rectangle", (0, 0), (4, 4))
    high = shape("bee", "polygon", (2, 1), (6, 1), (6, 3), (2, 3))
    annotated(tmp_path, "a", low, high, imageHeight=4, imageWidth=6)
    content = LabelMe(kind="masks").read(tmp_path)
    assert (content.kind, content.classes) == ("masks", ["background", "ant", "bee"])
    target = content.items[0].target
    assert isinstance(target, Mask)
    edge, middle = [1, 1, 1, 1, 0, 0], [1, 1, 2, 2, 2, 2]
    assert decode_mask(target.pixels).tolist() == [edge, middle, middle, edge]
    annotated(tmp_path, "a", high, low, imageHeight=4, imageWidth=6)
    target = LabelMe(kind="masks", background="bee").read(tmp_path).items[0].target
    assert isinstance(target, Mask)
    assert decode_mask(target.pixels).tolist() == [[1, 1, 1, 1, 0, 0]] * 4


def test_a_circle_covers_its_area(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 200, 100)
    annotated(
        tmp_path, "a", shape("ant", "circle", (100, 50), (100, 90)), imageHeight=100, imageWidth=200
    )
    target = LabelMe(kind="masks").read(tmp_path).items[0].target
    assert isinstance(target, Mask)
    assert decode_mask(target.pixels).sum() == pytest.approx(math.pi * 40**2, rel=0.01)


@pytest.mark.parametrize(
    "named", ["../images/a.png", "..\\images\\a.png", "C:\\pc\\a.png", "", None]
)
def test_the_image_is_that_which_is_named_or_has_its_name(tmp_path: Path, named: Any) -> None:
    image = picture(tmp_path / "images" / "a.png")
    annotated(tmp_path / "labels", "a", RECTANGLE, imagePath=named)
    assert [item.image for item in LabelMe().read(tmp_path).items] == [image]


def test_folders_of_splits_are_official(tmp_path: Path) -> None:
    for name in ("train/a", "val/a", "more/b"):
        picture(tmp_path / f"{name}.png")
        annotated(tmp_path, name, RECTANGLE)
    found = {item.name: item.split for item in LabelMe().read(tmp_path).items}
    assert found == {"train/a.png": "train", "val/a.png": "val", "more/b.png": None}


def test_an_image_without_a_file_is_told_and_one_without_shapes_is_background(
    tmp_path: Path,
) -> None:
    for name in ("a", "b", "c"):
        picture(tmp_path / f"{name}.png")
    annotated(tmp_path, "a", RECTANGLE)
    annotated(tmp_path, "b")
    (tmp_path / "settings.json").write_text("{}")
    content = LabelMe().read(tmp_path)
    assert [item.name for item in content.items] == ["a.png", "b.png"]
    assert content.remarks.lines == [
        "1 annotation file left out: settings.json",
        "1 image left out that no annotation lists: c.png",
        "1 image listed without a box: they count as background: b.png",
    ]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            shape("ant", "line", (1, 1), (5, 5)),
            "is a line; regrow reads polygon, rectangle, circle",
        ),
        (shape("ant", "linestrip", (1, 1), (5, 5)), "is a linestrip; regrow reads"),
        (shape("ant", "point", (1, 1)), "is a point; regrow reads"),
        (shape("ant", "mask", (1, 1), (5, 5)), "is a mask; regrow reads"),
        (shape("ant", ["polygon"], (1, 1)), "unhashable"),
        (shape("ant", "polygon", (1, 1), (5, 5)), "is a polygon of 2 points; it needs 3"),
        (shape("ant", "rectangle", (1, 1)), "is a rectangle of 1 points; it needs 2"),
        (shape("ant", "rectangle", (1, 1), (2, 2), (3, 3)), "is a rectangle of 3 points"),
        (shape("ant", "circle", (1, 1), (math.nan, 5)), "points that are no pairs of numbers"),
        (shape(" ", "circle", (1, 1), (5, 5)), "has no label"),
        (shape(None, "circle", (1, 1), (5, 5)), "the class name None is no text"),
        ({"label": "ant", "shape_type": "circle"}, "points that are no pairs of numbers"),
        ("ant", "is ant, no object"),
    ],
)
def test_a_bad_shape_is_refused_by_number_or_left_out(
    tmp_path: Path, entry: Any, message: str
) -> None:
    file = annotated(tmp_path, "a", RECTANGLE, entry)
    picture(tmp_path / "a.png")
    line = refusal(tmp_path)
    assert f"{file}: shape 2" in line
    assert message in line
    for name in "bcdefgh":
        picture(tmp_path / f"{name}.png")
        annotated(tmp_path, name, RECTANGLE)
    data = GrowingData(LabelMe(), tmp_path, (8, 8), val_share=0.5, test_share=0, skip_bad=True)
    assert all(item.target.classes == ("ant",) for item in data.snapshot.items)  # type: ignore[union-attr]
    assert len(data.snapshot.items) == 8


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shapes": 3}, "its shapes are 3, no list"),
        ({"imageHeight": -1}, "its size is none"),
        ({"imageHeight": []}, "its size is none"),
        ({"imagePath": "b.png"}, "no image b.png below"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    picture(tmp_path / "a.png")
    annotated(tmp_path, "a", RECTANGLE, **values)
    assert message in refusal(tmp_path)


def test_two_files_of_one_image_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    annotated(tmp_path, "a", RECTANGLE)
    annotated(tmp_path / "more", "a", RECTANGLE, imagePath="../a.png")
    assert "give each a file of its own" in refusal(tmp_path)


def test_a_size_that_is_not_that_of_the_image_is_refused(tmp_path: Path) -> None:
    for name in "abcd":
        picture(tmp_path / f"{name}.png", 20, 20)
        annotated(tmp_path, name, shape("ant", "rectangle", (1, 1), (5, 5)))
    for source in (LabelMe(), LabelMe(kind="masks")):
        data = GrowingData(source, tmp_path, (8, 8))
        with pytest.raises(BadInput, match=r"says 40x20, .* is 20x20"):
            _ = data.snapshot


def test_no_shapes_at_all_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert "no JSON files with shapes in it; expected LabelMe's layout" in refusal(tmp_path)
