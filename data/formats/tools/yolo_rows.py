"""The text file of an image in YOLO's format: a row a box or a polygon, in shares of the image.

Source: https://docs.ultralytics.com/datasets/detect and /segment; what lies outside by 0.01 is
taken there too (ultralytics, `data/utils.py`, verify_image_label).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from regrow.data.checks.faults import BOXES, Faults, shown
from regrow.data.formats.tools.shapes import Kind, Shape, polygon, smallest_on_top
from regrow.data.images.regions import Polygons
from regrow.data.names.tidy import MAX_BOXES, class_number
from regrow.errors import BadInput
from regrow.files import SMALL, read_text

OUTSIDE = 0.01  # shares by which a number may lie outside of [0, 1]
MOST_ROWS = 100_000  # of one image
OF_A_BOX = 5  # numbers in a row: the class, the centre, width and height


def read_rows(
    file: Path, names: Mapping[int, str], kind: Kind, size: tuple[int, int], faults: Faults
) -> list[Shape]:
    """Read the objects of an image.

    Args:
        file: The text file.
        names: Class numbers to names.
        kind: What the objects are read as.
        size: Height and width of the image, in pixels.
        faults: Where rows are noted that cannot be used.

    Returns:
        The objects, in masks the smallest last: it lies on top.

    Raises:
        BadInput: If the file cannot be read.
    """
    rows = [(n, row.split()) for n, row in enumerate(read_text(file, SMALL).split("\n"), 1)]
    if len(rows) > MOST_ROWS:
        raise BadInput(f"{file}: {len(rows):,} rows for one image; at most {MOST_ROWS:,} are read")
    if len(rows) > MAX_BOXES:
        raise BadInput(f"{file}: {len(rows):,} rows; an image may have {MAX_BOXES:,} at most")
    has_polygons = any(len(row) > OF_A_BOX + 1 for _, row in rows)
    scale = np.array([size[1], size[0]], dtype=np.float64)
    shapes = []
    for line, row in rows:
        where = f"{file} line {line}"
        with faults.row(where, BOXES):
            if row:
                name, shares = _read_row(row, names, kind, has_polygons, where)
                region = Polygons((shares,), is_share=True) if kind == "masks" else None
                shapes.append(Shape(name, shares * scale, region))
    return smallest_on_top(shapes) if kind == "masks" else shapes


def _read_row(
    row: list[str], names: Mapping[int, str], kind: Kind, has_polygons: bool, where: str
) -> tuple[str, np.ndarray]:
    """Return the class and the corners of a row, in shares."""
    number = class_number(_number(row[0], where))
    if number not in names:
        raise BadInput(
            f"{where}: the class number {number} has no name, they go to {max(names, default=0)}; "
            "name it in data.yaml (classes.txt) or correct the row"
        )
    shares = [_number(word, where) for word in row[1:]]
    for share in shares:
        if not -OUTSIDE <= share <= 1 + OUTSIDE:  # not so of what is no number either
            raise BadInput(
                f"{where}: {share:g} lies outside of [0, 1]; YOLO's numbers are shares of the "
                "image's width and height, divide pixels by them"
            )
    if len(row) == OF_A_BOX:
        if has_polygons or kind == "masks":
            raise BadInput(
                f"{where}: a polygon of two points, or a box where masks are read; a mask needs "
                "three points or more (data.source.kind boxes reads boxes)"
            )
        x, y, width, height = shares
        left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
        return names[number], np.array([[left, top], [right, bottom]])
    if len(row) < OF_A_BOX or len(row) % 2 == 0:
        raise BadInput(
            f"{where}: {len(row)} numbers; a row has the class and four numbers of a box, or x and "
            "y of three points or more"
        )
    return names[number], polygon(shares)


def _number(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise BadInput(f"{where}: {shown(word)!r} is no number; correct the row") from error
