"""Masks drawn from polygons, against masks drawn by hand and a brute force."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regrow.data.images.conversion import Decoding
from regrow.data.images.decoding import decode_mask
from regrow.data.images.regions import (
    Drawn,
    Polygons,
    bounds,
    ellipse,
    inside,
    mask_numbers,
    rotated_rectangle,
)
from regrow.errors import BadInput


def points(*xy: tuple[float, float]) -> np.ndarray:
    return np.array(xy, dtype=np.float64)


def picture(path: Path, width: int, height: int) -> Path:
    Image.new("RGB", (width, height)).save(path)
    return path


def is_inside(x: float, y: float, corners: np.ndarray) -> bool:
    """Count crossings of a ray to the right, corner by corner (Shimrat's algorithm 112)."""
    odd = False
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
            odd = not odd
    return odd


def test_a_rectangle_has_the_pixels_whose_centres_it_holds() -> None:
    # From 1 to 3.4 across: the centres 1.5 and 2.5. From 0.6 to 2 down: the centre 1.5.
    drawn = inside(points((1, 0.6), (3.4, 0.6), (3.4, 2), (1, 2)), (3, 5))
    assert drawn.astype(int).tolist() == [[0, 0, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]


def test_a_triangle_by_hand() -> None:
    # The line from (0, 0) to (4, 4): in the row of centre y, the centres x < y.
    drawn = inside(points((0, 0), (4, 4), (0, 4)), (4, 4))
    assert drawn.astype(int).tolist() == [
        [0, 0, 0, 0],
        [1, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 1, 1, 0],
    ]


def test_neighbours_share_no_pixel_and_leave_none() -> None:
    left = inside(points((0, 0), (2.5, 0), (1.5, 4), (0, 4)), (4, 4))
    right = inside(points((2.5, 0), (4, 0), (4, 4), (1.5, 4)), (4, 4))
    assert (left ^ right).all()


@pytest.mark.parametrize("seed", range(20))
def test_any_polygon_is_drawn_as_point_by_point(seed: int) -> None:
    random = np.random.default_rng(seed)
    corners = random.uniform(-5, 25, (random.integers(3, 12), 2))
    if seed % 2:
        corners = corners.round()  # corners at the edges of pixels, and edges along rows
    drawn = inside(corners, (17, 21))
    wanted = [[is_inside(x + 0.5, y + 0.5, corners) for x in range(21)] for y in range(17)]
    assert drawn.tolist() == wanted


def test_many_edges_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    corners = np.random.default_rng(0).uniform(0, 50, (60, 2))
    whole = inside(corners, (50, 50))
    monkeypatch.setattr("regrow.data.images.regions.NUM_CROSSINGS", 7)
    assert (inside(corners, (50, 50)) == whole).all()


def test_polygons_are_a_union_and_may_be_shares() -> None:
    square = points((0, 0), (2, 0), (2, 2), (0, 2))
    both = Polygons((square, square + 1)).pixels((4, 4))
    assert both.sum() == 4 + 4 - 1
    shares = Polygons((square / 4, (square + 1) / 4), is_share=True).pixels((4, 4))
    assert (shares == both).all()


def test_a_polygon_outside_of_its_image_is_refused() -> None:
    square = points((0, 0), (20.3, 0), (20.3, 20), (0, 20))
    assert Polygons((square,)).pixels((20, 20)).all()  # a hair
    with pytest.raises(ValueError, match=r"has the corner \(30, 0\), outside of 20x20"):
        Polygons((points((0, 0), (30, 0), (0, 20)),)).pixels((20, 20))
    with pytest.raises(ValueError, match="outside"):
        Polygons((points((0, 0), (float("nan"), 0), (0, 20)),)).pixels((20, 20))


def test_later_regions_lie_on_top_of_the_background(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 4, 2)
    left = Polygons((points((0, 0), (3, 0), (3, 2), (0, 2)),))
    right = Polygons((points((2, 0), (4, 0), (4, 1), (2, 1)),))
    drawn = Drawn(image, ((1, left), (2, right)), 7)
    assert drawn().tolist() == [[1, 1, 2, 2], [1, 1, 1, 7]]
    assert Drawn(image, ((2, right), (1, left)), 7)().tolist() == [[1, 1, 1, 2], [1, 1, 1, 7]]
    assert decode_mask(drawn).dtype == np.uint8
    again = pickle.loads(pickle.dumps(drawn))  # as workers of a loader get it
    assert (decode_mask(again) == drawn()).all()


def test_a_mask_is_drawn_the_way_up_that_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "a.jpg", exif=exif)
    assert Drawn(tmp_path / "a.jpg", (), 0)().shape == (4, 2)


def test_a_mask_that_cannot_be_drawn_is_refused_by_its_image(tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png", 4, 2)
    far = Polygons((points((0, 0), (40, 0), (40, 2)),))
    with pytest.raises(BadInput, match=r"a\.png: a region of its mask has the corner \(40, 0\)"):
        Drawn(image, ((1, far),), 0)()
    with pytest.raises(BadInput, match=r"more than data\.max_pixels 7"):
        Drawn(image, (), 0)(Decoding(max_pixels=7))
    with pytest.raises(BadInput, match="no such file"):
        Drawn(tmp_path / "b.png", (), 0)()


def test_a_turned_rectangle_turns_around_its_upper_left_corner() -> None:
    # Clockwise by 90 degrees on the screen: what went right goes down.
    corners = rotated_rectangle(5, 3, 4, 2, 90)
    assert corners == pytest.approx(points((5, 3), (5, 7), (3, 7), (3, 3)))
    assert rotated_rectangle(5, 3, 4, 2, 0) == pytest.approx(points((5, 3), (9, 3), (9, 5), (5, 5)))


def test_an_ellipse_touches_its_box_and_has_its_area() -> None:
    corners = ellipse((50, 40), (30, 20))
    assert bounds(corners) == pytest.approx((20, 20, 80, 60))
    area = inside(corners, (100, 100)).sum()
    assert area == pytest.approx(np.pi * 30 * 20, rel=0.01)
    assert bounds(ellipse((50, 40), (30, 20), 90)) == pytest.approx((30, 10, 70, 70))


def test_numbers_of_drawn_masks_begin_with_the_background() -> None:
    assert mask_numbers(["a", "b"], "background") == {0: "background", 1: "a", 2: "b"}
    assert mask_numbers(["a", "b"], "b") == {0: "b", 1: "a"}
    assert mask_numbers(["a", "b"], None) == {0: "a", 1: "b"}
    with pytest.raises(BadInput, match="256 classes; masks have at most 255"):
        mask_numbers([str(n) for n in range(255)], "background")


@pytest.mark.parametrize("seed", range(6))
def test_polygons_are_painted_where_they_are_drawn(seed: int) -> None:
    random = np.random.default_rng(seed)
    rings = tuple(random.uniform(0, 20, (random.integers(3, 8), 2)) for _ in range(3))
    wanted = np.zeros((20, 20), dtype=bool)
    for ring in rings:
        wanted |= inside(ring, (20, 20))
    assert (Polygons(rings).pixels((20, 20)) == wanted).all()
    numbers = np.full((20, 20), 7)
    Polygons(tuple(ring / 20 for ring in rings), is_share=True).paint_(numbers, 3)
    assert (numbers == np.where(wanted, 3, 7)).all()
