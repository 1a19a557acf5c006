import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from regrow.data.formats import ImageFolder
from regrow.data.images.decoding import decode, decode_mask
from regrow.data.module import GrowingData
from regrow.data.stored import LIST, Stored, exemplars, store
from regrow.data.targets.labels import Boxes, Item, Kind, Mask, Target, label_digest, pixels_hash
from regrow.errors import BadInput

NONE = Boxes(np.zeros((0, 4), np.float32), ())
TWO = Boxes(np.array([[0.125, 1, 2.7, 3], [1, 1, 5, 4]], np.float32), ("b", "a"))


def picture(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (4, 6, 3), dtype=np.uint8)


def numbers(*values: int, dtype: Any = np.uint8) -> np.ndarray:
    return np.resize(np.array(values, dtype=dtype), (4, 6))


def items_of(*targets: Target, splits: Sequence[str] = ("train", "val", "test")) -> list[Item]:
    return [
        Item(f"d/{place}", picture(place), target, splits[place % len(splits)])
        for place, target in enumerate(targets)
    ]


def kept(folder: Path, kind: Kind, items: Sequence[Item], classes: str = "ab") -> list[Item]:
    pixels = [decode(item.image) for item in items]
    store(folder, kind, list(classes), items)
    content = Stored().read(folder)
    assert (content.kind, list(content.classes)) == (kind, list(classes))
    assert [(i.name, i.split) for i in content.items] == [(i.name, i.split) for i in items]
    for old, new in zip(pixels, content.items, strict=True):
        assert np.array_equal(decode(new.image), old)
    return list(content.items)


def digests(items: Sequence[Item]) -> list[bytes]:
    return [
        label_digest(i.target, decode_mask(i.target.pixels) if isinstance(i.target, Mask) else None)
        for i in items
    ]


def edit(folder: Path, **values: Any) -> None:
    """Write other values into the first entry of a list."""
    content = json.loads((folder / LIST).read_text())
    content["items"][0] |= values
    (folder / LIST).write_text(json.dumps(content))


# Round trips.


def test_labels_come_back_with_their_pixels_and_splits(tmp_path: Path) -> None:
    items = kept(tmp_path / "kept", "labels", items_of("b", "a", "b", splits=("val", "train")))
    assert [item.target for item in items] == ["b", "a", "b"]


def test_a_split_that_is_open_stays_open(tmp_path: Path) -> None:
    (item,) = kept(tmp_path / "kept", "labels", [Item("x", picture(0), "a")])
    assert item.split is None


def test_boxes_come_back_to_the_last_bit(tmp_path: Path) -> None:
    found = kept(tmp_path / "kept", "boxes", items_of(TWO, NONE))
    target, empty = (item.target for item in found)
    assert isinstance(target, Boxes)
    assert isinstance(empty, Boxes)
    assert target.xyxy.dtype == np.float32
    assert np.array_equal(target.xyxy, TWO.xyxy)
    assert target.classes == ("b", "a")
    assert empty.xyxy.shape == (0, 4)


@pytest.mark.parametrize(
    "pixels",
    [
        numbers(0, 7, 255),
        numbers(0, 7, 255, dtype=np.int64),
        numbers(0, 7, 1000, dtype=np.int32),
        numbers(0, 7, 65535, dtype=np.uint16),
    ],
)
def test_masks_come_back_whatever_their_numbers(tmp_path: Path, pixels: np.ndarray) -> None:
    target = Mask(pixels, {0: "a", 7: "b"}, frozenset({1000, 65535}))
    (found,) = kept(tmp_path / "kept", "masks", items_of(target))
    assert isinstance(found.target, Mask)
    assert np.array_equal(decode_mask(found.target.pixels), pixels)
    assert found.target.names == {0: "a", 7: "b"}
    assert found.target.void == {1000, 65535}
    assert digests([found]) == digests(items_of(target))


def test_files_are_stored_as_they_are(tmp_path: Path) -> None:
    image, mask = tmp_path / "one.JPG", tmp_path / "two.png"
    Image.fromarray(picture(0)).save(image, quality=30)
    palette = Image.fromarray(numbers(0, 3))
    palette.putpalette([9, 9, 9] * 256)
    palette.save(mask)
    target = Mask(mask, {0: "a", 3: "b"})
    (item,) = kept(tmp_path / "kept", "masks", [Item("x", image, target, "train")])
    image.unlink()
    mask.unlink()
    kept_image, kept_mask = tmp_path / "kept" / "images", tmp_path / "kept" / "masks"
    assert [file.name for file in kept_image.iterdir()] == ["000000.jpg"]
    assert [file.name for file in kept_mask.iterdir()] == ["000000.png"]
    assert isinstance(item.target, Mask)
    assert np.array_equal(decode_mask(item.target.pixels), numbers(0, 3))


