"""Data sets that tests hold in memory, or write in a moment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.data.source import Content, Source
from regrow.data.targets.labels import Boxes, Item, Mask, Target

KINDS = {str: "labels", Boxes: "boxes", Mask: "masks"}


class Given(Source):
    """Items held in memory."""

    def __init__(self, items: Sequence[Item], classes: Sequence[str] = ("a", "b")) -> None:
        self.items, self.classes = items, classes

    def read(self, root: Path | None) -> Content:
        return Content(KINDS[type(self.items[0].target)], self.classes, self.items)


def picture(value: int, size: tuple[int, int] = (4, 6)) -> np.ndarray:
    random = np.random.default_rng(value)
    return random.integers(0, 256, (*size, 3), dtype=np.uint8)


def labelled(count: int = 20, split: str = "train") -> list[Item]:
    return [Item(f"{split}{n}", picture(n), "ab"[n % 2], split) for n in range(count)]


def thrice(target: Target, size: tuple[int, int] = (4, 6), image: Any = None) -> list[Item]:
    """The same image with its target in each split."""
    shown = picture(0, size) if image is None else image
    return [Item(f"{split}.png", shown, target, split) for split in ("train", "val", "test")]


def data(source: Source | Sequence[Item], **options: Any) -> GrowingData:
    given = source if isinstance(source, Source) else Given(source)
    return GrowingData(given, **{"size": (4, 6), "batch_size": 4, "test_share": 0} | options)


def folder(root: Path, count: int = 30) -> Path:
    for number in range(count):
        path = root / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number, (8, 8))).save(path)
    return root


def batches(loader: Any) -> list[tuple[Tensor, Tensor]]:
    return list(loader)


def masked(root: Path, number: int = 1, size: tuple[int, int] = (4, 6)) -> Path:
    numbers = np.full(size, number, np.uint8)
    numbers[0, :2] = 0, 1
    for split in ("train", "val", "test"):
        for part, pixels in (("images", picture(0)), ("masks", numbers)):
            (root / part / split).mkdir(parents=True)
            for name in ("a", "b"):
                Image.fromarray(pixels).save(root / part / split / f"{name}.png")
    (root / "classes.json").write_text(json.dumps({"classes": ["road", "sky"], "void": 11}))
    return root
