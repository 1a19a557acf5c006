"""Masks drawn from polygons and run lengths: regions of classes, at the size of their image.

A pixel belongs to a polygon if its centre lies inside by the even-odd rule.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from regrow.data.checks.edges import hair
from regrow.data.images.conversion import Decoding
from regrow.data.images.opening import image_size
from regrow.data.targets.labels import VOID
from regrow.errors import BadInput
from regrow.files import one_line

NUM_CROSSINGS = 2**22  # of edges with rows that are held at once
NUM_CORNERS = 64  # of the polygon that stands for an ellipse


class Region(ABC):
    """A part of an image."""

    @abstractmethod
    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Return which pixels belong to it, bool (h, w).

        Args:
            size: Height and width of the image, in pixels.

        Raises:
            ValueError: If it is of an image of another size; a clause without its subject.
        """

    def paint_(self, numbers: np.ndarray, number: int) -> None:
        """Set its pixels to a number.

        Args:
            numbers: The numbers of an image, (h, w), changed in place.
            number: Their new value.

        Raises:
            ValueError: As `pixels`.
        """
        numbers[self.pixels((numbers.shape[0], numbers.shape[1]))] = number


@dataclass(frozen=True, slots=True)
class Polygons(Region):
    """The union of polygons.

    Args:
        rings: The corners of each, x and y, float64 (n, 2).
        is_share: Whether the corners are shares of width and height, and no pixels.
    """

    rings: tuple[np.ndarray, ...]
    is_share: bool = False

    def pixels(self, size: tuple[int, int]) -> np.ndarray:
        """Return which pixels have their centre in one of the polygons, bool (h, w).

        Raises:
            ValueError: If one lies outside of the image.
        """
        found = np.zeros(size, dtype=bool)
        self.paint_(found, 1)
        return found

    def paint_(self, numbers: np.ndarray, number: int) -> None:
        """Set the pixels with their centre in one of the polygons, each looked at by itself."""
        limits = np.array(numbers.shape[::-1], dtype=np.float64)
        for ring in self.rings:
            corners = ring * limits if self.is_share else ring
            if not (np.maximum(-corners, corners - limits) <= hair(limits)).all():
                x, y = corners[np.maximum(-corners, corners - limits).max(axis=1).argmax()]
                size = "x".join(f"{limit:g}" for limit in limits)
                raise ValueError(f"has the corner ({x:g}, {y:g}), outside of {size}")
            top, left = np.clip(np.floor(corners.min(axis=0)), 0, limits).astype(int)[::-1]
            bottom, right = np.clip(np.ceil(corners.max(axis=0)), 0, limits).astype(int)[::-1]
            window = numbers[top:bottom, left:right]
            window[inside(corners - (left, top), (window.shape[0], window.shape[1]))] = number


@dataclass(frozen=True, slots=True)
class Drawn:
    """The numbers of a mask, drawn when they are read.

    Args:
        image: The file of the image, whose size the mask has.
        regions: The class number of each region, and the region; later ones lie on top.
        background: The number of pixels in no region.
    """

    image: Path
    regions: tuple[tuple[int, Region], ...]
    background: int

    def __call__(self, decoding: Decoding = Decoding()) -> np.ndarray:
        """Return the numbers, uint8 (h, w).

        Raises:
            BadInput: If the image cannot be read, or is too large, or a region is of another.
        """
        size = image_size(self.image, decoding.max_pixels)
        numbers = np.full(size, self.background, dtype=np.uint8)
        for number, region in self.regions:
            try:
                region.paint_(numbers, number)
            except (ValueError, OverflowError) as error:
                line = f"{self.image}: a region of its mask {one_line(error)}"
                raise BadInput(f"{line}; correct or remove it") from error
        return numbers


def inside(corners: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return which pixels have their centre in a polygon, bool (h, w), by the even-odd rule.

    Args:
        corners: x and y of each corner, in pixels, (n, 2).
        size: Height and width, in pixels.
    """
    height, width = size
    flips = np.zeros((height, width + 1), dtype=np.uint8)
    x1, y1 = corners.T
    x2, y2 = np.roll(corners, -1, axis=0).T
    # The rows whose centre line an edge crosses: one end belongs to the edge, the other does not.
    first = np.clip(np.ceil(np.minimum(y1, y2) - 0.5), 0, height).astype(np.int64)
    stop = np.clip(np.ceil(np.maximum(y1, y2) - 0.5), 0, height).astype(np.int64)
    counts = stop - first
    for edges in _parts(counts):
        rows = np.repeat(first[edges], counts[edges]) + _places(counts[edges])
        x, y, dx, dy = (
            np.repeat(values[edges], counts[edges]) for values in (x1, y1, x2 - x1, y2 - y1)
        )
        crossing = x + (rows + 0.5 - y) * (dx / dy)
        columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
        np.bitwise_xor.at(flips, (rows, columns), 1)
    return np.bitwise_xor.accumulate(flips, axis=1)[:, :width].astype(bool)


def _parts(counts: np.ndarray) -> list[np.ndarray]:
    """Return the edges that cross rows, in parts that take a bounded amount of memory."""
    edges = np.flatnonzero(counts)
    ends = np.cumsum(counts[edges]) // NUM_CROSSINGS
    return np.split(edges, np.flatnonzero(np.diff(ends)) + 1) if len(edges) else []


def _places(counts: np.ndarray) -> np.ndarray:
    """Return 0, 1, ... for each of some counts, one after the other."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    places: np.ndarray = np.arange(counts.sum()) - starts
    return places


def rotated_rectangle(
    left: float, top: float, width: float, height: float, degrees: float
) -> np.ndarray:
    """Return the corners of a rectangle turned clockwise around its upper left corner, (4, 2)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float64)
    turned: np.ndarray = corners @ np.array([[cos, sin], [-sin, cos]]) + [left, top]
    return turned


def ellipse(centre: ArrayLike, radii: ArrayLike, degrees: float = 0.0) -> np.ndarray:
    """Return a polygon of an ellipse's area, with corners on all four sides of it, (n, 2).

    Args:
        centre: x and y.
        radii: Along x and along y before it is turned.
        degrees: How far it is turned clockwise around its centre.
    """
    angles = np.arange(NUM_CORNERS) * (2 * math.pi / NUM_CORNERS)
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.asarray(radii)
    turned: np.ndarray = points @ np.array([[cos, sin], [-sin, cos]])
    return turned + np.asarray(centre, dtype=np.float64)


def bounds(corners: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box around points, xyxy.

    Args:
        corners: x and y of each, (n, 2).
    """
    left, top = corners.min(axis=0)
    right, bottom = corners.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def mask_numbers(classes: Sequence[str], background: str | None) -> dict[int, str]:
    """Return the class of each number in drawn masks, that of the background first.

    Args:
        classes: Class names.
        background: The class of pixels in no region; None makes them void.

    Raises:
        BadInput: If there are more classes than masks have numbers.
    """
    names = list(dict.fromkeys([*([] if background is None else [background]), *classes]))
    if len(names) > VOID:
        raise BadInput(f"{len(names):,} classes; masks have at most {VOID}: leave some out")
    return dict(enumerate(names))
