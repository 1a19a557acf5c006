"""Files that are decoded again are compared with the hash that the data is recorded under."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.images.fingerprints import is_settled, stamp_of
from regrow.data.targets.labels import pixels_hash
from regrow.errors import BadInput


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Whether a file still has the pixels that it had.

    Hashing costs half as much as decoding a photo, so it is done once; after that, while its size
    and times stay the same, a file is taken for unchanged, see `regrow.data.images.fingerprints`.

    Args:
        hash: The hash of its pixels.
        stamp: Size and times of the file when its pixels last had that hash, int64 (3,), in memory
            that processes share; zeros before.
    """

    hash: bytes
    stamp: np.ndarray

    def read(self, source: Any, name: str, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Decode a file, and compare.

        Args:
            source: The file, or pixels, which are not compared, or what reads them.
            name: What to call what is no file in an error.
            decode: What decodes it.

        Raises:
            BadInput: If it has changed, or cannot be decoded.
        """
        if isinstance(source, np.ndarray):
            return decode()
        now, before = time.time_ns(), stamp_of(source) if isinstance(source, Path) else None
        pixels = decode()
        is_known = before is not None and before == self.stamp.tolist()
        if not is_known or before != stamp_of(source):
            self.check(pixels_hash(pixels), source if isinstance(source, Path) else name)
            if before is not None and is_settled(before, now):
                self.stamp[:] = before
        return pixels

    def check(self, found: bytes, name: str | Path) -> None:
        """Refuse another hash.

        Args:
            found: The hash of what was read now.
            name: The file, or what to call it in an error.

        Raises:
            BadInput: If it is another.
        """
        if found != self.hash:
            raise BadInput(
                f"{name}: not the pixels that were read before, under whose hash the data is "
                "recorded; leave files as they are while a command runs, and start again (if it "
                "did not change, what is kept of it is wrong: set REGROW_CACHE=off)"
            )
