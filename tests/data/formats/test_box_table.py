"""Tables with a row a box."""

import pytest

from regrow.data.checks.faults import Faults
from regrow.data.formats.box_table import by_image, is_box_table
from regrow.errors import BadInput


def test_rows_of_one_image_are_gathered() -> None:
    row = {"filename": " a.png", "class": "ant", "xmin": "1", "ymin": "2", "xmax": "4", "ymax": "6"}
    assert is_box_table(row)
    assert not is_box_table({"image": "a.png", "label": "ant"})
    rows = [("1", row), ("2", {**row, "class": "bee", "xmax": "9"}), ("3", {**row, "class": ""})]
    faults = Faults()
    ((where, found),) = by_image(rows, faults)
    assert (where, found["image"]) == ("1", "a.png")
    assert found["label"]["annotations"] == [
        {"class_id": 0, "left": 1, "top": 2, "width": 3, "height": 4},
        {"class_id": 1, "left": 1, "top": 2, "width": 8, "height": 4},
    ]
    assert found["metadata"]["class-map"] == {"0": "ant", "1": "bee"}
    assert not faults
    assert len([*by_image([("4", {**row, "xmin": "x"})], faults)]) == 1
    with pytest.raises(BadInput, match="4: not to be read .*could not convert"):
        faults.refuse()
