"""One labelled image: its class, boxes or mask, and the hashes that it is known by."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

Kind = Literal["labels", "boxes", "masks"]


VOID = 255


# What a box stands for: an object; one too hard to see, which no score counts (VOC's `difficult`);
# or a region of many objects that are not told apart (COCO's `iscrowd`).
OBJECT, DIFFICULT, CROWD = 0, 1, 2


HASH_BYTES, DIGEST_BYTES = 16, 8


@dataclass(frozen=True, slots=True)
class Boxes:
    """The objects of one image.

    Args:
        xyxy: Corners in pixels of the original image, float32, (n, 4).
        classes: Their class names, n of them.
        ignored: What each stands for, n of `OBJECT`, `DIFFICULT` and `CROWD`; empty where all are
            objects. The others are neither trained on, as object or background, nor scored.
    """

    xyxy: np.ndarray
    classes: tuple[str, ...]
    ignored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.ignored and len(self.ignored) != len(self.classes):
            raise ValueError(f"{len(self.classes)} boxes, and {len(self.ignored)} marks of ignored")
        if not any(self.ignored):  # one way to say that all are objects
            object.__setattr__(self, "ignored", ())

    @property
    def marks(self) -> tuple[int, ...]:
        """Return what each box stands for, n of `OBJECT`, `DIFFICULT` and `CROWD`."""
        return self.ignored or (OBJECT,) * len(self.classes)


@dataclass(frozen=True, slots=True)
class Mask:
    """The class of every pixel of one image.

    Args:
        pixels: Numbers as the file has them, (h, w), or the file, or what draws them.
        names: Which number means which class.
        void: Which numbers mean no class, besides 255; any other is a mistake.
    """

    pixels: Path | np.ndarray | Callable[..., np.ndarray]
    names: Mapping[int, str]
    void: frozenset[int] = frozenset()


Target = str | Boxes | Mask


class Declared(NamedTuple):
    """The size that an annotation declares for its image, 0 where it declares none.

    Args:
        height: Rows of pixels.
        width: Columns of pixels.
        channels: Numbers a pixel.
    """

    height: int
    width: int
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled image.

    Args:
        name: What a person would call it; it differs from all others.
        image: The file, or its pixels, uint8 (h, w, 3), or what reads them.
        target: A class name, boxes, or a mask.
        split: Its official split, if it has one.
        group: What must stay on one side of a split together, such as the video it comes from.
        known: The classes that its label would show, boxes or mask; None where that is all.
        declared: What its annotation says of its size, 0 where it does not say.
        declared_by: Which annotation says so.
    """

    name: str
    image: Path | np.ndarray | Callable[[], np.ndarray]
    target: Target
    split: str | None = None
    group: str | None = None
    known: frozenset[str] | None = None
    declared: Declared | None = None
    declared_by: str = ""


def pixels_hash(pixels: np.ndarray) -> bytes:
    """Return the hash of decoded pixels and their shape, 16 bytes."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=HASH_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def label_digest(target: Target, mask: np.ndarray | None = None) -> bytes:
    """Return the digest of a label by class names, 8 bytes; the order of classes does not matter.

    Args:
        target: The label.
        mask: The numbers of a mask's file, (h, w).
    """
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    if isinstance(target, str):
        digest.update(target.encode())
    elif isinstance(target, Boxes):
        rows = []
        for name, box, mark in zip(target.classes, target.xyxy.round(2), target.marks, strict=True):
            # A mark only where there is one: labels of objects alone keep the digest that they had.
            rows.append([name, *map(float, box), *([mark] if mark else [])])
        digest.update(json.dumps(sorted(rows)).encode())
    elif mask is not None:
        by_name: dict[str, np.ndarray] = {}
        for number in np.unique(mask).tolist():
            if number in target.names:
                same = mask == number
                name = target.names[number]
                by_name[name] = by_name[name] | same if name in by_name else same
        digest.update(repr(mask.shape).encode())
        for name in sorted(by_name):
            digest.update(name.encode() + b"\0")
            digest.update(np.packbits(by_name[name]).data)
    return digest.digest()


def shown_classes(target: Target, numbers: Collection[int] = ()) -> set[str | int]:
    """Return the names of the classes that a label shows; and 255 where a mask has it as void.

    Boxes that are ignored show nothing.

    Args:
        target: The label.
        numbers: The numbers in a mask.
    """
    if isinstance(target, str):
        return {target}
    if isinstance(target, Boxes):
        return {name for name, mark in zip(target.classes, target.marks, strict=True) if not mark}
    shown: set[str | int] = {name for number, name in target.names.items() if number in numbers}
    return shown | (({*numbers} & {VOID}) - target.names.keys() - target.void)


def renamed(target: Target, called: Mapping[str, str]) -> Target:
    """Return a label with other names of classes.

    Args:
        target: The label.
        called: Names in it to other names; those not listed stay.
    """
    if isinstance(target, str):
        return called.get(target, target)
    if isinstance(target, Boxes):
        return replace(target, classes=tuple(called.get(name, name) for name in target.classes))
    names = {number: called.get(name, name) for number, name in target.names.items()}
    return replace(target, names=names)


def without(target: Target, classes: Collection[str]) -> Target | None:
    """Return a label without some classes: what shows them is background, in a mask void.

    Args:
        target: The label.
        classes: Names.

    Returns:
        The label; None where it was the name of one of them.
    """
    if isinstance(target, str):
        return None if target in classes else target
    if isinstance(target, Boxes):
        stay = [place for place, name in enumerate(target.classes) if name not in classes]
        names = tuple(target.classes[place] for place in stay)
        return Boxes(target.xyxy[stay], names, tuple(target.marks[place] for place in stay))
    gone = {number for number, name in target.names.items() if name in classes}
    kept = {number: name for number, name in target.names.items() if number not in gone}
    return replace(target, names=kept, void=target.void | gone)
