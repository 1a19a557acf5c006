"""The results of Label Studio: choices, rectangles, ellipses, polygons and brush strokes.

Source: https://labelstud.io/guide/export.html and the SDK's `converter/`; places and sizes are in
percent of the image, rectangles turn clockwise around their upper left corner.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from regrow.data.checks.faults import shown
from regrow.data.formats.tools.shapes import Shape, polygon
from regrow.data.images.regions import Polygons, Region, ellipse, rotated_rectangle
from regrow.data.images.run_lengths import MAX_RUNS, BrushRuns
from regrow.data.names.tidy import class_name, clean_name, declared_size
from regrow.data.targets.labels import Declared

# The keys of classes: of regions such as `rectanglelabels`, and of whole images.
LABELS, CHOICES = "labels", "choices"
# Keys of a row of JSON-MIN that are not results.
FACTS = frozenset(
    ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement")
)
OUTSIDE = 1.0  # percent by which a number may lie outside of [0, 100]
RECTANGLE, ELLIPSE, POLYGON, BRUSH = "rectangle", "ellipse", "polygon", "brush stroke"
# What each is told by: tags have many names, and these keys are theirs alone.
OTHERS = {"keypointlabels": "key point", "videorectangle": "video"}
KEYS = {"rle": BRUSH, "points": POLYGON, "radiusX": ELLIPSE, "width": RECTANGLE}


@dataclass(frozen=True, slots=True)
class Result:
    """A result: what somebody said of an image, or of a part of it.

    Args:
        tag: The name of the control tag that it is from.
        classes: What was chosen.
        shape: What was drawn: a rectangle, ellipse, polygon or brush stroke; None for choices.
        values: All that the file says of it.
    """

    tag: str
    classes: tuple[str, ...]
    shape: str | None
    values: Mapping[str, Any]


def results_of(task: Mapping[str, Any], annotation: Mapping[str, Any] | None) -> Iterator[Result]:
    """Yield the results of a task.

    Args:
        task: The task; a row of JSON-MIN has its results itself.
        annotation: The annotation that is read; None for a row of JSON-MIN.

    Raises:
        ValueError: If it has none, or one of them is no result; a clause without its subject.
    """
    if annotation is None:
        for tag, value in task.items():
            for entry in value if isinstance(value, list) else [value]:
                if tag not in FACTS and isinstance(entry, dict):
                    yield from _result(tag, entry, entry)
        return
    results = annotation.get("result")
    if not isinstance(results, list):
        raise ValueError(f"has no list of results, but {shown(results)}")
    for entry in results:
        if not isinstance(entry, dict) or not isinstance(entry.get("value"), dict):
            raise ValueError(f"has the result {shown(entry)}")
        yield from _result(str(entry.get("from_name")), entry["value"], entry)


def _result(tag: str, value: Mapping[str, Any], entry: Mapping[str, Any]) -> Iterator[Result]:
    sizes = {key: entry.get(key) for key in ("original_width", "original_height")}
    drawn = next((name for key, name in KEYS.items() if key in value), None)
    for key, own in value.items():
        if key == CHOICES or str(key).endswith(LABELS):
            names = own if isinstance(own, list) else [own]
            classes = tuple(clean_name(class_name(name)) for name in names)
            shape = None if key == CHOICES else OTHERS.get(key, drawn or str(key))
            if key != CHOICES or drawn is None:  # choices of a region are none of the image
                yield Result(tag, classes, shape, {**value, **sizes})
            return


def size_of(result: Result) -> Declared | None:
    """Return the height and width of the image that a result was drawn on, where it says them."""
    values = result.values
    return declared_size({s: values.get(f"original_{s}") for s in ("height", "width")})


def shape_of(result: Result, size: tuple[int, int], needs_box: bool) -> Shape:
    """Return the object that a result marks.

    Args:
        result: The result.
        size: Height and width of its image, in pixels.
        needs_box: Whether labels are read as boxes, which a brush stroke has none of.

    Raises:
        ValueError: If it marks no part of an image; a clause without its subject.
    """
    if result.shape not in KEYS.values():
        known = ", ".join(KEYS.values())
        raise ValueError(f"is of the kind {shown(result.shape)}; regrow reads {known}")
    if len(result.classes) != 1 or not result.classes[0]:
        raise ValueError(f"has {len(result.classes)} classes; an object has one")
    limits = np.array([size[1], size[0]], dtype=np.float64)
    if result.shape == BRUSH:
        if needs_box:
            raise ValueError("is a brush stroke; read it as masks, data.source.kind masks")
        whole = np.array([[0.0, 0.0], [1.0, 1.0]]) * limits
        return Shape(result.classes[0], whole, _strokes(result.values))
    corners = _corners(result, size) / 100
    if not ((corners >= -OUTSIDE / 100) & (corners <= 1 + OUTSIDE / 100)).all():
        raise ValueError("lies outside of its image; places are percent of width and height")
    return Shape(result.classes[0], corners * limits, Polygons((corners,), is_share=True))


def _strokes(values: Mapping[str, Any]) -> Region:
    if values.get("format", "rle") != "rle" or not isinstance(values["rle"], list):
        raise ValueError("has a brush stroke that is not in run lengths")
    if len(values["rle"]) > MAX_RUNS:
        raise ValueError("has a brush stroke of more run lengths than pixels")
    return BrushRuns(bytes(values["rle"]))


def _corners(result: Result, size: tuple[int, int]) -> np.ndarray:
    """Return the corners of what was drawn, in percent."""
    values = result.values
    if result.shape == POLYGON:
        return polygon([n for x, y in values["points"] for n in (x, y)], "its polygon")
    turn = float(values.get("rotation") or 0)
    # Angles are those of pixels, and percent of width and of height are not the same.
    pixels = np.array([size[1], size[0]], dtype=np.float64) / 100
    x, y = (float(values[key]) for key in ("x", "y"))
    if result.shape == ELLIPSE:
        radii = np.array([float(values["radiusX"]), float(values["radiusY"])]) * pixels
        return ellipse(np.array([x, y]) * pixels, radii, turn) / pixels
    width, height = np.array([float(values["width"]), float(values["height"])]) * pixels
    left, top = np.array([x, y]) * pixels
    return rotated_rectangle(left, top, width, height, turn) / pixels
