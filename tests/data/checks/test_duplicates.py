"""The same pixels on both sides of a split, or under two labels, are counted and named."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from regrow.data.checks.duplicates import seen_tests
from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Boxes, Item, Target

VAL = "validation images have the pixels of training images"
TEST = "test images have the pixels of training images"
BOTH = "test images have the pixels of validation images"
LABELS = "images stand under several labels with the same pixels"


class Given(Source):
    """Items held in memory."""

    def __init__(self, items: Sequence[Item], classes: Sequence[str] = ("a", "b")) -> None:
        self.items, self.classes = items, classes

    def read(self, root: Path | None) -> Content:
        kind = "labels" if isinstance(self.items[0].target, str) else "boxes"
        return Content(kind, self.classes, self.items)


def picture(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def item(name: str, value: int, target: Target = "a") -> Item:
    return Item(name, picture(value), target, name.split("/")[0])


def data(*items: Item) -> GrowingData:
    others = [
        item(f"{split}/{name}", 900 + k, name)
        for k, (split, name) in enumerate(
            (split, name) for split in ("train", "val", "test") for name in "ab"
        )
    ]
    return GrowingData(Given([*others, *items]), size=(4, 6))


def said(of: GrowingData) -> dict[str, tuple[int, list[str]]]:
    _ = of.snapshot
    return {kind: (own["count"], own["first"]) for kind, own in of.remarks.to_dict().items()}


def test_data_without_copies_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(data(item("train/1", 1), item("val/2", 2), item("test/3", 3))) == {}
    # Copies in one split under one label are an image that comes twice.
    assert said(data(item("train/1", 1), item("train/2", 1))) == {}
    assert capsys.readouterr().err == ""


def test_copies_are_counted_for_each_pair_of_splits(capsys: pytest.CaptureFixture[str]) -> None:
    given = [item("train/1", 1), item("train/2", 1), item("val/3", 1), item("val/4", 2)]
    given += [item("test/5", 1), item("test/6", 2), item("test/7", 2), item("test/8", 8)]
    assert said(data(*given)) == {
        VAL: (1, ["val/3 = train/1"]),
        TEST: (1, ["test/5 = train/1"]),
        BOTH: (3, ["test/5 = val/3", "test/6 = val/4", "test/7 = val/4"]),
    }
    assert f"Given: 3 {BOTH}: test/5 = val/3, test/6 = val/4" in capsys.readouterr().err
    assert seen_tests(data(*given).snapshot) == ["test/5", "test/6", "test/7"]


def test_labels_that_differ_are_counted_within_a_split_and_across() -> None:
    given = [item("train/1", 1, "a"), item("train/2", 1, "b"), item("train/3", 1, "a")]
    assert said(data(*given)) == {LABELS: (3, ["train/1 = train/2"])}
    across = [item("train/1", 1, "a"), item("val/2", 1, "b")]
    assert said(data(*across)) == {VAL: (1, ["val/2 = train/1"]), LABELS: (2, ["train/1 = val/2"])}


def test_boxes_that_differ_are_two_labels() -> None:
    one, other = (Boxes(np.array([[0, 0, 4, side]], np.float32), ("a",)) for side in (3, 4))
    given = [item("train/1", 1, one), item("train/2", 1, other), item("val/3", 3, one)]
    found = GrowingData(Given([*given, item("test/4", 4, one)], ["a"]), size=(4, 6))
    assert said(found) == {LABELS: (2, ["train/1 = train/2"])}


def test_test_images_that_a_network_saw_are_named_too() -> None:
    snapshot = data(item("test/1", 1), item("test/2", 2)).snapshot
    seen = {
        snapshot.hashes[snapshot.items.index(next(i for i in snapshot.items if i.name == "test/2"))]
    }
    assert seen_tests(snapshot) == []
    assert seen_tests(snapshot, seen) == ["test/2"]


def test_joined_images_that_are_here_elsewhere_or_otherwise_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    new = data(item("train/1", 1), item("train/2", 2), item("val/3", 3), item("train/4", 4, "b"))
    alone = new.copy()
    before = GrowingData(
        Given(
            [item("test/x", 1), item("train/y", 2), item("val/z", 3), item("train/w", 4, "a")]
            + [item("train/b", 50, "b"), item("val/b", 51, "b"), item("test/b", 52, "b")]
        ),
        size=(4, 6),
    )
    new.join_(before, "before")
    assert said(new) == {
        "test images of before are in training here": (1, ["before/test/x = train/1"]),
        "images of before have another label here, which counts": (1, ["before/train/w = train/4"]),
    }
    assert said(alone) == {}
    assert "Given: 1 test image of before is in training here: " in capsys.readouterr().err
    # Splits that are not taken have no say, nor have labels by other names.
    other = alone.copy()
    other.join_(before, "before", splits=["val"], called={"a": "b"})
    assert said(other) == {}
