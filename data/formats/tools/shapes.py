"""Objects that people drew, as boxes or as masks: what the formats of labelling tools share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from regrow.data.images.regions import Drawn, Region, bounds, mask_numbers
from regrow.data.targets.labels import OBJECT, VOID, Boxes, Declared, Item, Mask
from regrow.files import name_below

Kind = Literal["boxes", "masks"]
MAX_POINTS = 10**6  # of a polygon


@dataclass(frozen=True, slots=True)
class Shape:
    """An object of an image.

    Args:
        name: Its class.
        corners: Points around it, x and y in pixels, (n, 2): its box is the one around them.
        region: The pixels that it covers; None where labels are read as boxes.
        mark: What its box stands for, see `Boxes`.
    """

    name: str
    corners: np.ndarray
    region: Region | None = None
    mark: int = OBJECT

    @property
    def area(self) -> float:
        """Return the area of its box, in square pixels."""
        left, top, right, bottom = bounds(self.corners)
        return (right - left) * (bottom - top)


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image and its objects.

    Args:
        image: Its file.
        shapes: The objects; in a mask later ones lie on top.
        split: Its official split, if it has one.
        size: The height and width that its annotation says, if it says them.
        where: The annotation.
    """

    image: Path
    shapes: Sequence[Shape]
    split: str | None = None
    size: Declared | None = None
    where: str = ""


def items_of(
    labelled: Iterable[Labelled],
    kind: Kind,
    classes: Sequence[str],
    background: str | None,
    root: Path,
) -> tuple[list[str], list[Item]]:
    """Return the classes and the items of images with objects.

    Args:
        labelled: The images.
        kind: What the objects are read as.
        classes: Class names.
        background: The class of pixels of no object, in masks; None makes them void.
        root: The folder of the data, below which items are called.

    Raises:
        BadInput: If masks have no numbers for so many classes.
    """
    names = mask_numbers(classes, background) if kind == "masks" else dict(enumerate(classes))
    numbers = {name: number for number, name in names.items()}
    below = VOID if background is None else numbers.get(background, VOID)
    items = []
    for one in labelled:
        target: Boxes | Mask
        if kind == "boxes":
            target = boxes_of(one.shapes)
        else:
            regions = ((numbers[s.name], s.region) for s in one.shapes if s.region is not None)
            target = Mask(Drawn(one.image, tuple(regions), below), names)
        name = name_below(root, one.image)
        items.append(Item(name, one.image, target, one.split, None, None, one.size, one.where))
    return list(names.values()), items


def boxes_of(shapes: Sequence[Shape]) -> Boxes:
    """Return the boxes around objects."""
    corners = np.array([bounds(shape.corners) for shape in shapes], dtype=np.float64)
    names, marks = tuple(shape.name for shape in shapes), tuple(shape.mark for shape in shapes)
    return Boxes(corners.reshape(-1, 4).astype(np.float32), names, marks)


def smallest_on_top(shapes: Iterable[Shape]) -> list[Shape]:
    """Return objects by the areas of their boxes, the largest first."""
    return sorted(shapes, key=lambda shape: -shape.area)


def polygon(numbers: Sequence[float], where: str = "a polygon") -> np.ndarray:
    """Return the corners of a polygon, (n, 2).

    Args:
        numbers: x and y of each corner, one after the other.
        where: What to call it in an error.

    Raises:
        ValueError: If it has fewer than three corners, too many, or one that is no number.
    """
    corners = np.array(numbers, dtype=np.float64)
    if corners.ndim != 1 or len(corners) % 2 or not np.isfinite(corners).all():
        raise ValueError(f"{where} is no list of x and y of each corner")
    if not 6 <= len(corners) <= 2 * MAX_POINTS:
        raise ValueError(f"{where} has {len(corners) // 2} points; it needs three or more")
    return corners.reshape(-1, 2)
