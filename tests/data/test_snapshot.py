from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.data.snapshot import Diff, Manifest, Snapshot, check_items, diff
from regrow.data.splits import Shares, hashed_splits
from regrow.data.targets.labels import Boxes, Item, Mask, Target, label_digest, pixels_hash
from regrow.errors import BadInput


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def item(value: int, target: Target = "a", **options) -> Item:
    return Item(options.pop("name", str(value)), picture(value), target, **options)


def snapshot(items: list[Item], classes: tuple[str, ...] = ("a", "b")) -> Snapshot:
    hashes = [pixels_hash(np.asarray(item.image)) for item in items]
    digests = [label_digest(item.target) for item in items]
    splits = hashed_splits(items, hashes, Shares())
    return Snapshot("labels", classes, items, hashes, digests, splits=splits)


def manifest(labels: str, classes: str = "ab") -> Manifest:
    """Image 0 has the first letter as its label, and so on; a space is no image."""
    items = [item(value, name) for value, name in enumerate(labels) if name != " "]
    return snapshot(items, tuple(classes)).manifest()


def boxes(*rows: tuple[float, ...], names: str) -> Boxes:
    return Boxes(np.array(rows, dtype=np.float32).reshape(-1, 4), tuple(names))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("aab", "aab", Diff(0, 0, 0)),
        ("aab", "aabba", Diff(2, 0, 0)),
        ("aab", "  b", Diff(0, 2, 0)),
        ("aab", "aba", Diff(0, 0, 2)),
        ("aab", " bba", Diff(1, 1, 1)),
    ],
)
def test_diff_counts(old: str, new: str, expected: Diff) -> None:
    assert diff(manifest(old), manifest(new)) == expected


def test_diff_names_classes_that_came_and_went() -> None:
    found = diff(manifest("ab", "ab"), manifest("acd", "dac"))
    assert found == Diff(1, 0, 1, ("d", "c"), ("b",))
    assert str(found) == "+1 image, +2 classes, -1 class, 1 relabelled"
    assert str(diff(manifest("ab"), manifest("a"))) == "+0 images, -1 image"


def test_diff_counts_equal_images_as_often_as_they_occur() -> None:
    twice = [item(0, name="x"), item(0, name="y")]
    thrice = [*twice, item(0, "b", name="z")]
    assert diff(snapshot(twice).manifest(), snapshot(thrice).manifest()) == Diff(1, 0, 0)
    assert diff(snapshot(thrice).manifest(), snapshot(twice).manifest()) == Diff(0, 1, 0)
    one = [item(0, "b", name="x"), item(0, name="y"), item(0, "b", name="z")]
    assert diff(snapshot(thrice).manifest(), snapshot(one).manifest()) == Diff(0, 0, 1)


labelled = st.dictionaries(st.integers(0, 12), st.sampled_from("ab"), max_size=10)


@given(labelled, labelled, st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_diff_agrees_with_sets_whatever_the_order_and_names(old, new, random) -> None:
    def shuffled(labels: dict[int, str]) -> Manifest:
        items = [item(v, label, name=f"{random.random()}") for v, label in labels.items()]
        random.shuffle(items)
        return snapshot(items).manifest()

    found = diff(shuffled(old), shuffled(new))
    both = old.keys() & new.keys()
    assert found.num_added == len(new.keys() - old.keys())
    assert found.num_removed == len(old.keys() - new.keys())
    assert found.num_relabelled == sum(old[key] != new[key] for key in both)


def test_the_hash_of_a_snapshot_ignores_order_only() -> None:
    items = [item(0), item(1, "b"), item(2)]
    base = snapshot(items).hash
    assert snapshot(items[::-1], ("b", "a")).hash == base
    assert snapshot([replace(each, name=f"x{each.name}") for each in items]).hash == base
    assert snapshot([item(0), item(1, "b")]).hash != base
    assert snapshot([item(0), item(1), item(2)]).hash != base
    assert snapshot(items, ("a", "b", "c")).hash != base
    assert snapshot([item(0, split="test"), *items[1:]]).hash != base


def test_a_manifest_comes_back_from_its_mapping() -> None:
    whole = snapshot([item(0), item(1, "b", split="val")]).manifest()
    again = Manifest.from_dict(whole.to_dict())
    assert again.hash == whole.hash
    assert diff(whole, again) == Diff(0, 0, 0)
    assert whole.hashes.shape == (2, 16)
    assert bytes(whole.hashes[1].tolist()) == pixels_hash(picture(1))
    assert whole.splits[1] == 1


def test_a_manifest_refuses_what_is_none() -> None:
    values = snapshot([item(0)]).manifest().to_dict()
    with pytest.raises(BadInput, match="not one; train again"):
        Manifest.from_dict({"hashes": values["hashes"]})
    with pytest.raises(BadInput, match="has the shapes"):
        Manifest.from_dict({**values, "splits": torch.zeros(2, dtype=torch.uint8)})


def test_check_items_accepts_a_data_set() -> None:
    masked = item(3, Mask(picture(0)[..., 0], {0: "b"}))
    check_items(("a", "b", "more"), [item(0), item(1, boxes((0, 0, 1, 1), names="b")), masked], "x")


@pytest.mark.parametrize(
    ("classes", "items", "message"),
    [
        ("aab", [item(0)], "here: the class a is named twice"),
        ("a", [], "here: no images found"),
        ("", [item(0)], "here: no classes found"),
        ("a", [item(0), item(1, name="0")], "here: 0 is listed twice"),
        ("a", [item(7, "z")], "7: its label 'z' is none of the classes a; add the class"),
        ("a", [item(7, boxes((0, 0, 1, 1), names="z"))], "7: its label 'z' is none"),
        ("a", [item(7, Mask(picture(0)[..., 0], {0: "z"}))], "7: its label 'z' is none"),
    ],
)
def test_check_items_refuses(classes: str, items: list[Item], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        check_items(tuple(classes), items, "here")


def test_splits_that_are_known_stand() -> None:
    items = [item(value, split="val", group="x") for value in range(4)]
    splits = ["test", "train", "val", "train"]
    found = Snapshot("labels", ("a",), items, [b"h" * 16] * 4, [b"d" * 8] * 4, splits=splits)
    assert found.splits == tuple(splits)
    assert found.indices("train") == [1, 3]
    assert found.manifest().splits.tolist() == [2, 0, 1, 0]
