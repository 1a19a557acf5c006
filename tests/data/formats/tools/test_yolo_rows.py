"""The rows of a text file in YOLO's format."""

from pathlib import Path

import numpy as np
import pytest

from regrow.data.checks.faults import Faults
from regrow.data.formats.tools.yolo_rows import read_rows
from regrow.data.images.regions import Polygons
from regrow.errors import BadInput

NAMES = {0: "ant", 1: "bee"}


def test_rows_become_corners_in_pixels(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("0 0.5 0.5 0.5 0.5\r\n\r\n1.0\t0.25 0.75 0.5 0.5\n")
    faults = Faults()
    shapes = read_rows(file, NAMES, "boxes", (10, 20), faults)
    assert not faults
    assert [shape.name for shape in shapes] == ["ant", "bee"]
    assert shapes[0].corners.tolist() == [[5, 2.5], [15, 7.5]]
    assert shapes[1].corners.tolist() == [[0, 5], [10, 10]]
    assert [shape.region for shape in shapes] == [None, None]


def test_the_smallest_polygon_is_last(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("0 0 0 0.1 0 0.1 0.1\n1 0 0 1 0 1 1\n")
    shapes = read_rows(file, NAMES, "masks", (10, 20), Faults())
    assert [shape.name for shape in shapes] == ["bee", "ant"]
    region = shapes[1].region
    assert isinstance(region, Polygons)
    assert region.is_share
    assert np.allclose(region.rings[0], [[0, 0], [0.1, 0], [0.1, 0.1]])


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"gone\.txt: cannot be read"):
        read_rows(tmp_path / "gone.txt", NAMES, "boxes", (1, 1), Faults())
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe0")
    with pytest.raises(BadInput, match="cannot be read as UTF-8"):
        read_rows(tmp_path / "a.txt", NAMES, "boxes", (1, 1), Faults())


def test_a_file_of_more_rows_than_an_image_has_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n" * 50_000)
    with pytest.raises(BadInput, match=r"a\.txt: 50,001 rows; an image may have 50,000 at most"):
        read_rows(tmp_path / "a.txt", NAMES, "boxes", (10, 20), Faults())


def test_a_polygon_of_half_a_point_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5 0.1\n")
    faults = Faults()
    assert read_rows(tmp_path / "a.txt", NAMES, "boxes", (10, 20), faults) == []
    with pytest.raises(BadInput, match="line 1: 8 numbers; a row has the class and four"):
        faults.refuse()