def test_what_was_read_can_be_stored_again_in_its_own_place(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    masks = [numbers(0, 1000, dtype=np.uint16), numbers(1000, 1000, 0, dtype=np.uint16)]
    once = kept(folder, "masks", items_of(*(Mask(m, {0: "a", 1000: "b"}) for m in masks)))
    before = digests(once)
    again = kept(folder, "masks", list(reversed(once)))
    assert digests(again) == before[::-1]
    assert before[0] != before[1]
    assert [item.name for item in again] == ["d/1", "d/0"]


def test_stored_data_has_the_hash_of_the_data(tmp_path: Path) -> None:
    items = items_of(*"ababab")
    store(tmp_path / "kept", "labels", ["a", "b"], items)
    data = GrowingData(Stored(), tmp_path / "kept", size=(4, 6))
    assert data.snapshot.splits == ("train", "val", "test") * 2
    assert list(data.snapshot.hashes) == [pixels_hash(np.asarray(i.image)) for i in items]
    assert list(data.snapshot.digests) == digests(items)


def test_further_facts_stand_in_the_list(tmp_path: Path) -> None:
    store(tmp_path / "kept", "labels", ["a"], items_of("a"), {"stands_for": 7, "kind": "ignored"})
    content = json.loads((tmp_path / "kept" / LIST).read_text())
    assert (content["stands_for"], content["kind"]) == (7, "labels")


# Replacing.


@pytest.mark.parametrize("name", ["kept", "before"])
def test_a_snapshot_is_replaced_as_a_whole(tmp_path: Path, name: str) -> None:
    kept(tmp_path / name, "labels", items_of("a", "b"))
    kept(tmp_path / name, "boxes", items_of(TWO))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert len(list((tmp_path / name / "images").iterdir())) == 1


def test_a_snapshot_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    kept(folder, "labels", items_of("a", "b"))
    missing = Item("gone", tmp_path / "gone.png", "a", "train")
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        store(folder, "labels", ["a"], [*items_of("a"), missing])
    assert [item.target for item in Stored().read(folder).items] == ["a", "b"]
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]


# What cannot be used.


def test_an_image_that_has_changed_is_named(tmp_path: Path) -> None:
    _, changed, _ = kept(tmp_path / "kept", "labels", items_of("a", "b", "a"))
    file = tmp_path / "kept" / "images" / "000001.png"
    Image.fromarray(picture(9)).save(file)
    with pytest.raises(BadInput, match=r"images/000001\.png: not what was stored.*`replay` again"):
        decode(changed.image)
    with pytest.raises(BadInput, match=r"images/000001\.png: not what was stored"):
        _ = GrowingData(Stored(), tmp_path / "kept", skip_corrupt=True).snapshot


def test_a_mask_that_has_changed_is_named(tmp_path: Path) -> None:
    target = Mask(numbers(0, 1), {0: "a", 1: "b"})
    kept(tmp_path / "kept", "masks", items_of(target, target))
    file = tmp_path / "kept" / "masks" / "000001.png"
    Image.fromarray(numbers(1, 0)).save(file)
    with pytest.raises(BadInput, match=r"masks/000001\.png: not what was stored"):
        Stored().read(tmp_path / "kept")


@pytest.mark.parametrize("part", ["images", "masks"])
def test_a_file_that_is_gone_is_named(tmp_path: Path, part: str) -> None:
    kept(tmp_path / "kept", "masks", items_of(Mask(numbers(0), {0: "a"})))
    (tmp_path / "kept" / part / "000000.png").unlink()
    with pytest.raises(BadInput, match=rf"{part}/000000\.png: no such file"):
        decode(Stored().read(tmp_path / "kept").items[0].image)


@pytest.mark.parametrize(
    "values",
    [
        {"split": "later"},
        {"target": None},
        {"target": {"xyxy": [[0, 0, 1, 1]], "classes": []}},
        {"target": {"xyxy": [[0, 0, 1]], "classes": ["a"]}},
        {"target": {"xyxy": [[0, 0, 1, 1]], "classes": ["a"], "ignored": [3]}},
        {"target": {"xyxy": [[0, 0, 1, 1]], "classes": ["a"], "ignored": [1, 1]}},
        {"target": {"xyxy": [[0, 0, 1, 1]], "classes": ["a"], "ignored": [{}]}},
        {"target": {"mask": "x.png", "hash": "", "names": [], "void": []}},
    ],
)
def test_an_entry_that_is_none_is_refused(tmp_path: Path, values: dict[str, Any]) -> None:
    kept(tmp_path / "kept", "labels", items_of("a"))
    edit(tmp_path / "kept", **values)
    with pytest.raises(BadInput, match=r"snapshot\.json: no list of a stored snapshot"):
        Stored().read(tmp_path / "kept")


