"""Objects that people drew, as boxes and as masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats.tools.shapes import (
    Labelled,
    Shape,
    boxes_of,
    items_of,
    polygon,
    smallest_on_top,
)
from regrow.data.images.decoding import decode_mask
from regrow.data.images.regions import Polygons
from regrow.data.targets.labels import CROWD, Boxes, Mask

SQUARE = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 1.0]])


def test_boxes_lie_around_corners_and_keep_their_marks() -> None:
    boxes = boxes_of([Shape("ant", SQUARE + 1), Shape("bee", SQUARE, None, CROWD)])
    assert boxes.xyxy.tolist() == [[1, 1, 3, 2], [0, 0, 2, 1]]
    assert (boxes.classes, boxes.ignored) == (("ant", "bee"), (0, CROWD))
    assert boxes_of([]).xyxy.shape == (0, 4)


def test_the_largest_box_comes_first() -> None:
    shapes = [Shape("small", SQUARE), Shape("large", SQUARE * 3), Shape("same", SQUARE)]
    assert [shape.name for shape in smallest_on_top(shapes)] == ["large", "small", "same"]


def test_items_are_boxes_or_drawn_masks(tmp_path: Path) -> None:
    image = tmp_path / "images" / "a.png"
    image.parent.mkdir()
    Image.new("RGB", (3, 1)).save(image)
    corners = np.array([[1.0, 0.0], [3.0, 0.0], [3.0, 1.0], [1.0, 1.0]])
    given = [Labelled(image, [Shape("bee", corners, Polygons((corners,)))], "val", None, "x")]
    names, (item,) = items_of(given, "boxes", ["ant", "bee"], "background", tmp_path)
    assert names == ["ant", "bee"]
    assert (item.name, item.split, item.declared_by) == ("images/a.png", "val", "x")
    assert isinstance(item.target, Boxes)
    names, (item,) = items_of(given, "masks", ["ant", "bee"], "sky", tmp_path)
    assert names == ["sky", "ant", "bee"]
    assert isinstance(item.target, Mask)
    assert decode_mask(item.target.pixels).tolist() == [[0, 2, 2]]
    names, (item,) = items_of(given, "masks", ["ant", "bee"], None, tmp_path)
    assert isinstance(item.target, Mask)
    assert decode_mask(item.target.pixels).tolist() == [[255, 1, 1]]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ([0.0, 0.0, 1.0, 1.0], "it has 2 points; it needs three or more"),
        ([], "it has 0 points"),
        ([0.0, 0.0, 1.0, 1.0, 2.0], "it is no list of x and y"),
        ([0.0, 0.0, 1.0, 1.0, 2.0, float("nan")], "it is no list of x and y"),
    ],
)
def test_a_polygon_needs_three_points(numbers: list[float], message: str) -> None:
    assert polygon([0, 0, 1, 0, 1, 1]).tolist() == [[0, 0], [1, 0], [1, 1]]
    with pytest.raises(ValueError, match=message):
        polygon(numbers, "it")
