"""Images of now by what an old network's data held: forgetting is measured on old ones alone."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from regrow.data.images.decoding import decode_mask
from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.data.splits import SPLITS
from regrow.data.targets.labels import Mask, Target, label_digest, renamed, without
from regrow.incremental.matching import names_before

TRAIN = SPLITS.index("train")

Age = Literal["old", "relabelled", "trained", "new"]


@dataclass(frozen=True, slots=True)
class Ages:
    """The age of each image of a split: old, relabelled, trained on, or new to an old network.

    An image is `old` if that data held its pixels with the label that it has now, as far as it knew
    the classes: boxes and pixels of classes that came later do not count, nor do new names. With
    another label it is `relabelled`: to answer as before would be wrong now, so it tells of what
    was learned. If the old network was `trained` on it, it is no test of forgetting: it may have
    been known by heart. All others are `new`.

    Args:
        split: The split.
        ages: One an image, in the order of the split.
    """

    split: str
    ages: tuple[Age, ...]

    def are(self, *ages: Age) -> list[bool]:
        """Return for each image whether it has one of some ages."""
        return [age in ages for age in self.ages]

    def count(self, age: Age) -> int:
        """Count the images of an age."""
        return self.ages.count(age)


def ages_of(
    before: Manifest | None,
    data: GrowingData,
    split: str,
    called: Mapping[str, str] | None = None,
    removed: Collection[str] = (),
) -> Ages:
    """Return the ages of the images of a split.

    Args:
        before: Manifest of the old network's data; None, where that is not recorded, makes all new.
        data: The data of now.
        split: The split of now.
        called: Class names that changed, old name to new name.
        removed: Old classes that are given up.
    """
    snapshot = data.snapshot
    if before is None:
        return Ages(split, tuple("new" for _ in snapshot.indices(split)))
    trained, labels = set(), defaultdict(set)
    rows = zip(before.hashes.numpy(), before.digests.numpy(), before.splits.tolist(), strict=True)
    for image, label, place in rows:
        if place == TRAIN:
            trained.add(image.tobytes())
        else:
            labels[image.tobytes()].add(label.tobytes())
    names = names_before(data.classes, called or {}, [*removed])
    later = {names.get(name, name) for name in data.classes} - {*before.classes}

    def age(place: int) -> Age:
        image = snapshot.hashes[place]
        if image in trained:
            return "trained"
        if image not in labels:
            return "new"
        digest: bytes | None = snapshot.digests[place]
        if names or later:
            digest = _digest(without(renamed(snapshot.items[place].target, names), later))
        return "old" if digest in labels[image] else "relabelled"

    return Ages(split, tuple(age(place) for place in snapshot.indices(split)))


def old_images(
    ages: Sequence[Ages], data: GrowingData, known: Collection[str]
) -> tuple[Ages, Age] | None:
    """Choose the images that tell what was forgotten.

    The first split of which an old image shows a class that the old network knew; where there is
    none, the first of which a relabelled image does.

    Args:
        ages: The ages of each split, the best split first.
        data: The data.
        known: The classes that the old network knew, by their names of now.

    Returns:
        The split's ages, and the age of its images that tell; None where no image does.
    """
    kinds: tuple[Age, ...] = ("old", "relabelled")
    for age in kinds:
        for own in ages:
            shown = data.shown(own.split)
            if any(
                flag and names & {*known} for names, flag in zip(shown, own.are(age), strict=True)
            ):
                return own, age
    return None


def _digest(target: Target | None) -> bytes | None:
    if target is None:  # the name of a class that came later
        return None
    return label_digest(target, decode_mask(target.pixels) if isinstance(target, Mask) else None)
