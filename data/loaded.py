"""Images that were read, from one place or several, with what is known of each."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from regrow.data.checks.shown import Shown, class_names
from regrow.data.images.fingerprints import Fingerprints
from regrow.data.images.pixels import Pixels
from regrow.data.snapshot import Manifest, Snapshot, check_items, digest_rows
from regrow.data.splits import Splitting
from regrow.data.targets.labels import Item, Mask, Target, label_digest, renamed, without
from regrow.errors import BadInput
from regrow.progress import progress


@dataclass(frozen=True, slots=True)
class Gathered:
    """A snapshot, and what is remembered of each of its items.

    Args:
        snapshot: The snapshot.
        kept: The pixels of each item, as far as they are kept.
        shown: How much of each class each label shows, see `count_shown`.
    """

    snapshot: Snapshot
    kept: Sequence[Pixels]
    shown: Sequence[Shown]

    def part(self, places: Sequence[int]) -> "Gathered":
        """Return some of the items, each in its split.

        Args:
            places: Their places.
        """
        own = self.snapshot
        snapshot = Snapshot(
            own.kind,
            own.classes,
            [own.items[place] for place in places],
            [own.hashes[place] for place in places],
            [own.digests[place] for place in places],
            splits=[own.splits[place] for place in places],
        )
        return Gathered(snapshot, [self.kept[p] for p in places], [self.shown[p] for p in places])

    def split_by(self, splitting: Splitting) -> "Gathered":
        """Return the same items, split in another way.

        Args:
            splitting: How.
        """
        own = self.snapshot
        splits = splitting.splits(own.items, own.hashes, list(map(class_names, self.shown)))
        snapshot = Snapshot(
            own.kind, own.classes, own.items, own.hashes, own.digests, splits=splits
        )
        return replace(self, snapshot=snapshot)

    def manifest_called(self, called: Mapping[str, str], known: Fingerprints) -> Manifest:
        """Return what the snapshot holds, as if classes had other names.

        Args:
            called: Names of classes to other names.
            known: What is known of the files of masks.

        Raises:
            BadInput: If a mask has changed since it was read.
        """
        items = list(zip(self.snapshot.items, self.kept, strict=True))
        digests = [
            _file_digest(known, renamed(item.target, called), kept)
            for item, kept in progress(items, "labels before renaming")
        ]
        manifest = self.snapshot.manifest()
        names = [called.get(name, name) for name in manifest.classes]
        return replace(manifest, digests=digest_rows(digests), classes=names)

    def later_than(self, before: Snapshot) -> "Gathered":
        """Return the items that an earlier snapshot does not have with the same label.

        Where no validation item is new, all of them stay: something has to choose.
        """
        known = set(zip(before.hashes, before.digests, strict=True))
        pairs = zip(self.snapshot.hashes, self.snapshot.digests, strict=True)
        later = {place for place, pair in enumerate(pairs) if pair not in known}
        val = set(self.snapshot.indices("val"))
        return self.part(sorted(later if later & val else later | val))

    def as_of(self, before: Manifest) -> "Gathered":
        """Return the items that a manifest of before lists, with the label and the split of then.

        Classes that came later are left out: a mask may name some that it does not show.
        """
        missing, places = Counter(before.rows), []
        for place, row in enumerate(self.snapshot.manifest().rows):
            if missing[row]:
                missing[row] -= 1
                places.append(place)
        part, later = self.part(places), {*self.snapshot.classes} - {*before.classes}
        own = part.snapshot
        items = [replace(i, target=without(i.target, later) or i.target) for i in own.items]
        snapshot = Snapshot(
            own.kind, before.classes, items, own.hashes, own.digests, splits=own.splits
        )
        return replace(part, snapshot=snapshot)

    def joined(
        self,
        other: "Gathered",
        name: str,
        splits: Sequence[str],
        called: Mapping[str, str],
        removed: Collection[str],
    ) -> "Gathered":
        """Return these items and others beside them, see `GrowingData.join_`.

        Args:
            other: The others.
            name: What they are called after, as of a folder.
            splits: The splits whose items are taken.
            called: Names of classes there to names here.
            removed: Names of classes there that are left out.

        Raises:
            BadInput: If they have another kind of labels.
        """
        own, more = self.snapshot, other.snapshot
        if more.kind != own.kind:
            raise BadInput(f"{name}: has {more.kind}, and the data {own.kind}")
        theirs = [called.get(old, old) for old in more.classes if old not in removed]
        classes = list(dict.fromkeys([*own.classes, *theirs]))
        known = set(own.hashes)
        taken, places, items = {item.name for item in own.items}, [], []
        for place, item in enumerate(more.items):
            target = without(item.target, removed)
            is_taken = more.splits[place] in splits and more.hashes[place] not in known
            if is_taken and target is not None:
                item = _here(replace(item, target=target), name, taken, called, removed)
                places.append(place)
                items.append(_knowing(item, theirs, classes))
        digests = [more.digests[place] for place in places]
        if called or removed:
            own_kept = [other.kept[place] for place in places]
            digests = [_digest(i.target, k) for i, k in zip(items, own_kept, strict=True)]
        snapshot = Snapshot(
            own.kind,
            classes,
            [*(_knowing(item, own.classes, classes) for item in own.items), *items],
            [*own.hashes, *(more.hashes[place] for place in places)],
            [*own.digests, *digests],
            splits=[*own.splits, *(more.splits[place] for place in places)],
        )
        check_items(snapshot.classes, snapshot.items, name)
        shown = [_shown_here(other.shown[place], called, removed) for place in places]
        kept = [*self.kept, *(other.kept[place] for place in places)]
        return Gathered(snapshot, kept, [*self.shown, *shown])


def _here(
    item: Item, folder: str, taken: set[str], called: Mapping[str, str], removed: Collection[str]
) -> Item:
    """Return an item of other data with its name and classes here; the name is taken then."""
    name = item.name if item.name.startswith(f"{folder}/") else f"{folder}/{item.name}"
    while name in taken:
        name = f"{folder}/{name}"
    taken.add(name)
    known = item.known and frozenset(
        called.get(old, old) for old in item.known if old not in removed
    )
    return replace(item, name=name, target=renamed(item.target, called), known=known)


def _shown_here(shown: Shown, called: Mapping[str, str], removed: Collection[str]) -> Shown:
    counts: Counter[str | int] = Counter()
    for old, count in shown.items():
        if old not in removed:
            counts[called.get(old, old) if isinstance(old, str) else old] += count
    return dict(counts)


def _knowing(item: Item, known: Sequence[str], classes: Sequence[str]) -> Item:
    """Return an item that says which classes its boxes or mask know, where there are others."""
    if isinstance(item.target, str) or (item.known is None and len(known) == len(classes)):
        return item
    return replace(item, known=frozenset(known) if item.known is None else item.known)


def _digest(target: Target, kept: Pixels) -> bytes:
    return label_digest(target, kept.numbers(target) if isinstance(target, Mask) else None)


def _file_digest(known: Fingerprints, target: Target, kept: Pixels) -> bytes:
    """Return the digest of a label under other names; refuse a mask that has changed."""
    if not isinstance(target, Mask):
        return label_digest(target)
    found = known.mask(target)
    if kept.known_mask is not None and isinstance(target.pixels, Path):
        kept.known_mask.check(found.hash, target.pixels)
    return found.digest
