"""Rows of SageMaker's augmented manifests."""

from pathlib import Path

import numpy as np
import pytest

from regrow.data.formats.augmented_manifest import (
    augmented_row,
    boxes_of,
    by_number,
    declared_of,
    kind_and_classes,
    mask_of,
    target_of,
)
from regrow.data.targets.labels import CROWD, DIFFICULT, Boxes, Item, Mask
from regrow.errors import BadInput

SIZE = {"width": 30, "height": 20, "depth": 3}
BOX = {"class_id": 1, "left": 1, "top": 2, "width": 3, "height": 4}


def test_a_row_gets_the_keys_of_any_list() -> None:
    row = {"source-ref": "s3://b/a.png", "x": 1, "x-metadata": {"class-name": "ant"}}
    found = augmented_row(row, None, "r")
    assert (found["image"], found["label"], found["attribute"]) == ("s3://b/a.png", "ant", "x")
    assert augmented_row({"image": "a", "label": "b", "attribute": "c"}, None, "r") == {
        "image": "a",
        "label": "b",
    }
    with pytest.raises(BadInput, match="r: has the attributes x, y; name that of the label"):
        augmented_row({**row, "y": 2}, None, "r")
    assert augmented_row({**row, "y": 2}, "y", "r")["label"] == 2


def test_labels_are_classes_boxes_or_masks() -> None:
    boxes = {"image": "a", "label": {"annotations": [BOX]}, "metadata": {"class-map": {"1": "ant"}}}
    target = target_of(boxes, None, None, "r")
    assert isinstance(target, Boxes)
    assert (target.classes, target.xyxy.tolist()) == (("ant",), [[1, 2, 4, 6]])
    assert mask_of({**boxes, "attribute": "x-ref"}) is None
    named = {"image": "a", "label": "m.png", "attribute": "x-ref", "metadata": {}}
    assert mask_of(named) == "m.png"
    mask = target_of(named, Path("m.png"), 2, "r")
    assert isinstance(mask, Mask)
    assert (mask.names, mask.void) == ({0: "0", 1: "1"}, frozenset({255}))
    assert target_of({"label": 3}, None, None, "r") == "3"
    with pytest.raises(BadInput, match=r"r: the label \[3\] is not one class name"):
        target_of({"label": [3]}, None, None, "r")


def test_boxes_may_be_marked_as_ignored() -> None:
    content = {"annotations": [{**BOX, "iscrowd": 1}, {**BOX, "difficult": 1}]}
    assert boxes_of(content, {}, "r").ignored == (CROWD, DIFFICULT)
    with pytest.raises(BadInput, match="r: not SageMaker's boxes"):
        boxes_of({"annotations": [{}]}, {}, "r")


def test_a_row_says_one_size() -> None:
    assert declared_of({"image_size": SIZE}, "r") == (20, 30, 3)
    assert declared_of({"x": {"image_size": [SIZE]}}, "r") == (20, 30, 3)
    assert declared_of({}, "r") is None
    with pytest.raises(BadInput, match="r: its image_size is 30x20 and 31x20; correct one"):
        declared_of({"image_size": [SIZE, {**SIZE, "width": 31}]}, "r")


def test_a_list_has_one_kind_of_labels() -> None:
    assert by_number(["10", "b", "9", "a"]) == ["9", "10", "a", "b"]
    items = [Item("a", Path("a"), "ant"), Item("b", Path("b"), "bee")]
    assert kind_and_classes(items, "x") == ("labels", ["ant", "bee"])
    items.append(Item("c", Path("c"), Boxes(np.zeros((0, 4)), ())))
    with pytest.raises(BadInput, match="x: has boxes and labels; one kind of label in a list"):
        kind_and_classes(items, "x")
