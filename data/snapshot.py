"""A snapshot of labelled images: what it holds, what each item is, and what changed since."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from regrow.errors import BadInput

Kind = Literal["labels", "boxes", "masks"]
VOID = 255
# What a box stands for: an object; one too hard to see, which no score counts (VOC's `difficult`);
# or a region of many objects that are not told apart (COCO's `iscrowd`).
OBJECT, DIFFICULT, CROWD = 0, 1, 2
SPLITS = ("train", "val", "test")
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
        pixels: Numbers as the file has them, (h, w), or the file.
        names: Which number means which class.
        void: Which numbers mean no class, besides 255; any other is a mistake.
    """

    pixels: Path | np.ndarray
    names: Mapping[int, str]
    void: frozenset[int] = frozenset()


Target = str | Boxes | Mask


class Declared(NamedTuple):
    """What an annotation says of its image: its size in pixels and channels, 0 where it does not.

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
    """Give the hash of decoded pixels and their shape, 16 bytes."""
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=HASH_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def label_digest(target: Target, mask: np.ndarray | None = None) -> bytes:
    """Give the digest of a label by class names, 8 bytes: the order of classes does not matter.

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
    """Give the names of the classes that a label shows; and 255 where a mask has it as void.

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
    """Give a label with classes called otherwise.

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
    """Give a label without some classes: what shows them is background, in a mask void.

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


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a snapshot holds, without the images.

    Args:
        hashes: One row an image, uint8 (n, 16).
        digests: One row a label, uint8 (n, 8).
        splits: 0 train, 1 val, 2 test, uint8 (n,).
        classes: Class names.
    """

    hashes: Tensor
    digests: Tensor
    splits: Tensor
    classes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Give the manifest as a checkpoint can hold it."""
        return {
            "hashes": self.hashes,
            "digests": self.digests,
            "splits": self.splits,
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Manifest":
        """Read what `to_dict` gave.

        Raises:
            BadInput: If it is something else.
        """
        try:
            manifest = cls(*(values[name] for name in ("hashes", "digests", "splits", "classes")))
            count = len(manifest.hashes)
            shapes = [tuple(t.shape) for t in (manifest.hashes, manifest.digests, manifest.splits)]
            names = [type(name) for name in [*manifest.classes]]
        except (KeyError, TypeError, AttributeError) as error:
            raise BadInput("the manifest of the data is not one; train again") from error
        if any(name is not str for name in names):
            raise BadInput("the manifest of the data has classes that are no names; train again")
        if shapes != [(count, HASH_BYTES), (count, DIGEST_BYTES), (count,)]:
            raise BadInput(f"the manifest of the data has the shapes {shapes}; train again")
        tensors = (manifest.hashes, manifest.digests, manifest.splits)
        is_bytes = all(isinstance(t, Tensor) and t.dtype == torch.uint8 for t in tensors)
        if not is_bytes or (manifest.splits >= len(SPLITS)).any():
            raise BadInput("the manifest of the data holds no hashes and splits; train again")
        if not isinstance(manifest.classes, list):
            raise BadInput("the manifest of the data has classes that are no list; train again")
        return manifest

    @property
    def rows(self) -> list[bytes]:
        """Give the hash, the digest of the label and the split of each image, 25 bytes each."""
        parts = [self.hashes.numpy(), self.digests.numpy(), self.splits.numpy()[:, None]]
        return [row.tobytes() for row in np.concatenate(parts, axis=1)]

    @property
    def hash(self) -> str:
        """Give the hash of everything in it; the order of the items does not matter."""
        digest = hashlib.blake2b(json.dumps(sorted(self.classes)).encode(), digest_size=16)
        digest.update(b"".join(sorted(self.rows)))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed from one snapshot to a later one.

    Args:
        num_added: Images that only the later one has.
        num_removed: Images that only the earlier one has.
        num_relabelled: Images that both have, with another label.
        new_classes: Class names that only the later one has.
        removed_classes: Class names that only the earlier one has.
    """

    num_added: int
    num_removed: int
    num_relabelled: int
    new_classes: tuple[str, ...] = ()
    removed_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it in a line."""
        parts = [f"+{self.num_added} image{'s' * (self.num_added != 1)}"]
        if self.num_removed:
            parts.append(f"-{self.num_removed} image{'s' * (self.num_removed != 1)}")
        for sign, classes in (("+", self.new_classes), ("-", self.removed_classes)):
            if classes:
                parts.append(f"{sign}{len(classes)} class{'es' * (len(classes) != 1)}")
        if self.num_relabelled:
            parts.append(f"{self.num_relabelled} relabelled")
        return ", ".join(parts)


def diff(old: Manifest, new: Manifest) -> Diff:
    """Compare two manifests by what the images show; names and order do not matter.

    Equal images count as often as they occur.
    """
    before, after = _labels_by_image(old), _labels_by_image(new)
    added = removed = relabelled = 0
    for key in before.keys() | after.keys():
        one, other = before.get(key, Counter()), after.get(key, Counter())
        both = min(one.total(), other.total())
        added += other.total() - both
        removed += one.total() - both
        relabelled += both - (one & other).total()
    new_classes = tuple(name for name in new.classes if name not in old.classes)
    removed_classes = tuple(name for name in old.classes if name not in new.classes)
    return Diff(added, removed, relabelled, new_classes, removed_classes)


def _labels_by_image(manifest: Manifest) -> dict[bytes, Counter[bytes]]:
    labels: dict[bytes, Counter[bytes]] = defaultdict(Counter)
    for image, label in zip(manifest.hashes.numpy(), manifest.digests.numpy(), strict=True):
        labels[image.tobytes()][label.tobytes()] += 1
    return labels


def split_of(key: bytes, val_share: float, test_share: float) -> str:
    """Give the split of a key, such as a hash of pixels: the same one for ever."""
    digest = hashlib.blake2b(key, digest_size=8, person=b"regrow-split").digest()
    place = int.from_bytes(digest, "big") / 2**64
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


class Snapshot:
    """Labelled images of one moment.

    Args:
        kind: What the labels are.
        classes: Class names; none stands there twice.
        items: The images.
        hashes: The hash of each image's pixels, 16 bytes each.
        digests: The digest of each label, 8 bytes each.
        val_share: Share of the images that validate, where that is not official, in [0, 1).
        test_share: Share of the images that test, where that is not official, in [0, 1).
        splits: The split of each image, if it is known already.
    """

    def __init__(
        self,
        kind: Kind,
        classes: Sequence[str],
        items: Sequence[Item],
        hashes: Sequence[bytes],
        digests: Sequence[bytes],
        *,
        val_share: float = 0.1,
        test_share: float = 0.1,
        splits: Sequence[str] | None = None,
    ) -> None:
        self.kind, self.classes, self.items = kind, tuple(classes), tuple(items)
        self.hashes, self.digests = tuple(hashes), tuple(digests)
        if splits is None:
            splits = _splits(self.items, self.hashes, val_share, test_share)
        self.splits = tuple(splits)

    def indices(self, split: str) -> list[int]:
        """Give the places of a split's items."""
        return [index for index, own in enumerate(self.splits) if own == split]

    def manifest(self) -> Manifest:
        """Give what it holds, without the images."""
        return Manifest(
            _rows(self.hashes, HASH_BYTES),
            digest_rows(self.digests),
            torch.tensor([SPLITS.index(split) for split in self.splits], dtype=torch.uint8),
            list(self.classes),
        )

    @cached_property
    def hash(self) -> str:
        """Give the hash of the manifest."""
        return self.manifest().hash


