"""The data of a run: snapshots of a source, in batches of uint8 images."""

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule
from torchvision.transforms import v2

from regrow.data.batches.examples import Examples, make_loader
from regrow.data.batches.mixture import Mixture, repeat_factors
from regrow.data.batches.sampling import EpochSampler, ResumableLoader, counter_seed
from regrow.data.checks.duplicates import remark_overlap
from regrow.data.checks.remarks import Remarks
from regrow.data.checks.settings import refuse_decoding, refuse_settings
from regrow.data.checks.shown import census, check_shown
from regrow.data.images.conversion import Decoding
from regrow.data.images.fingerprints import Fingerprints
from regrow.data.images.opening import MAX_PIXELS
from regrow.data.images.pixels import Pixels
from regrow.data.loaded import Gathered
from regrow.data.reading import Reading, refuse_no_images
from regrow.data.snapshot import Manifest, Snapshot
from regrow.data.source import Source
from regrow.data.splits import SPLITS, Shares, Splitting
from regrow.data.targets.labels import VOID, Kind
from regrow.errors import BadInput


class GrowingData(LightningDataModule):
    """The images and labels of a run, as a Lightning data module; a later run may have more.

    A batch is images, uint8 (b, 3, h, w), and targets: labels (b,); or a mapping of `boxes` (n, 4),
    xyxy in pixels of the resized image, and `labels` (n,) an image; or masks, uint8 (b, h, w).

    Args:
        source: Where the images come from, and in what format.
        root: The folder of the data; a relative one may lie under `REGROW_DATA`.
        size: Height and width that all images are resized to, in pixels.
        batch_size: Number of images in a batch, on each device.
        augment: Transforms of `torchvision.transforms.v2` for training images, in order.
        val_share: Share of the images that validate, where no split says so, in [0, 1).
        test_share: Share of the images that test, where no split says so, in [0, 1).
        num_workers: Processes that decode and augment; 0 does it in the training process.
        seed: The seed of the order of images and of their augmentation.
        skip_corrupt: Leave out images that cannot be decoded, and count them, instead of ending.
        max_images: Largest number of images of each split of the source, drawn at random, the same
            ones every time; null takes all.
        cache_bytes: Memory for resized images and masks, in bytes. An image that is known from an
            earlier run is read when it is first used.
        max_pixels: Largest number of pixels of an image file; one of more is refused before it is
            decoded.
        grey_range: The values of 16-bit grey images that become 0 and 255, those outside are
            clipped; null is 0 and 65535. Whoever serves the network has to do the same.
        classes: Class names in the order that labels count in, where not that of the data; a label
            that is none of them is refused.
        skip_bad: Leave out rows and boxes of annotations that cannot be used, and count them,
            instead of ending: an image with its row, of a box the box alone.
        stratify: Stratified splits: where no split is official, each class has its share in
            validation and test, an image counting for the rarest class that it shows. Later runs
            keep the splits of the checkpoint that they start, resume or prune from; without one,
            new images can move a few old ones to another split.
        balance: Class-balanced sampling: training images are drawn by how rare their rarest class
            is, to this power: 1 shows the classes of labelled images equally often, 0.5 is the
            power of repeat-factor sampling. An epoch keeps its length; null draws each image once.

    Raises:
        BadInput: If a value is out of range.
    """

    def __init__(
        self,
        source: Source,
        root: Path | None = None,
        size: tuple[int, int] = (32, 32),
        batch_size: int = 64,
        augment: list[v2.Transform] | None = None,
        val_share: float = 0.1,
        test_share: float = 0.1,
        num_workers: int = 0,
        seed: int = 0,
        skip_corrupt: bool = False,
        max_images: int | None = None,
        cache_bytes: int = 2**31,
        max_pixels: int = MAX_PIXELS,
        grey_range: tuple[int, int] | None = None,
        classes: list[str] | None = None,
        skip_bad: bool = False,
        stratify: bool = False,
        balance: float | None = None,
    ) -> None:
        super().__init__()
        shares = (val_share, test_share)
        refuse_settings(size, batch_size, shares, num_workers, cache_bytes, max_images, balance)
        refuse_decoding(max_pixels, grey_range)
        self.source, self.root = source, root
        self.size = (int(size[0]), int(size[1]))
        self.batch_size, self.augment = batch_size, list(augment or [])
        self.val_share, self.test_share, self.stratify = val_share, test_share, stratify
        self.num_workers, self.seed = num_workers, seed
        self.skip_corrupt, self.skip_bad, self.cache_bytes = skip_corrupt, skip_bad, cache_bytes
        self.max_images, self.balance = max_images, balance
        self.decoding = Decoding(max_pixels, grey_range and (grey_range[0], grey_range[1]))
        self.skipped: list[str] = []
        self.remarks = Remarks()
        self.mixture: Mixture | None = None
        self._asked = classes
        self._order: list[str] | None = None
        self._renamed: dict[str, str] = {}
        self._decided: dict[bytes, str] = {}
        self._gathered: Gathered | None = None

    @property
    def _loaded(self) -> Gathered:
        """Return what was read; the first time, it is read."""
        if self._gathered is None:
            self._gathered = self._read()
        return self._gathered

    def _read(self) -> Gathered:
        self.remarks = Remarks()
        reading = Reading(
            self.root,
            self.size,
            self.decoding,
            self._splitting,
            name=self._name,
            classes=self._asked,
            max_images=self.max_images,
            cache_bytes=self.cache_bytes,
            skip_corrupt=self.skip_corrupt,
            skip_bad=self.skip_bad,
        )
        gathered, self.skipped = reading.read(self.source, self.remarks)
        return gathered

    @property
    def _splitting(self) -> Splitting:
        shares = Shares(self.val_share, self.test_share)
        return Splitting(shares, self._decided if self.stratify else None)

    def join_(
        self,
        other: "GrowingData",
        name: str,
        splits: Sequence[str] = SPLITS,
        called: Mapping[str, str] | None = None,
        removed: Collection[str] = (),
    ) -> None:
        """Join the images of other data to these, in place, each in the split that it has there.

        Those that show the same pixels as an image of this data stay out. Boxes and masks know the
        classes of their own data; what they do not show of others is unknown.

        Args:
            other: The other data, of the same kind and size of images.
            name: What its images are called after, as of a folder.
            splits: The splits whose images are taken.
            called: Names of classes there to names here; those not listed stay.
            removed: Names of classes there that are left out: images that are one of them, or the
                boxes and pixels that show them.

        Raises:
            BadInput: If it has another kind of labels.
        """
        own, more = self._loaded, other._loaded
        self._gathered = own.joined(more, name, splits, dict(called or {}), tuple(removed))
        overlap = Remarks()
        remark_overlap(own.snapshot, more.snapshot, name, splits, dict(called or {}), overlap)
        self.remark(overlap)

    def copy(self) -> "GrowingData":
        """Return the same data for another run, without reading it again."""
        return self._holding(self._loaded)

    def _holding(self, gathered: Gathered) -> "GrowingData":
        other = copy.copy(self)
        other.mixture, other.remarks = None, Remarks()
        other.remarks.take(self.remarks)
        other._gathered = gathered
        return other

    def keep_splits_(self, before: Mapping[str, Any] | None) -> None:
        """Keep images in the splits of an earlier snapshot, where `stratify` decides on splits.

        Args:
            before: The manifest of the earlier snapshot, as the checkpoint of a run holds it; None
                where it holds none.

        Raises:
            BadInput: If it is no manifest.
        """
        if not self.stratify or before is None:
            return
        self._decided = Manifest.from_dict(before).split_by_hash
        if self._gathered is not None:
            self._gathered = self._gathered.split_by(self._splitting)

    def remark(self, more: Remarks) -> None:
        """Warn of what else happened to the data, and count it with the rest."""
        more.warn(self._name)
        self.remarks.take(more)

    def later_than(self, before: "GrowingData") -> "GrowingData":
        """Return only the images that earlier data does not have with the same label.

        Where no validation image is new, all of them stay.

        Args:
            before: The earlier data.

        Raises:
            BadInput: If no training image is left.
        """
        later = self._holding(self._loaded.later_than(before.snapshot))
        if not later.snapshot.indices("train"):
            raise BadInput(f"{self._name}: no train image that {before._name} lacks")
        return later

    def as_of(self, before: Manifest) -> "GrowingData":
        """Return only the images that were there before, with the label and the split of then.

        Args:
            before: What was there.

        Raises:
            BadInput: If some of them are missing or changed.
        """
        earlier = self._holding(self._loaded.as_of(before))
        count = len(before.hashes)
        num_missing = count - len(earlier.snapshot.items)
        if num_missing:
            raise BadInput(
                f"{self._name}: {num_missing} of {count} old images missing, or changed in pixels, "
                "label or split"
            )
        return earlier

    @property
    def snapshot(self) -> Snapshot:
        """Return the snapshot; reading it takes a while the first time."""
        return self._loaded.snapshot

    def manifest(self, called: Mapping[str, str] | None = None) -> Manifest:
        """Return what the snapshot holds, as if classes had other names.

        Args:
            called: Names in the data to other names, such as those of before a renaming.
        """
        if not called:
            return self.snapshot.manifest()
        with Fingerprints(self.root, self.size, self.decoding) as known:
            return self._loaded.manifest_called(called, known)

    @property
    def kind(self) -> Kind:
        """Return what the labels are: class names, boxes or masks."""
        return self.snapshot.kind

    @property
    def classes(self) -> list[str]:
        """Return the class names, in the order asked for, else that of the data."""
        return list(self.snapshot.classes)

    @property
    def _name(self) -> str:
        return str(self.root) if self.root is not None else type(self.source).__name__

    @property
    def num_skipped(self) -> int:
        """Count the corrupt images that were skipped."""
        return len(self.skipped)

    def shown(self, split: str) -> list[set[str]]:
        """Return for each image of a split the names of the classes that its label shows."""
        names, places = set(self.classes), self._renamed
        shown = self._loaded.shown
        indices = self.snapshot.indices(split)
        found = [{name for name in shown[i] if shown[i][name]} & names for i in indices]
        return [{places.get(str(name), str(name)) for name in own} for own in found]

    def kept(self, split: str) -> list[Pixels]:
        """Return what is remembered of the files of each image of a split."""
        return [self._loaded.kept[index] for index in self.snapshot.indices(split)]

    def refuse_unscored(self) -> None:
        """Refuse validation or test images that show nothing: no score on them means anything.

        Raises:
            BadInput: If none of a split shows a class.
        """
        check_shown(self.snapshot, self._loaded.shown, ["val", "test"], self._name)

    def census(self) -> dict[str, Any]:
        """Count the images of each split, and of each class its images, boxes or pixels there.

        Returns:
            By split `images`, and `classes`: by name `images`, and `boxes` (those that `size`
            leaves a pixel or more) or `pixels` (of the resized masks) where labels are these.
        """
        return census(self.snapshot, self._loaded.shown, self._renamed)

    def mix_(self, mixture: Mixture | None) -> None:
        """Set how often training images come in an epoch, in place; None lets each come once."""
        self.mixture = mixture

    def class_counts(self) -> dict[str, int]:
        """Count what training labels show of each class: images, boxes, or resized pixels."""
        classes = self.census()["train"]["classes"]
        return {name: [*counts.values()][-1] for name, counts in classes.items()}

    def order_classes(self, names: Sequence[str], mapping: Mapping[str, str] | None = None) -> None:
        """Number the labels by this list of names, such as the rows of a head.

        Args:
            names: Class names; there may be more than the data has.
            mapping: Names in the data to names in the list, where they differ.

        Raises:
            BadInput: If the list lacks a class of the data.
        """
        places = dict(mapping or {})
        missing = [name for name in self.classes if places.get(name, name) not in names]
        if missing:
            raise BadInput(
                f"the data has the classes {', '.join(missing)}, which the network lacks; "
                f"data: {', '.join(self.classes)}; network: {', '.join(names)}"
            )
        self._order, self._renamed = list(names), places

    def examples(self, split: str) -> "Examples":
        """Return the examples of a split."""
        snapshot = self.snapshot
        order = self._order or self.classes
        if self.kind == "masks" and len(order) > VOID:
            raise BadInput(f"masks have at most {VOID} classes, these {len(order)}")
        rows = {n: order.index(self._renamed.get(n, n)) for n in self.classes}
        indices = snapshot.indices(split)
        return Examples(
            [snapshot.items[index] for index in indices],
            self.kept(split),
            rows,
            self.size,
            self.augment if split == "train" else [],
            self.seed,
            len(order),
        )

    def _mixture(self) -> Mixture | None:
        """Return how often training images come: as a warm start says, else balanced or once."""
        if self.mixture is not None or self.balance is None:
            return self.mixture
        return Mixture(repeat_factors(self.shown("train"), self.balance))

    @contextmanager
    def another_order(self, round_: int) -> Iterator[None]:
        """Use order and augmentation of another round of training for a while; 0 leaves them."""
        seed = self.seed
        self.seed = counter_seed(seed, round_) if round_ else seed
        try:
            yield
        finally:
            self.seed = seed

    def train_dataloader(self) -> ResumableLoader:
        """Return batches of the training images, shuffled and augmented anew every epoch."""
        return self._loader("train")

    def val_dataloader(self) -> ResumableLoader:
        """Return batches of the validation images, in order."""
        return self._loader("val")

    def test_dataloader(self) -> ResumableLoader:
        """Return batches of the test images, in order."""
        return self._loader("test")

    def _loader(self, split: str) -> ResumableLoader:
        examples = self.examples(split)
        if not len(examples):
            refuse_no_images(split, self._name)
        is_training = split == "train"
        rank, world = (
            (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
        )
        if world > len(examples):
            raise BadInput(
                f"{self._name}: {len(examples)} {split} images for {world} processes; "
                "lower fit.devices"
            )
        sampler = EpochSampler(
            len(examples),
            self.seed,
            shuffle=is_training,
            rank=rank,
            world=world,
            mixture=self._mixture() if is_training else None,
        )
        return make_loader(examples, self.batch_size, self.num_workers, sampler)
