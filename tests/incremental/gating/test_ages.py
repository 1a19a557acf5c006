"""Images are old, relabelled, trained on or new by their pixels and their labels of then."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Boxes, Item, Kind, Mask, Target
from regrow.incremental.gating.ages import Ages, ages_of, old_images

# The number of an image's pixels, its split and label.
Rows = list[tuple[int, str, Target]]
TRAINED: tuple[int, str, str] = (99, "train", "a")
VAL: tuple[int, str, str] = (98, "val", "a")


class Given(Source):
    """Images of numbers, with the labels that are given."""

    def __init__(self, kind: Kind, classes: list[str], rows: Rows) -> None:
        self.kind, self.classes, self.rows = kind, classes, rows

    def read(self, root: Path | None) -> Content:
        items = [
            Item(f"{place}", np.full((4, 4, 3), number, dtype=np.uint8), target, split)
            for place, (number, split, target) in enumerate(self.rows)
        ]
        return Content(self.kind, self.classes, items)


def data(classes: list[str], rows: Rows, kind: Kind = "labels") -> GrowingData:
    made = GrowingData(Given(kind, classes, rows), size=(4, 4), val_share=0, test_share=0)
    made.order_classes(classes)
    return made


def of_labels(classes: str, rows: Rows) -> GrowingData:
    return data([*classes], [TRAINED, VAL, *rows])


def before(rows: Rows, classes: str = "ab") -> Manifest:
    return of_labels(classes, rows).snapshot.manifest()


def test_old_images_are_those_that_were_known_and_not_trained_on() -> None:
    known = before([(0, "test", "a"), (1, "val", "b"), (2, "train", "a"), (3, "train", "b")])
    now = of_labels("ab", [(n, "test", "ab"[n % 2]) for n in (0, 1, 2, 5)] + [(2, "val", "a")])
    found = ages_of(known, now, "test")
    assert found == Ages("test", ("old", "old", "trained", "new"))
    assert found.are("old", "new") == [True, True, False, True]
    assert found.count("old") == 2
    # What validated before and does now; what was trained on then is no test now.
    assert ages_of(known, now, "val").ages == ("old", "trained")


def test_an_image_that_was_trained_on_and_tested_is_no_test() -> None:
    known = before([(0, "test", "a"), (0, "train", "a")])
    assert ages_of(known, of_labels("ab", [(0, "test", "a")]), "test").ages == ("trained",)


def test_another_label_makes_an_image_relabelled_and_a_new_name_does_not() -> None:
    known = before([(0, "test", "a"), (1, "test", "b"), (2, "test", "b")])
    now = of_labels("ac", [(0, "test", "c"), (1, "test", "c"), (2, "test", "a")])
    found = ages_of(known, now, "test", {"b": "c"})
    assert found.ages == ("relabelled", "old", "relabelled")
    # Without the renaming c is a class that came later.
    assert ages_of(known, now, "test").ages == ("relabelled",) * 3


def test_a_new_class_by_the_name_of_one_that_is_given_up_makes_no_image_old() -> None:
    known = before([(0, "test", "b")])
    now = of_labels("ab", [(0, "test", "b")])
    assert ages_of(known, now, "test").ages == ("old",)
    assert ages_of(known, now, "test", removed=["b"]).ages == ("relabelled",)


def test_data_that_is_not_recorded_makes_all_images_new() -> None:
    now = of_labels("ab", [(0, "test", "a")])
    assert ages_of(None, now, "test").ages == ("new",)


def box(*names: str, left: float = 0) -> Boxes:
    corners = [[left, place, 2 + left, place + 1] for place, _ in enumerate(names)]
    return Boxes(np.array(corners, dtype=np.float32).reshape(-1, 4), names)


def mask(*numbers: int, names: Mapping[int, str]) -> Mask:
    pixels = np.repeat(np.array(numbers, dtype=np.uint8), 16 // len(numbers)).reshape(4, 4)
    return Mask(pixels, names)


def test_boxes_of_later_classes_leave_an_image_old() -> None:
    rows: Rows = [(99, "train", box("a", "b")), (98, "val", box("a"))]
    then: Rows = [(0, "test", box("a")), (1, "test", box("a")), (2, "test", box())]
    known = data(["a", "b"], [*rows, *then], "boxes").snapshot.manifest()
    # The first gets an object of a class that came later, the second's own box moves.
    new: Rows = [(0, "test", box("a", "c")), (1, "test", box("a", left=1)), (2, "test", box("c"))]
    now = data(["a", "b", "c"], [*rows, *new, (3, "test", box("a"))], "boxes")
    assert ages_of(known, now, "test").ages == ("old", "relabelled", "old", "new")


def test_pixels_of_later_classes_leave_an_image_old() -> None:
    names = {0: "a", 1: "b"}
    rows: Rows = [(99, "train", mask(0, 1, names=names)), (98, "val", mask(0, 1, names=names))]
    then: Rows = [(n, "test", mask(0, 255, names=names)) for n in (0, 1)]
    known = data(["a", "b"], [*rows, *then], "masks").snapshot.manifest()
    more = {**names, 2: "c"}
    # What was void is a new class now; or some of what was one of the old ones.
    new: Rows = [(0, "test", mask(0, 2, names=more)), (1, "test", mask(0, 2, 2, 2, names=more))]
    now = data(["a", "b", "c"], [*rows, *new], "masks")
    assert ages_of(known, now, "test").ages == ("old", "relabelled")


@pytest.mark.parametrize(
    ("test", "val", "expected"),
    [
        (("old", "new"), ("old",), ("test", "old")),
        (("new", "relabelled"), ("old",), ("val", "old")),
        (("new", "relabelled"), ("trained",), ("test", "relabelled")),
        (("new", "trained"), ("relabelled",), ("val", "relabelled")),
        (("new", "trained"), ("new",), None),
    ],
)
def test_the_best_old_images_there_are_tell_of_forgetting(test, val, expected) -> None:
    rows: Rows = [(n, "test", "a") for n, _ in enumerate(test)] + [(n, "val", "a") for n in (7,)]
    now = data(["a"], [TRAINED, *rows])
    ages = [Ages("test", test), Ages("val", val)]
    found = old_images(ages, now, ["a"])
    assert (found and (found[0].split, found[1])) == expected
    # Images of no class that was known tell nothing of it.
    assert old_images(ages, now, ["b"]) is None
