"""Single results of Label Studio."""

import numpy as np
import pytest

from regrow.data.formats.tools.label_studio_values import Result, results_of, shape_of, size_of


def test_results_have_their_tag_classes_and_shape() -> None:
    entry = {
        "from_name": "box",
        "original_width": 20,
        "original_height": 10,
        "value": {"x": 0, "y": 0, "width": 50, "height": 100, "rectanglelabels": [" Ant "]},
    }
    (found,) = results_of({}, {"result": [entry]})
    assert (found.tag, found.classes, found.shape) == ("box", ("Ant",), "rectangle")
    assert size_of(found) == (10, 20, 0)
    shape = shape_of(found, (10, 20), needs_box=True)
    assert shape.corners.tolist() == [[0, 0], [10, 0], [10, 10], [0, 10]]
    assert shape.region is not None
    assert shape.region.pixels((10, 20))[:, :10].all()


def test_results_without_classes_are_no_labels() -> None:
    text = {"from_name": "note", "value": {"text": ["fine"]}}
    bare = {"from_name": "box", "value": {"x": 0, "y": 0, "width": 5, "height": 5}}
    assert [*results_of({}, {"result": [text, bare]})] == []
    with pytest.raises(ValueError, match="has no list of results, but None"):
        [*results_of({}, {})]


def test_rows_of_json_min_have_results_by_tag() -> None:
    row = {"image": "a.png", "id": 3, "box": [{"points": [], "labels": ["a"]}], "agreement": {}}
    (found,) = results_of(row, None)
    assert (found.tag, found.classes, found.shape) == ("box", ("a",), "polygon")


def test_an_ellipse_turns_by_pixels() -> None:
    # Radii of 40 and 10 pixels; turned by 90 degrees it is 20 wide and 80 high.
    values = {"x": 50, "y": 50, "radiusX": 20, "radiusY": 10, "rotation": 90}
    shape = shape_of(Result("x", ("a",), "ellipse", values), (100, 200), needs_box=True)
    assert np.allclose([shape.corners.min(0), shape.corners.max(0)], [[90, 10], [110, 90]])
