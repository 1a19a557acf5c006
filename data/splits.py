"""The split of each image that has no official one: by a hash of its pixels, or stratified."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from regrow.data.targets.labels import Item

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Shares:
    """The shares of the images that are held out where no split is official, each in [0, 1).

    Args:
        val: Share of the images that validate.
        test: Share of the images that test.
    """

    val: float = 0.1
    test: float = 0.1


@dataclass(frozen=True, slots=True)
class Splitting:
    """How images that have no official split are split.

    Args:
        shares: How much is held out.
        decided: For stratified splits: by hash of pixels the splits that were decided earlier, and
            stay. None splits by the hash of pixels.
    """

    shares: Shares = Shares()
    decided: Mapping[bytes, str] | None = None

    def splits(
        self, items: Sequence[Item], hashes: Sequence[bytes], shown: Sequence[Collection[str]]
    ) -> tuple[str, ...]:
        """Return the split of each image.

        Args:
            items: The images.
            hashes: The hash of each image's pixels.
            shown: The classes that each image shows.
        """
        if self.decided is None:
            return hashed_splits(items, hashes, self.shares)
        return stratified_splits(items, hashes, shown, self.shares, self.decided)


def split_of(key: bytes, val_share: float, test_share: float) -> str:
    """Return the split of a key, such as a hash of pixels: the same one for ever."""
    place = _place(key)
    if place < test_share:
        return "test"
    return "val" if place < test_share + val_share else "train"


def _place(key: bytes) -> float:
    """Return a number in [0, 1) that is a function of the key alone, and evenly spread."""
    digest = hashlib.blake2b(key, digest_size=8, person=b"regrow-split").digest()
    return int.from_bytes(digest, "big") / 2**64


def hashed_splits(
    items: Sequence[Item], hashes: Sequence[bytes], shares: Shares
) -> tuple[str, ...]:
    """Return the split of each image: the official one, else a function of its pixels or group.

    Whatever comes or goes beside an image, its split stays.

    Args:
        items: The images.
        hashes: The hash of each image's pixels.
        shares: How much is held out where that is not official.
    """
    open_shares = _open_shares(items, shares)
    return tuple(
        split_of(_key(item, key), own.val, own.test) if own is not None else str(item.split)
        for item, key, own in zip(items, hashes, open_shares, strict=True)
    )


def stratified_splits(
    items: Sequence[Item],
    hashes: Sequence[bytes],
    shown: Sequence[Collection[str]],
    shares: Shares,
    decided: Mapping[bytes, str] | None = None,
) -> tuple[str, ...]:
    """Return the split of each image: the official one, else such that each class has its share.

    An image counts for the rarest class that it shows. Of the images of each class the shares are
    held out, rounded to whole images, and at least one for validation, then one for the test,
    while one is left to train on. Which ones they are is a function of pixels: those come first
    that `hashed_splits` would hold out first. Images of one group, and images with the same
    pixels, stay together; a group counts for the rarest class in it, so its class may miss its
    share by half a group.

    Which class is rare, and how many images of it are held out, changes when images come. So the
    split of an image is no function of the image alone, as that of `hashed_splits` is: it stays
    where `decided` names it, as in the manifest of the network that a run starts or resumes from.
    Without that, as after training from scratch on more images, a few images may change sides.

    Args:
        items: The images.
        hashes: The hash of each image's pixels.
        shown: The classes that each image shows.
        shares: How much is held out where that is not official.
        decided: By hash of pixels the splits that were decided earlier, and stay.
    """
    splits = [str(item.split) for item in items]
    pools: dict[Shares, list[int]] = defaultdict(list)
    for place, own in enumerate(_open_shares(items, shares)):
        if own is not None:
            pools[own].append(place)
    for own, places in pools.items():
        units = _units(places, items, hashes, decided or {})
        for stratum in _strata(units, shown):
            _hold_out_(stratum, own)
        for unit in units:
            for place in unit.places:
                splits[place] = (decided or {}).get(hashes[place], unit.split or "train")
    return tuple(splits)


@dataclass(slots=True)
class _Unit:
    """Images that stay together: a group, or those with the same pixels.

    Args:
        order: Its place among others, in [0, 1), a function of its key.
        places: The places of its images.
        split: Its split; None where that is open.
    """

    order: float
    places: list[int]
    split: str | None = None

    @property
    def size(self) -> int:
        return len(self.places)


def _open_shares(items: Sequence[Item], shares: Shares) -> list[Shares | None]:
    """Return for each image the shares that decide on its split; None where it is official.

    A split that is not official is carved out of the official training images.
    """
    official = {item.split for item in items}
    carved = Shares(
        0.0 if "val" in official else shares.val, 0.0 if "test" in official else shares.test
    )
    of_split = {None: shares, "train": carved}
    return [of_split.get(item.split) for item in items]


def _key(item: Item, pixels: bytes) -> bytes:
    """Return what decides on the split of an image: its group, else the hash of its pixels."""
    return item.group.encode("utf-8", "surrogatepass") if item.group is not None else pixels


def _units(
    places: Sequence[int],
    items: Sequence[Item],
    hashes: Sequence[bytes],
    decided: Mapping[bytes, str],
) -> list[_Unit]:
    """Gather images by key, in the order of the hash; a unit follows those that are decided."""
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for place in places:
        by_key[_key(items[place], hashes[place])].append(place)
    units = []
    for key, own in by_key.items():
        known = Counter(decided[hashes[place]] for place in own if hashes[place] in decided)
        split = max(SPLITS, key=lambda name: known[name]) if known else None
        units.append(_Unit(_place(key), own, split))
    return sorted(units, key=lambda unit: unit.order)


def _strata(units: Sequence[_Unit], shown: Sequence[Collection[str]]) -> list[list[_Unit]]:
    """Part units by the rarest class that any of their images shows; some may show none."""
    counts = Counter(name for unit in units for place in unit.places for name in {*shown[place]})
    strata: dict[str, list[_Unit]] = defaultdict(list)
    for unit in units:
        names = {name for place in unit.places for name in shown[place]}
        strata[min(names, key=lambda name: (counts[name], name), default="")].append(unit)
    return list(strata.values())


def _hold_out_(units: Sequence[_Unit], shares: Shares) -> None:
    """Assign open units of a stratum to validation and test, until each has its share."""
    total = sum(unit.size for unit in units)
    held = Counter({name: sum(u.size for u in units if u.split == name) for name in SPLITS})
    num_left = sum(unit.split in (None, "train") for unit in units)
    wanted = {"test": shares.test if len(units) > 2 else 0.0, "val": shares.val}

    def hold_out(unit: _Unit, name: str) -> None:
        nonlocal num_left
        unit.split = name
        held[name] += unit.size
        num_left -= 1

    for unit in units:
        for name, share in wanted.items():
            gap = int(share * total + 0.5) - held[name]
            if unit.split is None and gap > 0 and unit.size <= 2 * gap and num_left > 1:
                hold_out(unit, name)
    for name in ("val", "test"):
        rest = [unit for unit in units if unit.split is None]
        if wanted[name] and not held[name] and rest and num_left > 1:
            hold_out(min(rest, key=lambda unit: (unit.size, unit.order)), name)
