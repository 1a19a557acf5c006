"""Names in one form, and limits on what a data set may hold."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.names.tidy import (
    class_name,
    class_number,
    clean_name,
    declared_size,
    mask_number,
    tidy,
)
from regrow.data.targets.labels import Boxes, Item
from regrow.errors import BadInput


def test_names_are_in_one_unicode_form_without_blanks() -> None:
    assert clean_name(" cafe\u0301 ") == "caf\u00e9"
    assert [class_name(value) for value in ("a", 3, 0.5)] == ["a", "3", "0.5"]
    with pytest.raises(ValueError, match="the class name None is no text"):
        class_name(None)
    for missing in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="the class name (nan|inf) stands for a missing one"):
            class_name(missing)


@pytest.mark.parametrize("value", [-1, 0.5, True, None, [], float("nan"), 2**31, "1" * 11])
def test_class_numbers_are_whole_and_bounded(value: Any) -> None:
    assert [class_number(own) for own in (3, 3.0, "3")] == [3, 3, 3]
    with pytest.raises(ValueError, match=r"class number .* is not a whole number in \[0, 21474836"):
        class_number(value)


def test_numbers_in_masks_have_at_most_16_bits() -> None:
    assert mask_number(65535, "x") == 65535
    with pytest.raises(BadInput, match="x: the class number 65536 is not .* the range of masks"):
        mask_number(65536, "x")


def test_sizes_may_be_said_in_part_or_not_at_all() -> None:
    assert declared_size({}) is None
    assert declared_size({"width": "30"}) == (0, 30, 0)
    assert declared_size({"width": 30, "height": 20.0, "depth": "3"}) == (20, 30, 3)
    assert declared_size({"width": 30, "height": 20, "depth": "RGB"}) == (20, 30, 0)
    with pytest.raises(ValueError, match="the width -1 is not a whole number"):
        declared_size({"width": -1})


def test_names_of_classes_and_items_are_brought_into_one_form() -> None:
    remarks, faults = Remarks(), Faults()
    boxes = Boxes(np.zeros((1, 4), np.float32), (" ant",))
    items = [Item("a", Path("a"), boxes), Item("b", Path("b"), boxes), Item("b", Path("c"), boxes)]
    classes, tidied = tidy(["ant", " ant"], items, remarks, faults)
    assert classes == ["ant"]
    assert [item.name for item in tidied] == ["a"]
    assert isinstance(tidied[0].target, Boxes)
    assert tidied[0].target.classes == ("ant",)
    with pytest.raises(BadInput, match="b is listed twice; list each image once"):
        faults.refuse()
