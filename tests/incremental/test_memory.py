"""A memory holds the share of the old images that was asked for, balanced by class."""

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.stored import LIST, Stored
from regrow.data.targets.labels import Boxes, Item
from regrow.errors import BadInput
from regrow.incremental.memory import check_replay, stood_for, store_memory

MakeData = Callable[..., GrowingData]
BAD_COUNTS = [
    '{"stands_for": 2, "by_class": "ab"}',
    '{"stands_for": 2, "by_class": {"a": "2"}}',
    '{"stands_for": 2, "by_class": {"a": null}}',
]


def of_split(data: GrowingData, split: str) -> list[Item]:
    return [data.snapshot.items[place] for place in data.snapshot.indices(split)]


def read(run: Path) -> GrowingData:
    return GrowingData(Stored(), run / "memory", size=(4, 4), val_share=0, test_share=0)


@pytest.mark.parametrize(("replay", "sizes"), [(0.25, (10, 2, 1)), (5, (5, 1, 1)), (1, (40, 8, 4))])
def test_a_memory_has_the_size_asked_for_and_the_same_share_of_the_other_splits(
    make_data: MakeData, tmp_path: Path, replay: float, sizes: tuple[int, int, int]
) -> None:
    data = make_data(train=40, val=8, test=4)
    assert store_memory(data, replay, tmp_path) == sizes[0]
    kept = read(tmp_path)
    assert tuple(len(of_split(kept, split)) for split in ("train", "val", "test")) == sizes
    assert stood_for(tmp_path / "memory").total() == 40


def test_a_split_without_images_has_none_in_the_memory(make_data: MakeData, tmp_path: Path) -> None:
    store_memory(make_data(train=10, val=2), 0.5, tmp_path)
    assert Counter(read(tmp_path).snapshot.splits) == {"train": 5, "val": 1}


def test_a_memory_holds_images_of_the_data_as_they_are_there(
    make_data: MakeData, tmp_path: Path
) -> None:
    data = make_data(train=40, val=8, test=4)
    store_memory(data, 0.25, tmp_path)
    snapshot = data.snapshot
    known = dict(
        zip(snapshot.hashes, zip(snapshot.splits, snapshot.digests, strict=True), strict=True)
    )
    kept = read(tmp_path).snapshot
    assert len(set(kept.hashes)) == 13
    found = zip(kept.splits, kept.digests, strict=True)
    assert [known[key] for key in kept.hashes] == list(found)


