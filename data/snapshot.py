"""Snapshots of labelled images, their manifests of hashes, and the difference of two manifests."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from regrow.data.splits import SPLITS
from regrow.data.targets.labels import DIGEST_BYTES, HASH_BYTES, Boxes, Item, Kind, Target
from regrow.errors import BadInput
from regrow.plain import MISSHAPEN


@dataclass(frozen=True, slots=True)
class Manifest:
    """The hashes, labels and splits of a snapshot, without the images.

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
        """Return the manifest as a checkpoint can hold it."""
        return {
            "hashes": self.hashes,
            "digests": self.digests,
            "splits": self.splits,
            "classes": list(self.classes),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Manifest":
        """Read what `to_dict` returned.

        Raises:
            BadInput: If it is something else.
        """
        try:
            manifest = cls(*(values[name] for name in ("hashes", "digests", "splits", "classes")))
            count = len(manifest.hashes)
            shapes = [tuple(t.shape) for t in (manifest.hashes, manifest.digests, manifest.splits)]
            names = [type(name) for name in [*manifest.classes]]
        except MISSHAPEN as error:
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
        """Return the hash, the digest of the label and the split of each image, 25 bytes each."""
        parts = [self.hashes.numpy(), self.digests.numpy(), self.splits.numpy()[:, None]]
        return [row.tobytes() for row in np.concatenate(parts, axis=1)]

    @property
    def split_by_hash(self) -> dict[bytes, str]:
        """Return the split of each image, by the hash of its pixels."""
        keys = (row.tobytes() for row in self.hashes.numpy())
        return {key: SPLITS[n] for key, n in zip(keys, self.splits.tolist(), strict=True)}

    @property
    def hash(self) -> str:
        """Return the hash of everything in it; the order of the items does not matter."""
        digest = hashlib.blake2b(json.dumps(sorted(self.classes)).encode(), digest_size=16)
        digest.update(b"".join(sorted(self.rows)))
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Diff:
    """The difference between a snapshot and a later one.

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
        """Return it in words, in one line."""
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
    """Return the difference of two manifests; names of files and their order do not matter.

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


class Snapshot:
    """The labelled images of a data set at one moment.

    Args:
        kind: What the labels are.
        classes: Class names; none stands there twice.
        items: The images.
        hashes: The hash of each image's pixels, 16 bytes each.
        digests: The digest of each label, 8 bytes each.
        splits: The split of each image.
    """

    def __init__(
        self,
        kind: Kind,
        classes: Sequence[str],
        items: Sequence[Item],
        hashes: Sequence[bytes],
        digests: Sequence[bytes],
        *,
        splits: Sequence[str],
    ) -> None:
        self.kind, self.classes, self.items = kind, tuple(classes), tuple(items)
        self.hashes, self.digests = tuple(hashes), tuple(digests)
        self.splits = tuple(splits)

    def indices(self, split: str) -> list[int]:
        """Return the places of a split's items."""
        return [index for index, own in enumerate(self.splits) if own == split]

    def manifest(self) -> Manifest:
        """Return the manifest: what it holds, without the images."""
        return Manifest(
            _rows(self.hashes, HASH_BYTES),
            digest_rows(self.digests),
            torch.tensor([SPLITS.index(split) for split in self.splits], dtype=torch.uint8),
            list(self.classes),
        )

    @cached_property
    def hash(self) -> str:
        """Return the hash of the manifest."""
        return self.manifest().hash


def check_items(classes: Sequence[str], items: Sequence[Item], where: str) -> None:
    """Refuse classes and images that cannot be a data set.

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


def digest_rows(digests: Sequence[bytes]) -> Tensor:
    """Return digests of labels as a manifest holds them, uint8 (n, 8)."""
    return _rows(digests, DIGEST_BYTES)


def _rows(values: Sequence[bytes], width: int) -> Tensor:
    data = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(-1, width)
    return torch.from_numpy(data.copy())
