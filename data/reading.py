"""Read each image and label of a source once: check it, fingerprint it, keep its pixels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from regrow.data.checks.annotations import checked, with_known_labels
from regrow.data.checks.duplicates import remark_duplicates
from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.checks.shown import (
    Shown,
    check_shown,
    class_names,
    count_shown,
    remark_losses,
    remark_unshown,
)
from regrow.data.images.conversion import Decoding, Facts, remark_conversions
from regrow.data.images.fingerprints import Fingerprint, Fingerprints
from regrow.data.images.opening import CorruptImage
from regrow.data.images.pixels import Pixels, PixelStore
from regrow.data.loaded import Gathered
from regrow.data.snapshot import Snapshot, check_items
from regrow.data.source import Source, some_items
from regrow.data.splits import Splitting
from regrow.data.targets.ignored import remark_ignored
from regrow.data.targets.labels import Item, Mask, label_digest
from regrow.errors import BadInput
from regrow.progress import progress

WAYS_OUT = {
    "train": "lower data.val_share and data.test_share, or add some",
    "val": "raise data.val_share, or add some",
    "test": "raise data.test_share, or add some",
}


@dataclass(slots=True)
class Read:
    """Images that could be used, and what is known of each: one entry an image in every list.

    Args:
        items: The images and their labels.
        hashes: The hash of each image's pixels.
        digests: The digest of each label.
        kept: The pixels of each, as far as they are kept.
        shown: How much of each class each label shows, see `count_shown`.
        facts: What the pixels of each leave out, see `regrow.data.images.conversion`.
        skipped: Names of the corrupt images that were left out, each with the reason.
    """

    items: list[Item] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    kept: list[Pixels] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    facts: list[Facts] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def take(
        self,
        item: Item,
        image: Fingerprint,
        mask: Fingerprint | None,
        size: tuple[int, int],
        store: PixelStore,
    ) -> None:
        """Add an image; what was decoded to look at it is kept, where there is room.

        Args:
            item: The image and its label.
            image: The fingerprint of the image.
            mask: The fingerprint of its mask, if it has one.
            size: Height and width that both are resized to, in pixels.
            store: Where pixels are kept.
        """
        self.items.append(item)
        self.hashes.append(image.digest)
        self.facts.append(image.facts)
        self.digests.append(mask.digest if mask is not None else label_digest(item.target))
        numbers = mask.numbers if mask is not None else None
        left = dict(zip(mask.numbers, mask.counts, strict=True)) if mask is not None else {}
        self.shown.append(count_shown(item.target, image.size, size, left))
        known_as = (image.hash, mask.hash if mask is not None else None)
        kept = store.place(image.size, size, numbers, known_as)
        if image.pixels is not None and (mask is None or mask.pixels is not None):
            kept.fill(image.pixels, mask.pixels if mask is not None else None)
        self.kept.append(kept)


@dataclass(frozen=True, slots=True)
class Reading:
    """How the images of a source are read.

    Args:
        root: The folder of the data, by which what was found out is kept; None keeps nothing.
        size: Height and width that images and masks are resized to, in pixels.
        decoding: How files become pixels.
        splitting: How images are split where that is not official.
        name: What to call the data in errors and warnings.
        classes: Class names in another order than that of the source; None takes those.
        max_images: Take so many images of each split of the source at most; None takes all.
        cache_bytes: Resized images and masks are kept in memory up to so many bytes.
        skip_corrupt: Leave out images that cannot be decoded, and count them.
        skip_bad: Leave out rows and boxes that cannot be used, and count them.
    """

    root: Path | None
    size: tuple[int, int]
    decoding: Decoding
    splitting: Splitting
    name: str
    classes: Sequence[str] | None = None
    max_images: int | None = None
    cache_bytes: int = 0
    skip_corrupt: bool = False
    skip_bad: bool = False

    def read(self, source: Source, remarks: Remarks) -> tuple[Gathered, list[str]]:
        """Read all images of a source, and warn of what is odd in them.

        Args:
            source: Where they come from.
            remarks: Where is counted what was left out or changed.

        Returns:
            The images, and the names of corrupt ones that were left out, each with the reason.

        Raises:
            BadInput: If something in the data cannot be used.
            CorruptImage: If an image cannot be decoded, unless such images are left out.
        """
        faults = Faults()
        content = source.gather(self.root, faults)
        classes = content.classes if self.classes is None else self.classes
        sound = with_known_labels(content.items, classes, faults)
        remarks.take(content.remarks)
        faults.settle(self.skip_bad, remarks)
        check_items(classes, sound, self.name if self.classes is None else "data.classes")
        found = self._images(some_items(sound, self.max_images), faults, remarks)
        faults.settle(self.skip_bad, remarks)
        splits = self.splitting.splits(
            found.items, found.hashes, list(map(class_names, found.shown))
        )
        snapshot = Snapshot(
            content.kind, classes, found.items, found.hashes, found.digests, splits=splits
        )
        self._check(snapshot, found, source, remarks)
        return Gathered(snapshot, found.kept, found.shown), found.skipped

    def _images(self, items: Sequence[Item], faults: Faults, remarks: Remarks) -> Read:
        """Find out what each file holds, reading those that are not known from an earlier run."""
        found, store = Read(), PixelStore(self.cache_bytes, self.decoding)
        with Fingerprints(self.root, self.size, self.decoding) as known:
            for said in progress(items, "reading images"):
                try:
                    image = known.image(said.image)
                    mask = known.mask(said.target) if isinstance(said.target, Mask) else None
                except CorruptImage as error:
                    if not self.skip_corrupt:
                        raise
                    found.skipped.append(f"{said.name} ({error})")
                    remarks.add("corrupt images skipped", said.name)
                    continue
                except BadInput as error:
                    faults.add(str(error), said.name)
                    continue
                item = checked(said, image, mask, faults, remarks)
                if item is not None:
                    remark_ignored(item, remarks)
                    found.take(item, image, mask, self.size, store)
        return found

    def _check(self, snapshot: Snapshot, found: Read, source: Source, remarks: Remarks) -> None:
        """Warn of what is odd in the images, and refuse what cannot be trained on."""
        names = [item.name for item in found.items]
        remark_conversions(names, found.facts, self.decoding, remarks)
        remark_losses(found.items, found.shown, self.size, remarks)
        remark_duplicates(snapshot, remarks)
        remarks.warn(self.name)
        for split in ("train", "val"):
            if not snapshot.indices(split):
                refuse_no_images(split, self.name)
        if source.stands_alone:
            unshown = Remarks()
            remark_unshown(snapshot, found.shown, unshown)
            unshown.warn(self.name)
            remarks.take(unshown)
            check_shown(snapshot, found.shown, ["train"], self.name)


def refuse_no_images(split: str, name: str) -> NoReturn:
    """Refuse data that has no images of a split.

    Args:
        split: The split.
        name: What to call the data.

    Raises:
        BadInput: Always.
    """
    raise BadInput(f"{name}: no {split} images in it; {WAYS_OUT[split]}")
