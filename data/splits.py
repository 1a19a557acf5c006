"""The split of each image that has no official one: by a hash of its pixels."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from regrow.data.labels import Item

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
    """

    shares: Shares = Shares()

    def splits(self, items: Sequence[Item], hashes: Sequence[bytes]) -> tuple[str, ...]:
        """Return the split of each image.

        Args:
            items: The images.
            hashes: The hash of each image's pixels.
        """
        return hashed_splits(items, hashes, self.shares)


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
