"""The facts that a recipe is chosen by: images and labels of a folder, and the machine."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from regrow.data.checks.faults import Faults
from regrow.data.images.opening import image_size
from regrow.data.module import GrowingData
from regrow.data.source import some_items
from regrow.data.targets.labels import OBJECT, Boxes, Item, Kind
from regrow.errors import BadInput

NUM_HEADERS = 200  # images of which the size is read
SMALL_SHARE = 0.1  # of the objects: the size of those at this quantile counts as small


@dataclass(frozen=True, slots=True)
class Machine:
    """The hardware of a machine.

    Args:
        has_cuda: Whether there is a GPU that torch can use.
        num_cores: Cores of the CPU that this process may use.
        memory: Bytes of memory.
    """

    has_cuda: bool = False
    num_cores: int = 1
    memory: int = 2**33

    @classmethod
    def at_hand(cls) -> "Machine":
        """Return the hardware of the machine that this runs on."""
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return cls(torch.cuda.is_available(), min(cores or 1, torch.get_num_threads()), pages)

    def __str__(self) -> str:
        """Return it in words, in one line."""
        cores = f"{self.num_cores} core{'s' * (self.num_cores > 1)}"
        device = torch.cuda.get_device_name() if self.has_cuda else "CPU"
        return f"{device}, {cores}, {self.memory / 2**30:.0f} GiB of memory"


@dataclass(frozen=True, slots=True)
class Survey:
    """The contents of a folder of labelled images, by its lists and the headers of some images.

    Args:
        kind: What the labels are.
        num_images: By split, `open` where it has no official one, the number of images.
        classes: Class names.
        size: Median height and width of a sample of the images, in pixels.
        num_shown: By class the number of images that show it; empty for masks, which would have to
            be read.
        object_sides: Of boxes: the shorter side of a small object, and the longer side of a large
            one, as a share of the image's; None where there are none.
    """

    kind: Kind
    num_images: Mapping[str, int]
    classes: Sequence[str]
    size: tuple[int, int]
    num_shown: Mapping[str, int] = field(default_factory=dict)
    object_sides: tuple[float, float] | None = None

    @property
    def total(self) -> int:
        """Count the images."""
        return sum(self.num_images.values())

    @property
    def num_training(self) -> int:
        """Count the images to train on, before some are held out."""
        return self.num_images.get("train", 0) + self.num_images.get("open", 0)

    def __str__(self) -> str:
        """Return it in words, in one line."""
        splits = ", ".join(f"{name} {count}" for name, count in self.num_images.items())
        few = ", ".join(self.classes[:5]) + (", ..." if len(self.classes) > 5 else "")
        what = {"labels": "labelled as", "boxes": "with boxes of", "masks": "with masks of"}
        height, width = self.size
        said = f"{self.total} images ({splits.replace('open', 'no split')}), "
        return (
            f"{said}{width}x{height} pixels in the median, {what[self.kind]} "
            f"{len(self.classes)} class{'es' * (len(self.classes) != 1)} ({few})"
        )


def survey(data: GrowingData) -> Survey:
    """Return the contents of a folder, by the lists of its source and the headers of some images.

    Args:
        data: The data. Its images are not read.

    Raises:
        BadInput: If the source cannot read its folder, or finds no images.
    """
    faults = Faults()
    content = data.source.gather(data.root, faults)
    items = some_items(content.items, data.max_images)
    if not items:
        faults.refuse()
        raise BadInput(f"{data.root}: no images with labels in it; check the folder and its layout")
    counts = Counter(item.split or "open" for item in items)
    sample = [items[place] for place in _spread(len(items), NUM_HEADERS)]
    sizes = [(item, size) for item in sample if (size := _size(item)) is not None]
    if not sizes:
        raise BadInput(f"{sample[0].name}: cannot be read as an image, nor others; check the files")
    height, width = np.median([size for _, size in sizes], axis=0)
    return Survey(
        content.kind,
        {name: counts[name] for name in ("train", "val", "test", "open") if counts[name]},
        tuple(content.classes),
        (round(height), round(width)),
        _num_shown(items),
        _object_sides(sizes),
    )


def _spread(total: int, count: int) -> list[int]:
    """Return so many places at most, evenly spread over all."""
    return sorted({place * total // min(count, total) for place in range(min(count, total))})


def _size(item: Item) -> tuple[int, int] | None:
    """Return height and width of an image by its header; None where reading it will say why not."""
    if isinstance(item.image, np.ndarray):
        return item.image.shape[:2]
    if not isinstance(item.image, Path):
        return item.image().shape[:2]
    try:
        return image_size(item.image)
    except BadInput:
        return None


def _num_shown(items: Sequence[Item]) -> dict[str, int]:
    shown: Counter[str] = Counter()
    for item in items:
        if isinstance(item.target, str):
            shown[item.target] += 1
        elif isinstance(item.target, Boxes):
            shown.update(set(item.target.classes))
    return dict(shown)


def _object_sides(sizes: Sequence[tuple[Item, tuple[int, int]]]) -> tuple[float, float] | None:
    """Return the sides of small and large objects in a sample, as shares of the image's sides."""
    sides = []
    for item, (height, width) in sizes:
        if isinstance(item.target, Boxes):
            is_object = np.array([mark == OBJECT for mark in item.target.marks], dtype=bool)
            corners = item.target.xyxy[is_object]
            sides.append((corners[:, 2:] - corners[:, :2]) / [width, height])
    found = np.concatenate(sides) if sides else np.empty((0, 2))
    if not len(found):
        return None
    small = np.quantile(found.min(1), SMALL_SHARE)
    return float(small), float(np.quantile(found.max(1), 1 - SMALL_SHARE))
