"""Splits by the hash of pixels, and stratified ones: shares, groups, and what growth leaves."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.data.splits import Shares, hashed_splits, split_of, stratified_splits
from regrow.data.targets.labels import Item, pixels_hash


def picture(value: int) -> np.ndarray:
    return np.full((2, 2, 3), value, dtype=np.uint8)


def item(value: int, target: str = "a", **options) -> Item:
    return Item(options.pop("name", str(value)), picture(value), target, **options)


def hashes(items: list[Item]) -> list[bytes]:
    return [pixels_hash(np.asarray(each.image)) for each in items]


def hashed(items: list[Item], shares: Shares) -> tuple[str, ...]:
    return hashed_splits(items, hashes(items), shares)


def stratified(
    items: list[Item], shares: Shares, decided: dict[bytes, str] | None = None
) -> tuple[str, ...]:
    shown = [{each.target} for each in items]
    return stratified_splits(items, hashes(items), shown, shares, decided)


def keys(counts: dict[str, int]) -> tuple[list[Item], list[bytes], list[set[str]]]:
    """Return so many images that show each of some classes, such as `ab` for a and b."""
    names = [name for name, count in counts.items() for _ in range(count)]
    items = [item(0, "-", name=str(place)) for place in range(len(names))]
    return items, [str(place).encode() for place in range(len(names))], [{*n} for n in names]


# By the hash of pixels.


def test_split_of_gives_the_shares() -> None:
    splits = [split_of(str(n).encode(), 0.2, 0.1) for n in range(4000)]
    assert splits.count("val") == pytest.approx(800, abs=100)
    assert splits.count("test") == pytest.approx(400, abs=80)


@given(st.binary(max_size=20), st.floats(0, 0.5), st.floats(0, 0.49))
def test_split_of_is_a_function_of_the_key(key: bytes, val: float, test: float) -> None:
    split = split_of(key, val, test)
    assert split == split_of(key, val, test)
    assert split_of(key, 0, 0) == "train"
    # A larger share only takes from what trained.
    assert split_of(key, val + 0.005, test) in {split, "val"}


@given(
    old=st.lists(st.tuples(st.integers(0, 255), st.sampled_from("ab")), max_size=20),
    new=st.lists(st.tuples(st.integers(0, 255), st.sampled_from("abc")), max_size=20),
    groups=st.booleans(),
    official=st.booleans(),
    random=st.randoms(use_true_random=False),
)
@settings(max_examples=80)
def test_growing_a_dataset_moves_nothing(old, new, groups: bool, official: bool, random) -> None:
    """Not other images, names, labels, classes or the order decide on a split."""

    def made(rows: list[tuple[int, str]], salt: str) -> list[Item]:
        return [
            item(
                value,
                label,
                name=f"{salt}{place}",
                group=f"g{value % 7}" if groups else None,
                split="train" if official else None,
            )
            for place, (value, label) in enumerate(rows)
        ]

    def key(each: Item) -> object:
        return each.group if groups else int(np.asarray(each.image)[0, 0, 0])

    shares = Shares(0.3, 0.2)
    before = made(old, "old")
    relabelled = [(value, "c") for value, _ in old]
    grown = made([*relabelled, *new], "new")
    random.shuffle(grown)
    pairs = zip(before, hashed(before, shares), strict=True)
    known = {key(each): split for each, split in pairs}
    for each, split in zip(grown, hashed(grown, shares), strict=True):
        assert known.setdefault(key(each), split) == split


def test_the_hash_of_the_pixels_decides_on_the_split() -> None:
    items = [item(value) for value in range(200)]
    expected = [split_of(pixels_hash(picture(value)), 0.3, 0.2) for value in range(200)]
    assert list(hashed(items, Shares(0.3, 0.2))) == expected
    assert len(set(expected)) == 3


def test_a_group_stays_together() -> None:
    items = [item(value, group=f"video{value % 9}") for value in range(90)]
    splits = hashed(items, Shares(0.3, 0.3))
    for number in range(9):
        assert len(set(splits[number::9])) == 1
    assert len(set(splits)) == 3


def test_official_splits_win() -> None:
    splits = ["train", "val", "test"] * 30
    items = [item(value, split=split) for value, split in enumerate(splits)]
    for split in (hashed, stratified):
        assert list(split(items, Shares(0.5, 0.4))) == splits


def test_a_missing_official_split_is_carved_out_of_training_only() -> None:
    splits = ["train", "test"] * 100
    items = [item(value, split=split) for value, split in enumerate(splits)]
    for split in (hashed, stratified):
        found = split(items, Shares(0.3, 0.3))
        assert set(found[1::2]) == {"test"}
        assert set(found[::2]) == {"train", "val"}


# Stratified.


def test_each_class_has_its_share() -> None:
    counts = {"a": 100, "b": 50, "c": 13, "d": 7}
    items, hashed_as, shown = keys(counts)
    found = stratified_splits(items, hashed_as, shown, Shares(0.1, 0.2))
    for name, expected in {
        "a": {"train": 70, "val": 10, "test": 20},
        "b": {"train": 35, "val": 5, "test": 10},
        "c": {"train": 9, "val": 1, "test": 3},  # 9.1, 1.3 and 2.6
        "d": {"train": 5, "val": 1, "test": 1},  # 4.9, 0.7 and 1.4
    }.items():
        own = Counter(split for split, names in zip(found, shown, strict=True) if name in names)
        assert own == expected


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, ["train"]), (2, ["train", "val"]), (3, ["test", "train", "val"])],
)
def test_a_class_of_few_images_trains_then_validates_then_tests(
    count: int, expected: list[str]
) -> None:
    items, hashed_as, shown = keys({"a": count, "b": 40})
    found = stratified_splits(items, hashed_as, shown, Shares(0.1, 0.1))
    assert sorted(found[:count]) == expected


def test_nothing_is_held_out_where_the_share_is_nothing_and_something_is_always_left() -> None:
    items, hashed_as, shown = keys({"a": 4})
    assert set(stratified_splits(items, hashed_as, shown, Shares(0.3, 0))) == {"train", "val"}
    assert set(stratified_splits(items, hashed_as, shown, Shares(0, 0))) == {"train"}
    assert "train" in stratified_splits(items, hashed_as, shown, Shares(0.45, 0.45))


def test_an_image_counts_for_the_rarest_class_that_it_shows() -> None:
    items, hashed_as, shown = keys({"a": 60, "ab": 30, "": 10})
    found = stratified_splits(items, hashed_as, shown, Shares(0.1, 0))
    parts = (found[:60], found[60:90], found[90:])
    assert [part.count("val") for part in parts] == [6, 3, 1]


def test_those_are_held_out_first_that_the_hash_holds_out_first() -> None:
    items, hashed_as, shown = keys({"a": 40})
    found = stratified_splits(items, hashed_as, shown, Shares(0.2, 0.1))
    # The least share that puts a key into the test split is its place.
    order = sorted(range(40), key=lambda place: _place(hashed_as[place]))
    assert [found[place] for place in order] == ["test"] * 4 + ["val"] * 8 + ["train"] * 28


def _place(key: bytes) -> float:
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if split_of(key, 0, middle) == "test" else (middle, high)
    return high


rows = st.lists(st.tuples(st.integers(0, 255), st.sampled_from("abc")), max_size=40)


@given(old=rows, new=rows, groups=st.booleans(), random=st.randoms(use_true_random=False))
@settings(max_examples=80)
def test_growth_moves_no_image_whose_split_is_decided(old, new, groups: bool, random) -> None:
    def made(rows: list[tuple[int, str]]) -> list[Item]:
        return [
            item(value, label, name=str(place), group=f"g{value % 7}" if groups else None)
            for place, (value, label) in enumerate(rows)
        ]

    shares, first = Shares(0.3, 0.2), made(old)
    before = dict(zip(hashes(first), stratified(first, shares), strict=True))
    relabelled = [(value, "c") for value, _ in old]
    grown = [*relabelled, *new]
    random.shuffle(grown)
    later = made(grown)
    after = stratified(later, shares, before)
    by_key: dict[object, set[str]] = {}
    for each, key, split in zip(later, hashes(later), after, strict=True):
        assert before.get(key, split) == split
        by_key.setdefault(each.group if groups else key, set()).add(split)
    assert all(len(splits) == 1 for splits in by_key.values())
    assert after == tuple(reversed(stratified(later[::-1], shares, before)))


def test_new_images_make_up_for_what_was_decided_before() -> None:
    items, hashed_as, shown = keys({"a": 40})
    decided = {key: "train" for key in hashed_as[:20]}
    found = stratified_splits(items, hashed_as, shown, Shares(0.25, 0), decided)
    assert set(found[:20]) == {"train"}
    assert found[20:].count("val") == 10
    decided = {key: "val" for key in hashed_as[:20]}
    found = stratified_splits(items, hashed_as, shown, Shares(0.25, 0), decided)
    assert set(found[:20]) == {"val"}
    assert set(found[20:]) == {"train"}


def test_new_images_of_a_group_go_where_most_of_its_old_ones_are() -> None:
    items = [item(value, group="video") for value in range(5)] + [item(9)]
    decided = dict(zip(hashes(items[:3]), ["val", "test", "test"], strict=True))
    found = stratified(items, Shares(0.2, 0.2), decided)
    assert found[:5] == ("val", "test", "test", "test", "test")


def test_a_group_that_is_larger_than_the_share_is_held_out_where_nothing_else_is() -> None:
    items = [item(place, group=f"g{place // 10}") for place in range(30)]
    items += [item(30 + place, group="small") for place in range(5)]
    found = stratified(items, Shares(0.01, 0))
    assert set(found[30:]) == {"val"}
    assert set(found[:30]) == {"train"}
