"""Fingerprints of a data set's files, kept from run to run, so that each file is read once.

A file is taken for unchanged while its size, its time of modification and the time of its inode's
last change all stay the same, down to the nanosecond. The last of the three also moves where the
second is set back by hand, so that only a clock that was turned back, or a file system without it,
can hide a change. A file that changed within two seconds before it was looked at is not remembered:
a second change might bear the same time.

Source: the index of git, Documentation/technical/racy-git.txt, which compares the same three.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from regrow.data.images.conversion import NUM_NUMBERS, Decoding, Facts
from regrow.data.images.decoding import decode_mask, decode_noted
from regrow.data.images.fingerprint_file import file_of, read_kept, write_kept
from regrow.data.images.transforms import small_mask
from regrow.data.targets.labels import DIGEST_BYTES, HASH_BYTES, Mask, label_digest, pixels_hash
from regrow.plain import MISSHAPEN

SETTLED_NS = 2 * 10**9  # FAT counts in steps of two seconds, most others in milliseconds
IMAGE = "image"
Stamp = list[int]  # bytes, and the two times in nanoseconds


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """The fingerprint of an image or a mask: its size, hashes and counts.

    Args:
        size: Height and width, in pixels.
        digest: Of an image the hash of its pixels, of a mask the digest of the label.
        numbers: Of a mask the numbers in it, ascending.
        counts: Of a mask how many pixels have each of the numbers once it is resized.
        hash: The hash of the pixels of an image, or of the numbers of a mask.
        facts: What the pixels of an image leave out, see `regrow.data.images.conversion`.
        pixels: What was decoded to find it out; None where it was known.
    """

    size: tuple[int, int]
    digest: bytes
    numbers: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    hash: bytes = b""
    facts: Facts = field(default_factory=dict)
    pixels: np.ndarray | None = field(default=None, compare=False)

    def to_list(self) -> list[Any]:
        """Return it as JSON can hold it, without the pixels."""
        lists = [list(self.numbers), list(self.counts)]
        facts = {kind: list(numbers) for kind, numbers in self.facts.items()}
        return [*self.size, self.digest.hex(), *lists, self.hash.hex(), facts]

    @classmethod
    def from_list(cls, values: Any, num_bytes: int) -> "Fingerprint | None":
        """Read what `to_list` returned.

        Args:
            values: That, or anything else.
            num_bytes: The length of its digest.

        Returns:
            The fingerprint; None where the values are none.
        """
        try:
            height, width, digest, numbers, counts, hashed, facts = values
            found = cls(
                (height, width),
                bytes.fromhex(digest),
                tuple(numbers),
                tuple(counts),
                bytes.fromhex(hashed),
                {kind: tuple(numbers) for kind, numbers in facts.items()},
            )
        except MISSHAPEN:
            return None
        described = [number for numbers in found.facts.values() for number in numbers]
        whole = [*found.size, *found.numbers, *found.counts, *described]
        is_one = (
            all(type(number) is int for number in whole)
            and min(found.size) >= 1
            and min(found.counts, default=0) >= 0
            and len(found.numbers) == len(found.counts)
            and all(NUM_NUMBERS.get(k) == len(numbers) for k, numbers in found.facts.items())
            and (len(found.digest), len(found.hash)) == (num_bytes, HASH_BYTES)
        )
        return found if is_one else None


class Fingerprints:
    """The fingerprints of the files of a root; leaving the context keeps what was found out.

    Pixels that lie in no file are looked at every time.

    Args:
        root: The folder of the data; None keeps nothing.
        size: Height and width that masks are resized to, in pixels; None leaves them as they are.
        decoding: How files become pixels.
    """

    def __init__(
        self,
        root: Path | None,
        size: tuple[int, int] | None = None,
        decoding: Decoding = Decoding(),
    ) -> None:
        self._size, self._decoding = size, decoding
        self._file = file_of(root) if root is not None else None
        kept = read_kept(self._file) if self._file is not None else {}
        # By file: its stamp, and by what it was read as a fingerprint as a list.
        self._known = {name: entry for name, entry in kept.items() if _is_entry(entry)}
        self._seen: set[str] = set()
        self._is_changed = False

    def __enter__(self) -> "Fingerprints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is None or not self._is_changed:
            return
        known = {n: v for n, v in self._known.items() if n in self._seen or os.path.exists(n)}
        write_kept(self._file, known)

    def image(self, image: Path | np.ndarray | Callable[[], np.ndarray]) -> Fingerprint:
        """Return the fingerprint of an image.

        Args:
            image: The file, or its pixels, uint8 (h, w, 3), or what reads them.

        Raises:
            BadInput: If it cannot be used; `CorruptImage` if it is truncated or no image.
        """

        def look() -> Fingerprint:
            pixels, facts = decode_noted(image, self._decoding)
            found = pixels_hash(pixels)
            return Fingerprint(pixels.shape[:2], found, hash=found, facts=facts, pixels=pixels)

        ends = self._decoding.grey_range
        read_as = IMAGE if ends is None else f"{IMAGE} {ends[0]}-{ends[1]}"
        return self._fingerprint(image, read_as, HASH_BYTES, look)

    def mask(self, mask: Mask) -> Fingerprint:
        """Return the fingerprint of a mask, whose digest goes by the names of its classes.

        Args:
            mask: The mask.

        Raises:
            BadInput: If it cannot be used; `CorruptImage` if it is truncated or no image.
        """

        def look() -> Fingerprint:
            pixels = decode_mask(mask.pixels, self._decoding)
            numbers = tuple(np.unique(pixels).tolist())
            left = small_mask(pixels, self._size) if self._size is not None else pixels
            found, pixels_each = np.unique(left, return_counts=True)
            counts = dict(zip(found.tolist(), pixels_each.tolist(), strict=True))
            return Fingerprint(
                pixels.shape[:2],
                label_digest(mask, pixels),
                numbers,
                tuple(counts.get(number, 0) for number in numbers),
                pixels_hash(pixels),
                pixels=pixels,
            )

        names = json.dumps(sorted(mask.names.items())).encode()
        named = hashlib.blake2b(names, digest_size=8).hexdigest()
        size = "" if self._size is None else f" {self._size[0]}x{self._size[1]}"
        return self._fingerprint(mask.pixels, f"mask {named}{size}", DIGEST_BYTES, look)

    def _fingerprint(
        self, source: Any, read_as: str, num_bytes: int, look: Callable[[], Fingerprint]
    ) -> Fingerprint:
        if self._file is None or not isinstance(source, Path):
            return look()
        name, now = os.path.abspath(source), time.time_ns()
        stamp = stamp_of(name)  # before it is read, so that a change meanwhile is a change
        known = self._known.get(name)
        if stamp is not None and known is not None and known[0] == stamp:
            found = Fingerprint.from_list(known[1].get(read_as), num_bytes)
            if found is not None and found.size[0] * found.size[1] <= self._decoding.max_pixels:
                self._seen.add(name)
                return found
        found = look()
        if stamp is not None and is_settled(stamp, now):
            if known is None or known[0] != stamp:
                known = self._known[name] = [stamp, {}]
            known[1][read_as] = found.to_list()
            self._seen.add(name)
            self._is_changed = True
        return found


def _is_entry(entry: Any) -> bool:
    """Whether something has the form of what is known of a file."""
    if not isinstance(entry, list) or len(entry) != 2:
        return False
    stamp, found = entry
    return isinstance(stamp, list) and len(stamp) == 3 and isinstance(found, dict)


def is_settled(stamp: Stamp, now: int) -> bool:
    """Whether a file changed long enough ago for another change to bear another time.

    Args:
        stamp: What `stamp_of` said before it was read.
        now: The time before that, in nanoseconds since the epoch.
    """
    return max(stamp[1:]) < now - SETTLED_NS


def stamp_of(file: str | Path) -> Stamp | None:
    """Return size and times of a file; None where there is none, which the reader then says."""
    try:
        status = os.stat(file)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
