"""What labels show is what is left of them once they are resized, and what is lost is told."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from given import Given
from regrow.data.formats import Masks
from regrow.data.images import fingerprints
from regrow.data.module import GrowingData
from regrow.data.targets.labels import VOID, Boxes, Item, Mask, Target
from regrow.errors import BadInput


def items_of(*targets: tuple[str, Target], side: int = 8) -> list[Item]:
    random = np.random.default_rng(0)
    return [
        Item(f"{split}{n}", random.integers(0, 256, (side, side, 3), np.uint8), target, split)
        for n, (split, target) in enumerate(targets)
    ]


def boxes(*named: tuple[str, list[float]]) -> Boxes:
    corners = np.array([box for _, box in named], np.float32).reshape(-1, 4)
    return Boxes(corners, tuple(name for name, _ in named))


def test_a_census_of_labels_counts_images_by_class_and_split() -> None:
    given = items_of(("train", "a"), ("train", "a"), ("train", "b"), ("val", "b"))
    assert GrowingData(Given(given), test_share=0).census() == {
        "train": {"images": 3, "classes": {"a": {"images": 2}, "b": {"images": 1}}},
        "val": {"images": 1, "classes": {"a": {"images": 0}, "b": {"images": 1}}},
        "test": {"images": 0, "classes": {"a": {"images": 0}, "b": {"images": 0}}},
    }


def test_a_census_of_boxes_leaves_out_those_below_a_pixel(
    capsys: pytest.CaptureFixture[str],
) -> None:
    # At a quarter of the size 4 pixels are just 1, and 3.9 are less.
    big, small = [0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 8.0, 3.9]
    given = items_of(
        ("train", boxes(("a", big), ("a", big), ("b", small), ("b", big))),
        ("train", boxes(("b", small))),
        ("val", boxes(("a", small), ("b", big))),
    )
    data = GrowingData(Given(given), size=(2, 2), test_share=0)
    assert data.census()["train"] == {
        "images": 2,
        "classes": {"a": {"images": 1, "boxes": 2}, "b": {"images": 1, "boxes": 1}},
    }
    assert data.census()["val"]["classes"]["a"] == {"images": 0, "boxes": 0}
    assert data.shown("train") == [{"a", "b"}, set()]
    said = capsys.readouterr().err
    assert "3 boxes are less than 1 pixel wide or high at data.size [2, 2]; raise it: " in said
    assert "train0, train1, val2" in said
    assert (
        data.remarks.count("boxes are less than 1 pixel wide or high at data.size [2, 2]; raise it")
        == 3
    )


def striped(column: int) -> np.ndarray:
    """A mask of 8x8 that is `b` in one column."""
    numbers = np.zeros((8, 8), np.uint8)
    numbers[:, column] = 1
    return numbers


def crack(root: Path, columns: dict[str, list[int]]) -> Path:
    for split, places in columns.items():
        for part in ("images", "masks"):
            (root / part / split).mkdir(parents=True)
        for n, column in enumerate(places):
            pixels = np.random.default_rng(n + len(split)).integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).save(root / "images" / split / f"{n}.png")
            Image.fromarray(striped(column)).save(root / "masks" / split / f"{n}.png")
    (root / "classes.json").write_text(json.dumps(["ground", "crack"]))
    return root


def test_a_census_of_masks_counts_the_pixels_that_training_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**18))
    # At a quarter of the size the columns 2 and 6 are taken, whose centres are nearest.
    root = crack(tmp_path / "d", {"train": [0, 2, 5, 3], "val": [6]})
    for _ in range(2):  # read anew, then known
        data = GrowingData(Masks(), root, size=(2, 2), test_share=0)
        assert data.census()["train"] == {
            "images": 4,
            "classes": {
                "ground": {"images": 4, "pixels": 4 * 4 - 2},
                "crack": {"images": 1, "pixels": 2},
            },
        }
        seen = [(data.examples("train")[0, n][1] == 1).sum().item() for n in range(4)]
        assert seen == [0, 2, 0, 0]
        assert data.shown("train") == [{"ground"}, {"ground", "crack"}, {"ground"}, {"ground"}]
        assert (
            "3 of the 5 masks that show crack lose all of it at data.size [2, 2]; raise it: "
            "images/train/0.png, images/train/2.png, images/train/3.png"
        ) in capsys.readouterr().err
    # Another size is counted for itself.
    whole = GrowingData(Masks(), root, size=(8, 8), test_share=0)
    assert whole.census()["train"]["classes"]["crack"] == {"images": 4, "pixels": 4 * 8}
    assert not whole.remarks


def test_a_class_that_a_resize_wipes_out_of_training_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = crack(tmp_path / "d", {"train": [0, 1, 3], "val": [6]})
    _ = GrowingData(Masks(), root, size=(2, 2), test_share=0).snapshot
    said = capsys.readouterr().err
    assert "1 class that no training image shows: crack" in said
    assert "validation" not in said


def test_boxes_that_all_shrink_below_a_pixel_are_told_and_not_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    small = boxes(("a", [0.0, 0.0, 3.0, 3.0]))
    given = items_of(("train", small), ("val", small))
    assert len(GrowingData(Given(given, ["a"]), size=(2, 2), test_share=0).snapshot.items) == 2
    said = capsys.readouterr().err
    assert "2 boxes are less than 1 pixel" in said
    assert "1 class that no validation image shows: a" in said


NOTHING = {"boxes": boxes(), "masks": Mask(np.full((8, 8), VOID, np.uint8), {0: "a", 1: "b"})}
BOTH = {
    "boxes": boxes(("a", [0, 0, 8, 8]), ("b", [0, 0, 8, 8])),
    "masks": Mask(np.eye(8, dtype=np.uint8), {0: "a", 1: "b"}),
}


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_split_without_any_object_is_refused(kind: str, split: str) -> None:
    given = [(s, NOTHING[kind] if s == split else BOTH[kind]) for s in ("train", "val", "test")]
    word, way_out = {
        "train": ("training", "add labels"),
        "val": ("validation", "raise data.val_share"),
        "test": ("test", "data.test_share 0"),
    }[split]
    with pytest.raises(BadInput, match=f"no {word} image shows any of a, b; .*{way_out}"):
        GrowingData(Given(items_of(*given)), size=(8, 8)).refuse_unscored()


@pytest.mark.parametrize("kind", ["labels", "boxes", "masks"])
def test_a_validation_set_that_lacks_a_class_says_so(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    one = {
        "labels": "a",
        "boxes": boxes(("a", [0, 0, 8, 8])),
        "masks": Mask(np.zeros((8, 8), np.uint8), {0: "a", 1: "b"}),
    }[kind]
    more = [("train", "b")] if kind == "labels" else [("train", BOTH[kind])]
    data = GrowingData(Given(items_of(("train", one), ("val", one), *more)), size=(8, 8))
    assert len(data.snapshot.items) == 3
    assert data.remarks.to_dict() == {
        "classes that no validation image shows": {"count": 1, "first": ["b"]}
    }
    assert "1 class that no validation image shows: b" in capsys.readouterr().err


def test_void_and_numbers_of_one_class_are_counted_as_such() -> None:
    numbers = np.array([[0, 1, 2, VOID]] * 4, np.uint8)
    mask = Mask(numbers, {0: "a", 1: "a", 2: "b"})
    given = items_of(("train", mask), ("val", mask), side=4)
    data = GrowingData(Given(given), size=(4, 4), test_share=0)
    assert data.census()["train"]["classes"] == {
        "a": {"images": 1, "pixels": 8},
        "b": {"images": 1, "pixels": 4},
    }


def test_a_census_of_joined_data_has_the_names_of_here_and_no_removed_class() -> None:
    old = items_of(("train", boxes(("x", [0, 0, 8, 8]), ("gone", [0, 0, 8, 8]))))
    new = items_of(("val", boxes(("b", [0, 0, 8, 8]))), ("train", boxes(("b", [0, 0, 4, 8]))))
    data = GrowingData(Given(new, ["b"]), size=(8, 8), test_share=0)
    before = GrowingData(
        Given(
            [*old, Item("val", np.zeros((8, 8, 3), np.uint8), old[0].target, "val")], ["x", "gone"]
        ),
        size=(8, 8),
        test_share=0,
    )
    data.join_(before, "before", called={"x": "b"}, removed=["gone"])
    classes = data.census()["train"]["classes"]
    assert set(classes) == {"b"}
    assert classes["b"]["boxes"] == len(data.snapshot.indices("train"))
