"""The old training images: whether the data still has them, a memory has some, or none is left."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.data.config import DATA_FILE, data_beside
from regrow.data.described import ForeignName
from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.data.source import locate
from regrow.data.splits import SPLITS
from regrow.data.stored import MEMORY, Stored
from regrow.data.targets.labels import label_digest
from regrow.errors import BadInput
from regrow.files import SMALL, read_json
from regrow.incremental.memory import memory_size, stood_for
from regrow.logs import log
from regrow.models.checkpoint import load_provenance
from regrow.models.record.provenance import Provenance
from regrow.plain import MISSHAPEN

START = "start.json"  # what a run that began warm remembers of its start
HELD_OUT = ("val", "test")


@dataclass(frozen=True, slots=True)
class Part:
    """Images joined to the data: a memory, or the old data itself.

    Args:
        folder: The folder of a memory, or the checkpoint beside which a `data.yaml` lies.
        is_memory: Which of both it is.
        splits: The splits that were taken.
    """

    folder: str
    is_memory: bool
    splits: tuple[str, ...] = SPLITS

    def join_(
        self,
        data: GrowingData,
        called: Mapping[str, str],
        removed: Collection[str] = (),
        images: GrowingData | None = None,
    ) -> None:
        """Join the images to data, in place.

        Args:
            data: The data.
            called: Names of classes there to names here.
            removed: Names of classes there that are given up.
            images: The images, if they have been read already.
        """
        name = MEMORY if self.is_memory else "before"
        data.join_(images or self.read(data), name, self.splits, called, removed)

    def read(self, data: GrowingData) -> GrowingData:
        """Read the images, resized as those of other data are.

        Raises:
            BadInput: If old images are missing or changed.
        """
        if not self.is_memory:
            checkpoint = Path(self.folder)
            before = Manifest.from_dict(load_provenance(checkpoint).manifest or {})
            return _beside(checkpoint).as_of(before)
        return GrowingData(
            Stored(),
            Path(self.folder),
            size=data.size,
            # A memory may have no test images; none of its training images become some.
            val_share=0,
            test_share=0,
            cache_bytes=data.cache_bytes,
            max_pixels=data.decoding.max_pixels,
            grey_range=data.decoding.grey_range,
        )


@dataclass(frozen=True, slots=True)
class History:
    """The training images, related to those that the old network was trained on.

    Args:
        num_known: Number of training images that the old network was trained on; None where that
            is not recorded.
        num_old: Number of images that it was trained on, with all that a joined memory stands for
            and less those of removed classes; 0 where that is not recorded.
        is_new: For each training image of the data whether it was not.
        parts: The images that were joined to the data.
    """

    num_known: int | None
    num_old: int
    is_new: list[bool]
    parts: list[Part] = field(default_factory=list)

    @property
    def has_memory(self) -> bool:
        """Whether a memory stands for the old training images."""
        return any(part.is_memory and "train" in part.splits for part in self.parts)

    @property
    def num_all(self) -> int:
        """Count the training images, with those that a memory stands for or that are gone."""
        is_short = self.has_memory or self.forgets
        return self.is_new.count(True) + (self.num_old if is_short else self.is_new.count(False))

    @property
    def forgets(self) -> bool:
        """Whether nothing of the old training images is left."""
        return self.num_known == 0

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON can hold it, for a run that is resumed."""
        parts = [[part.folder, part.is_memory, list(part.splits)] for part in self.parts]
        bits = "".join("01"[flag] for flag in self.is_new)
        counts = {"num_known": self.num_known, "num_old": self.num_old}
        return {**counts, "is_new": bits, "parts": parts}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "History":
        """Read what `to_dict` gave, which a file of anyone's may hold.

        Raises:
            ValueError: If it is something else.
        """
        known, old, bits = (values[name] for name in ("num_known", "num_old", "is_new"))
        counts = [old] if known is None else [old, known]
        if any(type(count) is not int or count < 0 for count in counts):
            raise ValueError("its numbers of old images are none")
        if not isinstance(bits, str) or {*bits} - {*"01"}:
            raise ValueError("its marks of new images are none")
        parts = []
        for folder, flag, splits in values["parts"]:
            is_part = isinstance(folder, str) and isinstance(flag, bool)
            if not is_part or not isinstance(splits, list) or not all(s in SPLITS for s in splits):
                raise ValueError("its parts are none")
            parts.append(Part(folder, flag, tuple(splits)))
        return cls(known, old, [bit == "1" for bit in bits], parts)


