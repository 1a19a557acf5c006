"""Data sets of torchvision with one label an image, whatever their constructors take."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.faults import Faults
from regrow.data.images.opening import opened_by_library
from regrow.data.names.tidy import MAX_CLASSES
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Item
from regrow.errors import BadInput
from regrow.files import SPLIT_NAMES, one_line
from regrow.plain import MISSHAPEN


def official_splits(make: Callable[..., Any], root: Path) -> Iterator[tuple[str | None, Any]]:
    """Yield each split of a data set of torchvision, by whichever argument it has for them.

    Args:
        make: The class.
        root: The folder that it reads.

    Returns:
        The split, None where the set has none of its own, and the set of it.
    """
    options = signature(make).parameters
    if "root" not in options:
        raise TypeError("it reads no folder")
    make = partial(make, str(root))
    if "train" in options:
        yield "train", make(train=True)
        yield "test", make(train=False)
    elif "split" in options:
        found = set()
        for name, split in (*SPLIT_NAMES.items(), ("trainval", "train")):
            try:
                data = make(split=name) if split not in found else None
            except ValueError:  # it has no split of this name
                continue
            if data is not None:
                found.add(split)
                yield split, data
    else:
        yield None, make()


def labels_of(data: Any) -> list[int]:
    """Return the label of each image, without reading images where the data set lists labels."""
    for name in ("targets", "labels", "_labels"):
        labels = getattr(data, name, None)
        if labels is not None and len(labels) == len(data):
            return list(map(int, labels))
    return [int(_example(data, index)[1]) for index in range(len(data))]


def images_of(data: Any) -> Iterator[np.ndarray | Callable[[], np.ndarray]]:
    """Yield the images of a data set of torchvision, as pixels or as a function that reads them."""
    held: np.ndarray = np.asarray(data.data) if hasattr(data, "data") else np.empty(0)
    if held.dtype == np.uint8 and held.ndim == 3:  # MNIST and its like
        held = np.repeat(held[..., None], 3, axis=3)
    if held.dtype == np.uint8 and held.ndim == 4 and held.shape[-1] == 3:  # CIFAR and its like
        yield from held
    else:
        for index in range(len(data)):
            yield partial(_read_image, data, index)


def _read_image(data: Any, index: int) -> np.ndarray:
    with opened_by_library(f"{type(data).__name__} image {index}"):
        return np.asarray(data[index][0].convert("RGB"))


def _example(data: Any, index: int) -> Any:
    with opened_by_library(f"{type(data).__name__} image {index}"):
        return data[index]


class Torchvision(Source):
    """A data set of torchvision with one label an image, as it lies on the disk.

    Its own splits are official; one that has none is split by pixels like any other.

    Args:
        dataset: Its class path, such as `torchvision.datasets.CIFAR10`.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(self, dataset: str, group: str | None = None) -> None:
        super().__init__(group)
        self.dataset = dataset

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read its labels, and its images where it holds them in memory."""
        root = locate(root)
        module, _, name = self.dataset.rpartition(".")
        if module != "torchvision.datasets" or not hasattr(import_module(module), name):
            raise BadInput(f"data.source.dataset: torchvision.datasets has no {self.dataset!r}")
        items: list[Item] = []
        classes: list[str] = []
        try:
            make = getattr(import_module(module), name)
            for split, data in official_splits(make, root):
                labels = labels_of(data)
                names = getattr(data, "classes", None) or getattr(data, "categories", None)
                if not names and max(labels) >= MAX_CLASSES:
                    raise ValueError(f"it has the class number {max(labels)}")
                names = [str(name) for name in names or range(max(labels) + 1)]
                classes += [name for name in names if name not in classes]
                items += [
                    Item(f"{split or 'all'}/{number}", image, names[label], split)
                    for number, (image, label) in enumerate(
                        zip(images_of(data), labels, strict=True)
                    )
                ]
        except (OSError, RuntimeError, *MISSHAPEN) as error:
            raise BadInput(f"{root}: {self.dataset} cannot be read: {one_line(error)}") from error
        return Content("labels", classes, items)
