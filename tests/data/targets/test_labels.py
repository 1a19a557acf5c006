"""Labels: their digests, their names, and classes that are left out."""

import numpy as np
import pytest

from regrow.data.targets.labels import (
    Boxes,
    Mask,
    Target,
    label_digest,
    pixels_hash,
    renamed,
    without,
)


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def boxes(*rows: tuple[float, ...], names: str) -> Boxes:
    return Boxes(np.array(rows, dtype=np.float32).reshape(-1, 4), tuple(names))


def test_pixels_hash_tells_pixels_and_shapes_apart() -> None:
    same = np.asfortranarray(picture(3))
    assert pixels_hash(picture(3)) == pixels_hash(same)
    assert len(pixels_hash(same)) == 16
    assert pixels_hash(picture(3)) != pixels_hash(picture(4))
    assert pixels_hash(np.zeros((2, 3, 3), np.uint8)) != pixels_hash(np.zeros((3, 2, 3), np.uint8))


def test_the_digest_of_boxes_ignores_their_order_and_rounding() -> None:
    one = boxes((0, 0, 4, 4), (1, 1, 3, 3), names="ab")
    turned = boxes((1, 1, 3, 3.0001), (0, 0, 4, 4), names="ba")
    swapped = boxes((0, 0, 4, 4), (1, 1, 3, 3), names="ba")
    moved = boxes((0, 0, 4, 4.1), (1, 1, 3, 3), names="ab")
    digests = [label_digest(target) for target in (one, turned, swapped, moved)]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_the_digest_of_a_mask_is_of_names_not_numbers() -> None:
    numbers = np.array([[0, 1], [1, 255]], np.uint8)
    swapped = np.array([[1, 0], [0, 7]], np.uint8)
    names, other = {0: "a", 1: "b"}, {0: "b", 1: "a"}
    digest = label_digest(Mask(numbers, names), numbers)
    assert digest == label_digest(Mask(swapped, other, frozenset({7})), swapped)
    assert digest != label_digest(Mask(numbers, other), numbers)
    assert digest != label_digest(Mask(numbers, {0: "a"}), numbers)


@pytest.mark.parametrize(
    "target",
    [
        "b",
        boxes((0, 0, 1, 1), (0, 0, 2, 2), (1, 1, 2, 2), names="bab"),
        Mask(np.array([[0, 1], [2, 9]], np.uint8), {0: "a", 1: "b", 2: "c"}, frozenset({9})),
    ],
)
def test_a_renamed_label_is_that_of_the_name(target: Target) -> None:
    pixels = target.pixels if isinstance(target, Mask) else None
    other = renamed(target, {"b": "d", "x": "y"})
    assert label_digest(other, pixels) != label_digest(target, pixels)
    back = renamed(other, {"d": "b"})
    assert label_digest(back, pixels) == label_digest(target, pixels)
    assert label_digest(renamed(target, {}), pixels) == label_digest(target, pixels)


def test_a_label_without_a_class() -> None:
    assert without("a", ["b"]) == "a"
    assert without("a", ["b", "a"]) is None
    both = boxes((0, 0, 4, 4), (1, 1, 3, 3), (2, 2, 3, 3), names="aba")
    left = without(both, ["a"])
    assert isinstance(left, Boxes)
    assert (left.xyxy.tolist(), left.classes) == ([[1, 1, 3, 3]], ("b",))
    empty = without(both, ["a", "b"])
    assert isinstance(empty, Boxes)
    assert empty.xyxy.shape == (0, 4)
    assert len(both.classes) == 3
    mask = Mask(np.zeros((2, 2), np.uint8), {0: "a", 1: "b", 2: "a"}, frozenset({9}))
    found = without(mask, ["a"])
    assert isinstance(found, Mask)
    assert (found.names, found.void) == ({1: "b"}, {0, 2, 9})
