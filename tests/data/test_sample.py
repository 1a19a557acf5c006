from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from regrow.data import sample
from regrow.data.sample import BACKGROUND, NAMES, YOUNG, Digits, DigitScenes, compose, split_digits
from regrow.data.snapshot import Diff, Snapshot, diff
from regrow.data.source import Content
from regrow.data.splits import Shares, hashed_splits
from regrow.data.targets.labels import Boxes, label_digest, pixels_hash
from regrow.errors import BadInput

SPLITS = ("train", "val", "test")


def digit_hash(pixels: np.ndarray) -> bytes:
    return pixels_hash((pixels * 16).astype(np.uint8))


def scenes(kind: str = "boxes", **options) -> Content:
    return DigitScenes(kind, **{"num_train": 16, "num_val": 8, "num_test": 8} | options).read(None)


def snapshot(content: Content) -> Snapshot:
    hashes = [pixels_hash(item.image) for item in content.items]
    masks = [getattr(item.target, "pixels", None) for item in content.items]
    digests = [label_digest(i.target, m) for i, m in zip(content.items, masks, strict=True)]
    splits = hashed_splits(content.items, hashes, Shares())
    return Snapshot(content.kind, content.classes, content.items, hashes, digests, splits=splits)


def test_every_digit_is_in_one_split_with_its_label() -> None:
    splits = split_digits()
    counts = [len(splits[split]) for split in SPLITS]
    assert sum(counts) == 1797
    assert counts[1] == pytest.approx(0.15 * 1797, rel=0.2)
    assert counts[2] == pytest.approx(0.15 * 1797, rel=0.2)
    source = load_digits()
    whole = Counter(
        (pixels_hash(pixels.astype(np.uint8)), str(label))
        for pixels, label in zip(source.images, source.target, strict=True)
    )
    assert Counter((digit_hash(p), name) for split in SPLITS for p, name in splits[split]) == whole


def test_no_digit_is_on_both_sides_of_a_split() -> None:
    hashes = [{digit_hash(pixels) for pixels, _ in split_digits()[split]} for split in SPLITS]
    assert not any(one & other for one, other in combinations(hashes, 2))
    shown: dict[str, set[bytes]] = {split: set() for split in SPLITS}
    for item in Digits().read(None).items:
        shown[item.split].add(pixels_hash(item.image))
    assert not any(one & other for one, other in combinations(shown.values(), 2))


def test_digits_look_like_what_they_were_made_from() -> None:
    content = Digits().read(None)
    assert (content.kind, tuple(content.classes)) == ("labels", NAMES)
    assert len(content.items) == 1797
    for item in content.items[::100]:
        assert item.image.shape == (32, 32, 3)
        assert item.image.dtype == np.uint8
        _, split, number = item.name.split("/")
        pixels, name = split_digits()[split][int(number)]
        assert item.target == name
        blocks = item.image[..., 0].reshape(8, 4, 8, 4).mean((1, 3)) / 255
        assert np.corrcoef(blocks.ravel(), pixels.ravel())[0, 1] > 0.95


def test_young_digits_are_half_of_the_grown_ones_and_eight_classes() -> None:
    young, grown = (Digits(stage).read(None) for stage in ("young", "grown"))
    assert tuple(young.classes) == YOUNG == NAMES[:8]
    found = diff(snapshot(young).manifest(), snapshot(grown).manifest())
    assert (found.num_removed, found.num_relabelled) == (0, 0)
    assert found.new_classes == ("8", "9")
    assert {item.target for item in young.items} == set(YOUNG)
    train = [sum(i.split == "train" for i in content.items) for content in (young, grown)]
    assert train[0] == pytest.approx(0.5 * 0.8 * train[1], rel=0.1)
    for split in ("val", "test"):
        kept = [i.name for i in grown.items if i.split == split and i.target in YOUNG]
        assert [i.name for i in young.items if i.split == split] == kept


@pytest.mark.parametrize("count", [0, 1, 7])
def test_mislabelled_relabels_exactly_that_many(count: int) -> None:
    wrong = snapshot(Digits("young", mislabelled=count).read(None)).manifest()
    right = snapshot(Digits("young").read(None)).manifest()
    assert diff(wrong, right) == Diff(0, 0, count)
    grown = snapshot(Digits("grown", mislabelled=count).read(None)).manifest()
    assert diff(wrong, grown).num_relabelled == count
    assert diff(right, grown).num_relabelled == 0


