"""What was found out about the files of a data set, kept from run to run: each is read once.

A file is taken for unchanged while its size, its time of modification and the time of its inode's
last change all stay the same, down to the nanosecond. The last of the three also moves where the
second is set back by hand, so that only a clock that was turned back, or a file system without it,
can hide a change. A file that changed within two seconds before it was looked at is not remembered:
a second change might bear the same time.

Source: the index of git, Documentation/technical/racy-git.txt, which compares the same three.

There is one file for a root, in `REGROW_CACHE` (`off` keeps nothing), else in the folder `regrow`
of the user's caches (XDG Base Directory Specification). What is torn, foreign, or was found with
another format or another Pillow, which might decode otherwise, is made anew.
"""

import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import PIL

from regrow.data.errors import BadInput
from regrow.data.files import write_atomic
from regrow.data.formats import locate
from regrow.data.snapshot import Mask, label_digest, pixels_hash
from regrow.data.transforms import Decoding, decode, decode_mask, small_mask

FORMAT = 2  # to be raised with any change of what is decoded or how it is hashed
SETTLED_NS = 2 * 10**9  # FAT counts in steps of two seconds, most others in milliseconds
IMAGE = "image"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What is known of an image or a mask.

    Args:
        size: Height and width, in pixels.
        digest: Of an image the hash of its pixels, of a mask the digest of the label.
        numbers: Of a mask the numbers in it, ascending.
        counts: Of a mask how many pixels have each of the numbers once it is resized.
        pixels: What was decoded to find it out; None where it was known.
    """

    size: tuple[int, int]
    digest: bytes
    numbers: tuple[int, ...] = ()
    counts: tuple[int, ...] = ()
    pixels: np.ndarray | None = field(default=None, compare=False)


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
        decoding: Decoding = Decoding(),  # noqa: B008 - frozen
    ) -> None:
        self._size, self._decoding = size, decoding
        self._file = _file_of(root) if root is not None else None
        # By file: its stamp, and by what it was read as: height, width, digest, numbers, counts.
        self._known: dict[str, list[Any]] = _read(self._file) if self._file is not None else {}
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
        body = json.dumps(known, separators=(",", ":")).encode()
        try:
            write_atomic(self._file, lambda file: file.write(_head(body) + b"\n" + body))
        except OSError as reason:
            print(
                f"{self._file}: cannot be written ({reason.strerror}), so that the next run reads "
                "all images again; set REGROW_CACHE to another folder, or to off",
                file=sys.stderr,
            )

    def image(self, image: Path | np.ndarray | Callable[[], np.ndarray]) -> Fingerprint:
        """Give the fingerprint of an image.

        Args:
            image: The file, or its pixels, uint8 (h, w, 3), or what reads them.

        Raises:
            BadInput: If it cannot be used; `CorruptImage` if it is truncated or no image.
        """

        def look() -> Fingerprint:
            pixels = decode(image, self._decoding)
            return Fingerprint(pixels.shape[:2], pixels_hash(pixels), pixels=pixels)

        return self._fingerprint(image, IMAGE, look)

    def mask(self, mask: Mask) -> Fingerprint:
        """Give the fingerprint of a mask, whose digest goes by the names of its classes.

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
                pixels,
            )

        names = json.dumps(sorted(mask.names.items())).encode()
        named = hashlib.blake2b(names, digest_size=8).hexdigest()
        size = "" if self._size is None else f" {self._size[0]}x{self._size[1]}"
        return self._fingerprint(mask.pixels, f"mask {named}{size}", look)

    def _fingerprint(
        self, source: Any, read_as: str, look: Callable[[], Fingerprint]
    ) -> Fingerprint:
        if self._file is None or not isinstance(source, Path):
            return look()
        name, now = os.path.abspath(source), time.time_ns()
        stamp = _stamp(name)  # before it is read, so that a change meanwhile is a change
        known = self._known.get(name)
        if stamp is not None and known is not None and known[0] == stamp and read_as in known[1]:
            self._seen.add(name)
            height, width, digest, numbers, counts = known[1][read_as]
            return Fingerprint(
                (height, width), bytes.fromhex(digest), tuple(numbers), tuple(counts)
            )
        found = look()
        if stamp is not None and max(stamp[1:]) < now - SETTLED_NS:
            if known is None or known[0] != stamp:
                known = self._known[name] = [stamp, {}]
            known[1][read_as] = [
                *found.size,
                found.digest.hex(),
                list(found.numbers),
                list(found.counts),
            ]
            self._seen.add(name)
            self._is_changed = True
        return found


def _stamp(name: str) -> list[int] | None:
    """Give size and times of a file; None where there is none, which the reader then says."""
    try:
        status = os.stat(name)
    except (OSError, ValueError):
        return None
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _file_of(root: Path) -> Path | None:
    """Name the file for a root; None where nothing is kept."""
    folder = os.environ.get("REGROW_CACHE", "")
    if folder == "off":
        return None
    if not folder:
        caches = os.environ.get("XDG_CACHE_HOME", "")
        if not os.path.isabs(caches):  # the specification has it that such a one is ignored
            caches = os.path.expanduser("~/.cache")
        folder = os.path.join(caches, "regrow")
    with suppress(BadInput):  # a source may read its root in its own way
        root = locate(root)
    place = os.path.realpath(root)
    name = re.sub(r"[^\w.-]+", "_", os.path.basename(place))[:40]
    return Path(folder, f"{name}-{hashlib.blake2b(place.encode(), digest_size=8).hexdigest()}.json")


def _head(body: bytes) -> bytes:
    """Give the first line, which tells a file that is whole, ours and of today's code."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    head = {"regrow": "fingerprints", "format": FORMAT, "pillow": PIL.__version__}
    return json.dumps({**head, "digest": digest}).encode()


def _read(file: Path) -> dict[str, list[Any]]:
    try:
        head, _, body = file.read_bytes().partition(b"\n")
    except OSError:
        return {}
    return json.loads(body) if head == _head(body) else {}
