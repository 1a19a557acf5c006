"""LabelMe: a JSON file an image, with the shapes that people drew on it.

Source: https://github.com/wkentaro/labelme, `labelme/_label_file.py` and `labelme/utils/shape.py`.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.faults import BOXES, Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.tools.shapes import Kind, Labelled, Shape, items_of
from regrow.data.formats.unlisted import UNREAD, count_unlisted
from regrow.data.formats.voc import VocImages
from regrow.data.images.regions import Polygons, ellipse
from regrow.data.names.listing import list_images, split_by_folder
from regrow.data.names.lookup import one_to_one
from regrow.data.names.tidy import class_name, clean_name, declared_size
from regrow.data.source import Content, Source, locate
from regrow.errors import BadInput
from regrow.files import name_below, read_json
from regrow.plain import MISSHAPEN

MAX_BYTES = 2**28  # of a file, with its image in it as text
FEWEST = {"polygon": 3, "rectangle": 2, "circle": 2}  # points of each kind of shape


class LabelMe(Source):
    """Images with a JSON file of shapes each, as LabelMe writes them.

    Rectangles, polygons and circles are read; lines and points are refused by name. An image is
    the file that `imagePath` names, or the one of the JSON file's own name; the copy within the
    JSON file is not used. Folders called train, val or test are official splits.

    Args:
        kind: The labels to read: `boxes` (around polygons too), or `masks`, later shapes on top.
        background: The class of pixels in no shape, for masks; null makes them void.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        kind: Kind = "boxes",
        background: str | None = "background",
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        self.kind, self.background = kind, background

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all JSON files below the root that hold shapes."""
        root, remarks = locate(root), Remarks()
        images = VocImages(root, list_images(root, remarks))
        read: dict[str, tuple[Labelled, Path]] = {}
        for file in sorted(root.rglob("*.json")):
            with faults.row(str(file)):
                content = read_json(file, MAX_BYTES)
                if not isinstance(content, dict) or "shapes" not in content:
                    remarks.add(UNREAD, name_below(root, file))
                    continue
                image = images.of(file, _image_path(root, file, content))
                read[str(file)] = (_labelled(file, root, image, content, faults), image)
        places = one_to_one({w: w for w in read}, {w: own[1] for w, own in read.items()}, faults)
        labelled = [read[where][0] for where in places]
        if not labelled:
            faults.refuse()
            raise BadInput(f"{root}: no JSON files with shapes in it; expected LabelMe's layout")
        count_unlisted(root, {*places.values()}, remarks)
        classes = {shape.name for one in labelled for shape in one.shapes}
        names, items = items_of(labelled, self.kind, sorted(classes), self.background, root)
        return Content(self.kind, names, items, remarks)


def _image_path(root: Path, file: Path, content: Mapping[str, Any]) -> str | None:
    """Return the name of the image as seen from the root, where the file says it."""
    named = content.get("imagePath")
    if not isinstance(named, str) or not named:
        return None
    named = named.replace("\\", "/")
    folder = file.parent.relative_to(root).as_posix()
    return named if folder == "." else f"{folder}/{named}"


def _labelled(
    file: Path, root: Path, image: Path, content: Mapping[str, Any], faults: Faults
) -> Labelled:
    sides = {side: content.get(f"image{side.capitalize()}") for side in ("height", "width")}
    try:
        size = declared_size(sides)
    except MISSHAPEN as error:
        raise BadInput(f"{file}: its size is none ({error}); correct it") from error
    entries = content["shapes"]
    if not isinstance(entries, list):
        raise BadInput(f"{file}: its shapes are {shown(entries)}, no list; correct it")
    shapes = []
    for number, entry in enumerate(entries, 1):
        where = f"{file}: shape {number}"
        with faults.row(where, BOXES):
            try:
                shapes.append(read_shape(entry))
            except MISSHAPEN as error:
                raise BadInput(f"{where} {error}; correct or remove it") from error
    return Labelled(image, shapes, split_by_folder(root, file), size, str(file))


def read_shape(entry: Mapping[str, Any]) -> Shape:
    """Return a shape of a file.

    Args:
        entry: Its `label`, `shape_type` (a polygon where there is none) and `points`.

    Raises:
        ValueError: If it is no area, or no such entry; a clause without its subject.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"is {shown(entry)}, no object")
    kind = entry.get("shape_type") or "polygon"
    if kind not in FEWEST:
        raise ValueError(f"is a {shown(kind)}; regrow reads {', '.join(FEWEST)}")
    name = clean_name(class_name(entry.get("label", "")))
    if not name:
        raise ValueError("has no label")
    points = np.array(entry.get("points"), dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not np.isfinite(points).all():
        raise ValueError("has points that are no pairs of numbers")
    if len(points) < FEWEST[kind] or (kind != "polygon" and len(points) > FEWEST[kind]):
        raise ValueError(f"is a {kind} of {len(points)} points; it needs {FEWEST[kind]}")
    corners = _corners(kind, points)
    return Shape(name, corners, Polygons((corners,)))


def _corners(kind: str, points: np.ndarray) -> np.ndarray:
    if kind == "rectangle":
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    if kind == "circle":  # its centre, and a point on it
        radius = math.dist(points[0], points[1])
        return ellipse(points[0], (radius, radius))
    return points