def test_scenes_show_only_digits_of_their_split(monkeypatch) -> None:
    shown: dict[str, set[bytes]] = {}
    enlarged = sample.enlarged

    def spy(digit: np.ndarray, size: int) -> np.ndarray:
        shown.setdefault(split, set()).add(digit_hash(digit))
        return enlarged(digit, size)

    monkeypatch.setattr(sample, "enlarged", spy)
    for split in SPLITS:
        for number in range(12):
            compose(split, number, False, size=64, seed=3)
    for split in SPLITS:
        own = {digit_hash(pixels) for pixels, _ in split_digits()[split]}
        assert shown[split] <= own
        assert len(shown[split]) > 12


def test_scenes_are_labelled_as_their_digits(monkeypatch) -> None:
    """Each split has digits of its own: full squares of known names."""
    square = np.ones((8, 8), np.float32)
    digits = {"train": "08", "val": "19", "test": "28"}
    planted = {split: [(square, name) for name in names] for split, names in digits.items()}
    monkeypatch.setattr(sample, "split_digits", lambda: planted)
    content = scenes(num_train=40)
    for split, names in digits.items():
        found = {n for item in content.items if item.split == split for n in item.target.classes}
        assert found <= set(names)
    assert {n for i in content.items for n in i.target.classes} == set("01289")


@pytest.mark.parametrize("number", range(12))
def test_boxes_and_masks_fit_the_strokes_tightly(number: int) -> None:
    image, boxes, mask = compose("train", number, number % 2 == 0, size=64, seed=number)
    assert image.shape == (64, 64, 3)
    assert boxes.classes
    rest = mask.copy()
    for (x1, y1, x2, y2), name in zip(boxes.xyxy.astype(int), boxes.classes, strict=True):
        assert 0 <= x1 < x2 <= 64
        assert 0 <= y1 < y2 <= 64
        inside = mask[y1:y2, x1:x2] == int(name)
        assert (inside | (mask[y1:y2, x1:x2] == BACKGROUND)).all()
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        assert image[y1:y2, x1:x2][inside].mean() > image[mask == BACKGROUND].mean() + 20
        rest[y1:y2, x1:x2] = BACKGROUND
    assert (rest == BACKGROUND).all()


def same(one: tuple[np.ndarray, Boxes, np.ndarray], other: tuple) -> bool:
    return (
        np.array_equal(one[0], other[0])
        and np.array_equal(one[1].xyxy, other[1].xyxy)
        and one[1].classes == other[1].classes
        and np.array_equal(one[2], other[2])
    )


def test_a_scene_is_a_function_of_seed_split_and_number() -> None:
    first = compose("train", 4, True, size=64, seed=1)
    np.random.default_rng(0).random(9)
    assert same(first, compose("train", 4, True, size=64, seed=1))
    for split, number, seed in (("val", 4, 1), ("train", 5, 1), ("train", 4, 2)):
        assert not np.array_equal(first[0], compose(split, number, True, size=64, seed=seed)[0])


def test_more_scenes_change_none_of_the_first() -> None:
    few, many = scenes(stage="young"), scenes(stage="young", num_train=24, num_val=8)
    images = {item.name: item.image for item in many.items}
    assert all((images[item.name] == item.image).all() for item in few.items)


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_young_scenes_are_the_first_half_and_show_eight_digits(kind: str) -> None:
    young, grown = scenes(kind, stage="young"), scenes(kind)
    assert (len(young.items), len(grown.items)) == (16, 32)
    found = diff(snapshot(young).manifest(), snapshot(grown).manifest())
    assert found == Diff(16, 0, 0, ("8", "9"))
    for item in young.items:
        if kind == "boxes":
            assert set(item.target.classes) <= set(YOUNG)
        else:
            assert set(np.unique(item.target.pixels)) <= {*range(8), BACKGROUND}


def test_half_of_the_later_digits_are_new() -> None:
    later = [item for item in scenes(num_train=200).items if int(item.name.split("/")[2]) >= 100]
    names = [name for item in later for name in item.target.classes]
    assert sum(name in ("8", "9") for name in names) / len(names) == pytest.approx(0.5, abs=0.1)


def test_masks_and_boxes_are_of_the_same_scenes() -> None:
    for boxed, masked in zip(scenes().items, scenes("masks").items, strict=True):
        assert (boxed.image == masked.image).all()
        shown = {masked.target.names[n] for n in np.unique(masked.target.pixels).tolist()}
        assert shown == {"background", *boxed.target.classes}
    assert scenes("masks").classes == ("background", *NAMES)


def test_scenes_too_small_for_a_digit_are_refused() -> None:
    with pytest.raises(BadInput, match="scene_size is 35; digits need 36 pixels"):
        DigitScenes("boxes", scene_size=35)
    assert scenes(scene_size=36, num_train=4).items[0].image.shape == (36, 36, 3)