def check_items(classes: Sequence[str], items: Sequence[Item], where: str) -> None:
    """Refuse what cannot be a data set.

    Args:
        classes: Class names.
        items: The images.
        where: What the classes and items come from.

    Raises:
        BadInput: If classes or names of items repeat, a class name cannot be printed, a label is
            none of the classes, or there is nothing.
    """
    twice = sorted(name for name, count in Counter(classes).items() if count > 1)
    if twice:
        raise BadInput(f"{where}: the class {', '.join(twice)} is named twice; name each once")
    if not items or not classes:
        what = "images" if not items else "classes"
        raise BadInput(f"{where}: no {what} found; check the folder and its layout")
    for name in classes:
        if not name.isprintable():
            raise BadInput(f"{where}: the class name {name!r} is not printable; write it anew")
    known, seen = set(classes), set()
    for item in items:
        if item.name in seen:
            raise BadInput(f"{where}: {item.name} is listed twice; list each image once")
        seen.add(item.name)
        for name in _names(item.target):
            if name not in known:
                raise BadInput(
                    f"{item.name}: its label {name!r} is none of the classes "
                    f"{', '.join(classes)}; add the class or correct the label"
                )


def _names(target: Target) -> Collection[str]:
    if isinstance(target, str):
        return (target,)
    return target.classes if isinstance(target, Boxes) else target.names.values()


def _splits(
    items: Sequence[Item], hashes: Sequence[bytes], val_share: float, test_share: float
) -> tuple[str, ...]:
    official = {item.split for item in items}
    # A split that is not official is carved out of the official training images.
    val = 0.0 if "val" in official else val_share
    test = 0.0 if "test" in official else test_share
    splits = []
    for item, key in zip(items, hashes, strict=True):
        if item.split is not None and item.split != "train":
            splits.append(item.split)
            continue
        own = item.group.encode("utf-8", "surrogatepass") if item.group is not None else key
        shares = (val_share, test_share) if item.split is None else (val, test)
        splits.append(split_of(own, *shares))
    return tuple(splits)


def digest_rows(digests: Sequence[bytes]) -> Tensor:
    """Give digests of labels as a manifest holds them, uint8 (n, 8)."""
    return _rows(digests, DIGEST_BYTES)


def _rows(values: Sequence[bytes], width: int) -> Tensor:
    data = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, width)
    return torch.from_numpy(data.copy())
