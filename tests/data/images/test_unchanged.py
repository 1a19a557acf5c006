"""Files that change after they were hashed end the run, wherever they are decoded again."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from regrow.data.formats import ImageFolder, Masks
from regrow.data.images import fingerprints, unchanged
from regrow.data.images.fingerprints import stamp_of
from regrow.data.images.unchanged import Unchanged
from regrow.data.module import GrowingData
from regrow.data.source import Source
from regrow.data.staged import Staged
from regrow.data.stored import Stored, store
from regrow.data.targets.labels import Item, Mask, pixels_hash
from regrow.errors import BadInput
from regrow.incremental.memory import store_memory


def picture(value: int) -> np.ndarray:
    return np.random.default_rng(value).integers(0, 256, (8, 6, 3), dtype=np.uint8)


def scenes(root: Path, first: int = 0) -> Path:
    for split, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 9))):
        for number in numbers:
            mask = np.random.default_rng(number).integers(0, 2, (8, 6), dtype=np.uint8)
            for part, pixels in (("images", picture(first + number)), ("masks", mask)):
                file = root / part / split / f"{number}.bmp"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(file)
                file.rename(file.with_suffix(".bmp" if part == "images" else ".png"))
    (root / "classes.json").write_text(json.dumps(["road", "sky"]))
    return root


def data(root: Path, source: Source | None = None, **options: Any) -> GrowingData:
    known = {"size": (4, 6), "batch_size": 2, "cache_bytes": 0}
    return GrowingData(source or Masks(), root, **known | options)


def rewrite(file: Path) -> None:
    """Other pixels of the same length, at the same time of modification."""
    status = file.stat()
    pixels = 255 - np.asarray(Image.open(file))
    Image.fromarray(
        np.where(pixels > 253, pixels - 254, pixels) if pixels.ndim == 2 else pixels
    ).save(file, format="BMP")
    assert file.stat().st_size == status.st_size
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


# torch warns of more workers than cores.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("changed", ["images/train/3.bmp", "masks/train/3.png"])
def test_what_did_not_fit_into_memory_is_compared_when_it_is_read_again(
    tmp_path: Path, changed: str, num_workers: int
) -> None:
    root = scenes(tmp_path / "d")
    loader = data(root, num_workers=num_workers).train_dataloader()
    assert len(list(loader)) == 3
    rewrite(root / changed)
    with pytest.raises(BadInput, match=rf"^{root / changed}: not the pixels that .* start again"):
        list(loader)


@pytest.mark.parametrize("changed", ["images/val/7.bmp", "masks/val/7.png"])
def test_what_is_known_from_an_earlier_run_is_compared_at_first_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    monkeypatch.setenv("REGROW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**18))
    root = scenes(tmp_path / "d")
    _ = data(root, cache_bytes=10**6).snapshot
    module = data(root, cache_bytes=10**6)
    assert len(list(module.train_dataloader())) == 3
    rewrite(root / changed)
    with pytest.raises(BadInput, match=rf"{changed}: not the pixels that were read before"):
        list(module.val_dataloader())


def test_labels_under_other_names_are_those_that_were_read(tmp_path: Path) -> None:
    root = scenes(tmp_path / "d")
    module = data(root)
    module.manifest({"sky": "air"})
    rewrite(root / "masks/train/3.png")
    with pytest.raises(BadInput, match=r"masks/train/3\.png: not the pixels"):
        module.manifest({"sky": "air"})
    other = data(scenes(tmp_path / "other", 100))
    with pytest.raises(BadInput, match=r"masks/train/3\.png: not the pixels"):
        other.join_(module, "before", called={"sky": "air"})


@pytest.mark.parametrize("changed", ["images/train/3.bmp", "masks/train/3.png"])
def test_a_memory_keeps_what_was_trained_on_or_nothing(tmp_path: Path, changed: str) -> None:
    root = scenes(tmp_path / "d")
    module = data(root)
    store_memory(module, 1.0, tmp_path / "run")
    kept = data(tmp_path / "run" / "memory", Stored()).snapshot
    assert set(kept.hashes) == set(module.snapshot.hashes)
    before = sorted((tmp_path / "run").rglob("*"))
    rewrite(root / changed)
    with pytest.raises(BadInput, match=rf"{changed}: not the pixels that were read before"):
        store_memory(module, 1.0, tmp_path / "run")
    assert sorted((tmp_path / "run").rglob("*")) == before


def test_images_seen_under_a_corruption_are_compared_too(tmp_path: Path) -> None:
    for number in range(12):
        file = tmp_path / "ab"[number % 2] / f"{number}.bmp"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(picture(number)).save(file)
    source = Staged(ImageFolder(), late_share=0.99, corruption="blur")
    module = data(tmp_path, source, val_share=0.4, test_share=0.0)
    loader = module.train_dataloader()
    list(loader)
    place = module.snapshot.indices("train")[0]
    rewrite(tmp_path / module.snapshot.items[place].name)
    with pytest.raises(BadInput, match=rf"{module.snapshot.items[place].name}: not the pixels"):
        list(loader)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    hashed: list[int] = []

    def count(pixels: np.ndarray) -> bytes:
        hashed.append(1)
        return pixels_hash(pixels)

    monkeypatch.setattr(unchanged, "pixels_hash", count)
    return hashed


def test_a_file_is_hashed_once_while_its_times_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, hashed = tmp_path / "x.bmp", counted(monkeypatch)
    Image.fromarray(picture(0)).save(file)
    known = Unchanged(pixels_hash(picture(0)), np.zeros(3, np.int64))

    def read(then: Callable[[], None] = lambda: None) -> np.ndarray:
        pixels = np.asarray(Image.open(file))
        then()
        return pixels

    # It changed just now: another change might bear the same time.
    for _ in range(2):
        assert np.array_equal(known.read(file, "", read), picture(0))
    assert len(hashed) == 2
    assert known.stamp.tolist() == [0, 0, 0]
    monkeypatch.setattr(fingerprints, "SETTLED_NS", -(10**18))
    for _ in range(3):
        known.read(file, "", read)
    assert len(hashed) == 3
    assert known.stamp.tolist() == stamp_of(file)
    # A change while it is decoded is one too; here the old pixels were read.
    known.read(file, "", lambda: read(lambda: rewrite(file)))
    assert len(hashed) == 4
    with pytest.raises(BadInput, match=r"x\.bmp: not the pixels"):
        known.read(file, "", read)


def test_what_a_store_is_not_told_of_is_not_compared(tmp_path: Path) -> None:
    mask = Mask(np.zeros((8, 6), np.int64), {0: "a"})
    store(tmp_path / "kept", "masks", ["a"], [Item("x", picture(0), mask, "train")])
    (item,) = Stored().read(tmp_path / "kept").items
    assert item.name == "x"
