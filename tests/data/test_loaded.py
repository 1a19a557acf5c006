"""Data that takes images of other data beside its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Boxes, Item, Mask, Target, pixels_hash
from regrow.errors import BadInput

KINDS = {str: "labels", Boxes: "boxes", Mask: "masks"}
SQUARE = np.array([[0, 0, 3, 3], [1, 1, 5, 4]], np.float32)


class Given(Source):
    """Items held in memory."""

    def __init__(self, items: Sequence[Item], classes: Sequence[str]) -> None:
        self.items, self.classes = items, classes

    def read(self, root: Path | None) -> Content:
        return Content(KINDS[type(self.items[0].target)], self.classes, self.items)


def picture(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def item(value: int, target: Target, split: str | None = "train") -> Item:
    return Item(f"{value}.png", picture(value), target, split)


def data(items: Sequence[Item], classes: Sequence[str] = "ab", **options: Any) -> GrowingData:
    return GrowingData(Given(items, list(classes)), size=(4, 6), test_share=0, **options)


def both_splits(first: int, target: Target) -> list[Item]:
    return [item(first, target), item(first + 1, target, "val")]


def placed(module: GrowingData) -> list[tuple[bytes, str]]:
    snapshot = module.snapshot
    return list(zip(snapshot.hashes, snapshot.splits, strict=True))


def test_images_keep_the_splits_that_they_have() -> None:
    # Splits by hash of the pixels, whose shares here would give others there.
    old = data([item(n, "ab"[n % 2], None) for n in range(60)], val_share=0.5)
    new = data([item(n, "ab"[n % 2], None) for n in range(100, 160)], val_share=0.1)
    own, theirs = placed(new), placed(old)
    new.join_(old, "before")
    assert placed(new) == own + theirs
    assert placed(old) == theirs


def test_only_the_splits_asked_for_are_taken() -> None:
    old = data([*both_splits(0, "a"), item(2, "b", "test")])
    new = data(both_splits(10, "a"))
    new.join_(old, "before", ("val", "test"))
    assert [i.name for i in new.snapshot.items[2:]] == ["before/1.png", "before/2.png"]
    assert new.snapshot.splits == ("train", "val", "val", "test")


def test_images_that_are_there_already_stay_out_whatever_their_label_and_split() -> None:
    old = data([item(0, "a"), item(1, "b", "val"), item(2, "a")])
    new = data([item(0, "b", "val"), item(1, "b"), item(3, "a")])
    new.join_(old, "before")
    hashes = [pixels_hash(picture(value)) for value in (0, 1, 3, 2)]
    assert placed(new) == list(zip(hashes, ("val", "train", "train", "train"), strict=True))
    assert new.snapshot.items[0].target == "b"


def test_examples_of_both_are_in_the_batches() -> None:
    for cache_bytes in (0, 10_000):
        old = data(both_splits(0, "old"), ["old"], cache_bytes=cache_bytes)
        new = data(both_splits(10, "b"), "b")
        new.join_(old, "before")
        new.order_classes(["old", "b"])
        ((images, labels),) = new.val_dataloader()
        for image, value in zip(images, (11, 1), strict=True):
            assert (image.permute(1, 2, 0).numpy() == picture(value)).all()
        assert labels.tolist() == [1, 0]


def test_classes_of_both_are_there_once_and_renamed_ones_under_their_new_names() -> None:
    old = data([*both_splits(0, "x"), *both_splits(2, "a"), *both_splits(4, "c")], "cxa")
    new = data([*both_splits(10, "a"), *both_splits(12, "b")])
    new.join_(old, "before", called={"x": "b", "c": "d"})
    assert new.classes == ["a", "b", "d"]
    assert [i.target for i in new.snapshot.items[4:]] == ["b", "b", "a", "a", "d", "d"]
    assert new.shown("train") == [{"a"}, {"b"}, {"b"}, {"a"}, {"d"}]


def test_names_of_images_stay_unique_over_generations() -> None:
    first = data(both_splits(0, "a"))
    second = data([item(10, "a"), Item("0.png", picture(11), "b", "val")])
    second.join_(first, "memory")
    assert [i.name for i in second.snapshot.items[2:]] == ["memory/0.png", "memory/1.png"]
    third = data([item(20, "a"), item(21, "a", "val")])
    third.join_(second, "memory")
    names = [i.name for i in third.snapshot.items[2:]]
    assert len(set(names)) == 4
    assert all(name.startswith("memory/") for name in names)
    assert names[3] == "memory/1.png"


def test_another_kind_of_labels_is_refused() -> None:
    boxes = Boxes(SQUARE, ("a", "b"))
    new = data(both_splits(0, "a"))
    with pytest.raises(BadInput, match="before: has boxes, and the data labels"):
        new.join_(data(both_splits(10, boxes)), "before")
    assert len(new.snapshot.items) == 2


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_digests_after_renaming_are_those_of_data_made_with_the_new_names(kind: str) -> None:
    pixels = np.resize(np.array([0, 1, 1, 255], np.uint8), (4, 6))

    def target(one: str, other: str) -> Target:
        if kind == "labels":
            return one
        if kind == "boxes":
            return Boxes(SQUARE, (one, other))
        return Mask(pixels, {0: one, 1: other})

    renamed, made, plain = (data(both_splits(10, target("a", "b"))) for _ in range(3))
    renamed.join_(data(both_splits(0, target("a", "x")), "ax"), "before", called={"x": "b"})
    made.join_(data(both_splits(0, target("a", "b"))), "before")
    assert renamed.snapshot.digests == made.snapshot.digests
    assert renamed.snapshot.hash == made.snapshot.hash
    plain.join_(data(both_splits(0, target("a", "x")), "ax"), "before")
    assert plain.snapshot.hash != made.snapshot.hash


# What was there before.


def test_what_was_there_before_is_found_among_more() -> None:
    kinds = {n: "ab"[n % 2] for n in range(6)}
    old = [item(n, kinds[n], "val" if n == 5 else "train") for n in range(6)]
    twice = Item("0 again.png", picture(0), "a", "train")
    before = data(old)
    grown = data([item(9, "c"), twice, *old, item(10, "a", "val")], "cab")
    found = grown.as_of(before.snapshot.manifest())
    assert found.snapshot.hash == before.snapshot.hash
    assert found.classes == ["a", "b"]
    ((images, labels),) = found.val_dataloader()
    assert (images[0].permute(1, 2, 0).numpy() == picture(5)).all()
    assert labels.tolist() == [1]
    assert len(grown.snapshot.items) == 9


def test_masks_of_before_know_nothing_of_classes_that_came_later() -> None:
    def masks(names: dict[int, str], *more: Item) -> GrowingData:
        pixels = np.array([[0, 1, 1, 1, 1, 1]] * 4, np.uint8)
        return data([*both_splits(0, Mask(pixels, names)), *more], list(names.values()))

    before = masks({0: "a", 1: "b"})
    later = item(5, Mask(np.full((4, 6), 2, np.uint8), {2: "c"}))
    grown = masks({0: "a", 1: "b", 2: "c"}, later)
    found = grown.as_of(before.snapshot.manifest())
    new = data(both_splits(10, Mask(np.zeros((4, 6), np.uint8), {0: "a"})), "a")
    new.join_(found, "before", ("val",))
    assert new.classes == ["a", "b"]
    assert new.snapshot.items[-1].target.names == {0: "a", 1: "b"}  # type: ignore[union-attr]


@pytest.mark.parametrize("changed", [item(7, "b"), item(1, "a"), item(1, "b", "val"), None])
def test_what_is_no_longer_as_it_was_is_counted(changed: Item | None) -> None:
    old = [item(0, "a"), item(1, "b"), item(2, "a", "val")]
    now = [*old[::2], *([changed] if changed else [])]
    with pytest.raises(BadInput, match="Given: 1 of 3 old images missing, or changed in pixels, "):
        data(now).as_of(data(old).snapshot.manifest())


# Classes that are given up.


def test_images_of_a_removed_class_stay_out_and_the_class_too() -> None:
    old = data([*both_splits(0, "a"), *both_splits(2, "gone")], ["gone", "a"])
    new = data(both_splits(10, "a"), "a")
    new.join_(old, "memory", removed=["gone"])
    assert new.classes == ["a"]
    assert [i.name for i in new.snapshot.items[2:]] == ["memory/0.png", "memory/1.png"]


def test_boxes_of_a_removed_class_are_left_out() -> None:
    old = data(both_splits(0, Boxes(SQUARE, ("gone", "x"))), ["gone", "x"])
    new = data(both_splits(10, Boxes(SQUARE[1:], ("a",))), "a")
    alike = data(both_splits(10, Boxes(SQUARE[1:], ("a",))), "a")
    new.join_(old, "memory", called={"x": "a"}, removed=["gone"])
    alike.join_(data(both_splits(0, Boxes(SQUARE[1:], ("a",))), "a"), "memory")
    assert new.classes == ["a"]
    assert new.snapshot.hash == alike.snapshot.hash
    assert new.shown("train") == [{"a"}, {"a"}]
    target = new.examples("train")[0, 1][1]
    assert target["boxes"].tolist() == SQUARE[1:].tolist()
    assert target["labels"].tolist() == [0]


def test_pixels_of_a_removed_class_are_void() -> None:
    pixels = np.array([[0, 1, 2, 3, 255, 0]] * 4, np.uint8)
    target = Mask(pixels, {0: "a", 1: "gone", 2: "b"}, frozenset({3}))
    old = data(both_splits(0, target), ["a", "gone", "b"])
    new = data(both_splits(10, Mask(np.zeros((4, 6), np.uint8), {0: "a"})))
    new.join_(old, "memory", removed=["gone"])
    assert new.classes == ["a", "b"]
    mask = new.examples("train")[0, 1][1]
    assert mask.tolist() == [[0, 255, 1, 255, 255, 0]] * 4
    assert new.shown("train") == [{"a"}, {"a", "b"}]


# What the images of a split show.


def test_images_show_the_classes_of_their_labels_by_the_names_of_the_network() -> None:
    pixels = np.array([[0, 1, 255, 7, 7, 7]] * 4, np.uint8)
    names = {0: "a", 1: "b", 9: "c"}
    new = data(
        [
            item(0, Mask(pixels, names, frozenset({7}))),
            item(1, Mask(pixels * 0, names), "val"),
            item(2, Mask(pixels * 0 + 9, names)),
            item(3, Mask(pixels * 0 + 255, names)),
        ],
        "abc",
    )
    assert new.shown("train") == [{"a", "b"}, {"c"}, set()]
    assert new.shown("val") == [{"a"}]
    new.order_classes(["z", "b", "c"], {"a": "z"})
    assert new.shown("train") == [{"z", "b"}, {"c"}, set()]


def test_void_is_no_class_even_where_a_class_that_is_renamed_is_called_so() -> None:
    names = {0: "255", 1: "b"}
    pixels = np.array([[1, 1, 1, 1, 1, 255]] * 4, np.uint8)
    old = data(
        [*both_splits(0, Mask(pixels, names)), item(2, Mask(pixels * 0, names))], ["255", "b"]
    )
    new = data(both_splits(10, Mask(pixels, {1: "b"})), "b")
    new.join_(old, "before", called={"255": "y"})
    assert new.shown("train") == [{"b"}, {"b"}, {"y"}]