@pytest.mark.parametrize("content", ["[]", "{}", '{"kind": "sounds"}', '{"kind": "labels"}'])
def test_a_list_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / LIST).write_text(content)
    with pytest.raises(BadInput, match=r"snapshot\.json: no list of a stored snapshot"):
        Stored().read(tmp_path)


def test_a_torn_list_is_refused(tmp_path: Path) -> None:
    kept(tmp_path / "kept", "labels", items_of("a"))
    file = tmp_path / "kept" / LIST
    file.write_text(file.read_text()[:60])
    with pytest.raises(BadInput, match=r"snapshot\.json: not JSON"):
        Stored().read(tmp_path / "kept")


def test_a_folder_without_a_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"snapshot\.json: cannot be read"):
        Stored().read(tmp_path)


# Exemplars.

SHOWN = st.lists(st.sets(st.sampled_from("abcd")), max_size=12)


def _chosen_slowly(shown: Sequence[set[str]], hashes: Sequence[bytes], count: int) -> list[int]:
    """Ask before each choice which class has the fewest, among those that have images left."""
    chosen: list[int] = []
    while len(chosen) < count:
        left = sorted((h, p) for p, h in enumerate(hashes) if p not in chosen)
        open_ = {name for _, place in left for name in shown[place]}
        numbers = {name: sum(name in shown[place] for place in chosen) for name in open_}
        if not open_:
            chosen.append(left[0][1])
            continue
        rarest = min(sorted(open_), key=numbers.__getitem__)
        chosen.append(next(place for _, place in left if rarest in shown[place]))
    return sorted(chosen)


@settings(max_examples=150, deadline=None)
@given(SHOWN, st.randoms(use_true_random=False))
def test_exemplars_are_those_of_a_slow_search_and_nested(shown: list[set[str]], random) -> None:
    hashes = [random.randbytes(2) for _ in shown]
    before: set[int] = set()
    for count in range(len(shown) + 1):
        found = exemplars(shown, hashes, count)
        assert found == _chosen_slowly(shown, hashes, count)
        assert before < set(found) or not found
        before = set(found)


def test_exemplars_show_classes_equally_often_as_far_as_there_are_some() -> None:
    shown = [{"a"}] * 50 + [{"b"}] * 3 + [{"c"}] * 20
    hashes = [bytes([place * 7 % 73]) for place in range(73)]
    names = Counter(name for place in exemplars(shown, hashes, 15) for name in shown[place])
    assert names == {"a": 6, "b": 3, "c": 6}


def test_exemplars_depend_on_the_images_and_not_on_their_order() -> None:
    shown = [{"ab"[place % 2]} for place in range(20)]
    hashes = [bytes([place * 11 % 20]) for place in range(20)]
    found = {hashes[place] for place in exemplars(shown, hashes, 7)}
    turned = exemplars(shown[::-1], hashes[::-1], 7)
    assert {hashes[::-1][place] for place in turned} == found


def test_images_that_show_nothing_are_taken_last() -> None:
    shown = [set(), {"a"}, set(), {"a"}, {"b"}]
    hashes = [bytes([place]) for place in range(5)]
    assert exemplars(shown, hashes, 3) == [1, 3, 4]
    assert exemplars(shown, hashes, 4) == [0, 1, 3, 4]


def test_names_that_are_no_utf8_come_back_and_can_be_trained_on(tmp_path: Path) -> None:
    root = tmp_path / "images"
    for number in range(8):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        file = os.fsencode(folder) + b"/\xff\xfe%d.png" % number
        Image.fromarray(picture(number)).save(os.fsdecode(file))
    data = GrowingData(ImageFolder(), root, size=(4, 6), val_share=0.3, test_share=0)
    store(tmp_path / "kept", "labels", data.classes, data.snapshot.items)
    stored = GrowingData(Stored(), tmp_path / "kept", size=(4, 6), val_share=0.3, test_share=0)
    names = sorted(item.name for item in stored.snapshot.items)
    assert names == sorted(item.name for item in data.snapshot.items)
    assert names[0] == r"a/\udcff\udcfe0.png"  # as a person can read it
    assert stored.snapshot.hash == data.snapshot.hash
    (tmp_path / "kept" / LIST).read_bytes().decode("utf-8")