def join_history_(
    data: GrowingData,
    checkpoint: Path,
    provenance: Provenance,
    *,
    renamed: Mapping[str, str] | None = None,
    removed: Collection[str] = (),
    allow_forgetting: bool = False,
) -> History:
    """Join what is left of the old images to new data, in place; refuse new data alone.

    Where the data has old training images itself, as many as a memory would have, it stays as it
    is. Else the memory beside the checkpoint is joined, and for scores the old validation and test
    images: from the old data where that is at hand, see `_data_at_hand`, or from the memory.

    Args:
        data: The new data.
        checkpoint: The old network's file.
        provenance: Its provenance, with the manifest of its data.
        renamed: Class names that changed, old name to new name.
        removed: Old classes that are given up; nothing of them is joined.
        allow_forgetting: Train on new data alone where there is no memory.

    Returns:
        What there is of the old data.

    Raises:
        BadInput: If nothing of the old training images is left, unless that is allowed; or the old
            data is still there, but some of its images are missing or changed.
    """
    if provenance.manifest is None:
        return History(None, 0, [True] * len(data.snapshot.indices("train")))
    data.keep_splits_(provenance.manifest)
    old = Manifest.from_dict(provenance.manifest)
    trained, num_old = _trained_on(old), len(_trained_on(old, removed))
    parts: list[Part] = []
    memory, is_new = checkpoint.parent / MEMORY, _is_new(data, trained)
    least = memory_size(memory) if memory.is_dir() else 1
    if is_new.count(False) < least:
        before = _data_at_hand(data, checkpoint, old)
        if memory.is_dir():
            splits = SPLITS if before is None else ("train",)
            parts.append(Part(str(memory.absolute()), True, splits))
            num_old = stood_for(memory, removed=removed).total()
        elif not allow_forgetting:
            raise BadInput(_refusal(data, checkpoint, len(trained), before is not None))
        if before is not None:
            parts.append(Part(str(checkpoint.absolute()), False, HELD_OUT))
        for part in parts:
            images = None if part.is_memory else before
            part.join_(data, renamed or {}, removed, images)
        is_new = _is_new(data, trained)
    return History(is_new.count(False), num_old, is_new, parts)


def _trained_on(old: Manifest, removed: Collection[str] = ()) -> set[bytes]:
    """Return the hashes of the training images, less those that are one of the removed classes."""
    gone = {label_digest(name) for name in removed}
    rows = zip(old.hashes.numpy(), old.digests.numpy(), old.splits.tolist(), strict=True)
    train = SPLITS.index("train")
    return {
        image.tobytes()
        for image, label, split in rows
        if split == train and label.tobytes() not in gone
    }


def _is_new(data: GrowingData, trained: set[bytes]) -> list[bool]:
    return [data.snapshot.hashes[i] not in trained for i in data.snapshot.indices("train")]


def _data_at_hand(data: GrowingData, checkpoint: Path, old: Manifest) -> GrowingData | None:
    """Return the data that a checkpoint was trained on, where it still is.

    What came to it since is left out. Where new images took its place, in the folder of the new
    data, nothing of it is wanted there.

    Args:
        data: The new data.
        checkpoint: The old network's file.
        old: The manifest of the data that it was trained on.

    Returns:
        The old data; None where its folder or `data.yaml` is gone, new data took its place, or a
        part of it was joined from elsewhere.

    Raises:
        BadInput: If some of its images are missing or changed, or cannot be read.
    """
    try:
        before = _beside(checkpoint)
        folder = _folder(before)
    except ForeignName as error:
        log.warning(f"the old images are not looked for: {error}")
        return None
    except BadInput:
        return None
    if _was_joined(checkpoint):
        return None
    try:
        return before.as_of(old) if before.snapshot.hash != data.snapshot.hash else None
    except BadInput as error:
        if folder is not None and folder == _folder(data):
            return None
        raise BadInput(
            f"{error}; {checkpoint} was trained on what was there before: restore that, or move "
            f"{checkpoint.parent / DATA_FILE} away to go on without it"
        ) from error


def _beside(checkpoint: Path) -> GrowingData:
    """Return all images of the data that a checkpoint's run was made with, and not a sample."""
    data = data_beside(checkpoint)
    data.max_images = None
    if data.stratify:
        data.keep_splits_(load_provenance(checkpoint).manifest)
    return data


def _folder(data: GrowingData) -> Path | None:
    return locate(data.root).resolve() if data.root is not None else None


def _was_joined(checkpoint: Path) -> bool:
    """Whether other images were joined to those of the `data.yaml` when a network was trained."""
    file = checkpoint.parent / START
    return file.is_file() and bool(read_history(file).parts)


def read_history(file: Path) -> History:
    """Read the history in a `start.json`.

    Raises:
        BadInput: If there is none.
    """
    try:
        return History.from_dict(read_json(file, SMALL)["history"])
    except MISSHAPEN as error:
        raise BadInput(
            f"{file}: does not say what the run had of the old data ({error}); remove it if that "
            "is not to be known"
        ) from error


def _refusal(data: GrowingData, checkpoint: Path, num_old: int, is_at_hand: bool) -> str:
    count = len(data.snapshot.indices("train"))
    where = " (it is still where it was)" if is_at_hand else ""
    return (
        f"none of the {count} training images is one of the {num_old} that {checkpoint} was "
        "trained on, and training on new data alone forgets the old: give old and new images "
        f"together{where}, or keep a memory of the old ones by training {checkpoint.parent.name} "
        "with `replay`; --allow-forgetting trains all the same, and measures what is forgotten"
    )