def test_splits_that_groups_were_drawn_for_are_official_in_the_memory(tmp_path: Path) -> None:
    class Grouped(Source):
        def read(self, root: Path | None) -> Content:
            random = np.random.default_rng(0)
            pixels = random.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
            items = [
                Item(str(n), image, "ab"[n % 2], group=str(n // 2))
                for n, image in enumerate(pixels)
            ]
            return Content("labels", ["a", "b"], items)

    data = GrowingData(Grouped(), size=(4, 4), val_share=0.3, test_share=0.3)
    store_memory(data, 0.5, tmp_path)
    kept = read(tmp_path)
    assert all(item.group is None for item in kept.snapshot.items)
    splits = dict(zip(data.snapshot.hashes, data.snapshot.splits, strict=True))
    assert [splits[key] for key in kept.snapshot.hashes] == list(kept.snapshot.splits)


def test_classes_come_equally_often(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(train=30, val=4, classes="aaaaab")  # five a for each b
    store_memory(data, 10, tmp_path)
    assert Counter(i.target for i in of_split(read(tmp_path), "train")) == {"a": 5, "b": 5}


def test_a_share_counts_what_a_joined_memory_stands_for(
    make_data: MakeData, tmp_path: Path
) -> None:
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    store_memory(make_data(train=40, val=8), 0.25, first)  # 10 of 40
    data = make_data(train=20, val=4, seed=1)
    data.join_(read(first), "memory")
    # 30 images stand for 60, of which a fifth are 12; the same share of 6 validation images is 2.4.
    assert store_memory(data, 0.2, second, before=stood_for(first / "memory")) == 12
    assert stood_for(second / "memory").total() == 60
    assert len(of_split(read(second), "val")) == 2
    data = make_data(train=20, val=4, seed=2)
    data.join_(read(second), "memory")
    # 32 stand for 80: a share of 0.5 is more than there is.
    assert store_memory(data, 0.5, third, before=stood_for(second / "memory")) == 32
    assert stood_for(third / "memory").total() == 80


def test_a_number_is_a_number_whatever_a_memory_stands_for(
    make_data: MakeData, tmp_path: Path
) -> None:
    store_memory(make_data(train=40, val=8), 0.25, tmp_path / "first")
    data = make_data(train=20, val=4, seed=1)
    data.join_(read(tmp_path / "first"), "memory")
    before = stood_for(tmp_path / "first" / "memory")
    assert store_memory(data, 6, tmp_path / "second", before=before) == 6


@pytest.mark.parametrize("replay", [0, -1, 1.5, math.nan, math.inf, -math.inf])
def test_what_is_no_size_is_refused(make_data: MakeData, replay: float) -> None:
    with pytest.raises(BadInput, match=r"must be a share in \(0, 1\], or a number of images"):
        check_replay(make_data(train=10, val=2), replay)


def test_a_memory_larger_than_the_data_is_refused(make_data: MakeData, tmp_path: Path) -> None:
    data = make_data(train=10, val=2)
    check_replay(data, 10)
    with pytest.raises(BadInput, match="replay is 11, more than the 10 training images; lower it"):
        store_memory(data, 11, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", ["[]", "{}", '{"stands_for": "many"}', *BAD_COUNTS])
def test_a_memory_that_does_not_say_what_it_stands_for_is_refused(
    tmp_path: Path, content: str
) -> None:
    (tmp_path / LIST).write_text(content)
    with pytest.raises(BadInput, match=r"snapshot\.json: does not say what the memory stands for"):
        stood_for(tmp_path)


def test_the_list_of_a_memory_says_what_it_stands_for(make_data: MakeData, tmp_path: Path) -> None:
    store_memory(make_data(train=10, val=2), 2, tmp_path)
    listed = json.loads((tmp_path / "memory" / LIST).read_text())
    assert listed["stands_for"] == 10


def test_a_memory_stands_for_no_image_of_a_class_that_was_given_up(
    make_data: MakeData, tmp_path: Path
) -> None:
    """By hand: 20 of a, 10 of b, 10 of c; then 8 of a and 8 of d; b goes, and c is called e."""
    first, second = tmp_path / "first", tmp_path / "second"
    store_memory(make_data(train=40, val=8, classes="aabc"), 8, first)
    change = {"called": {"c": "e"}, "removed": ["b"]}
    assert stood_for(first / "memory", **change) == {"a": 20, "e": 10}
    data = make_data(train=16, val=4, seed=1, classes="ad")
    data.join_(read(first), "memory", **change)
    before = stood_for(first / "memory", **change)
    store_memory(data, 0.25, second, before=before)
    assert stood_for(second / "memory") == {"a": 28, "d": 8, "e": 10}
    assert len(of_split(read(second), "train")) == round(0.25 * (28 + 8 + 10))
    # What only a memory of a memory stands for goes too.
    assert stood_for(second / "memory", removed=["e"]).total() == 36


def test_a_memory_of_boxes_stands_for_all_images_whatever_is_given_up(tmp_path: Path) -> None:
    class Boxed(Source):
        def read(self, root: Path | None) -> Content:
            random = np.random.default_rng(0)
            pixels = random.integers(0, 256, (8, 4, 4, 3), dtype=np.uint8)
            box = Boxes(np.array([[0, 0, 2, 2]], np.float32), ("a",))
            splits = ["train"] * 6 + ["val"] * 2
            items = [Item(str(n), pixels[n], box, split) for n, split in enumerate(splits)]
            return Content("boxes", ["a"], items)

    store_memory(GrowingData(Boxed(), size=(4, 4), test_share=0), 2, tmp_path)
    assert stood_for(tmp_path / "memory", removed=["a"]).total() == 6


def test_a_memory_that_does_not_count_by_class_stands_for_what_it_says(tmp_path: Path) -> None:
    (tmp_path / LIST).write_text('{"stands_for": 7}')
    assert stood_for(tmp_path, removed=["a"]).total() == 7
