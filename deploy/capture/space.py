"""Disk limits of captures: how full the disk may become, and how large all captures."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from regrow.errors import BadInput

SUFFIX = ".jsonl"


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class DiskLimit:
    """How much of a disk captures may take.

    Args:
        max_share: Disk usage at which capture stops, as a share of the disk in [0, 1], whoever
            uses it.
        max_bytes: Largest total size of all captures in the folder; None sets no limit.
    """

    max_share: float = 0.75
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        """Refuse limits that mean nothing."""
        if not 0 <= self.max_share <= 1:
            raise BadInput(f"the share of the disk is {self.max_share}; it must be 0 to 1")
        if self.max_bytes is not None and self.max_bytes < 0:
            raise BadInput(f"the largest total of captures is {self.max_bytes:,} bytes, below 0")


class Space:
    """The room that is left for captures in a folder.

    What other processes write there counts from the next `measure` on.

    Args:
        folder: The folder of all captures.
        limit: The limit.
    """

    def __init__(self, folder: Path, limit: DiskLimit) -> None:
        self._folder, self._limit = folder, limit
        self._num_bytes, self._share = 0, 0.0
        self.measure()

    def measure(self) -> None:
        """Measure the captures in the folder, and look at the disk."""
        if self._limit.max_bytes is not None:
            self._num_bytes = sum(_size(file) for file in capture_files(self._folder))
        self.look()

    def look(self) -> None:
        """Look how full the disk is; the folder is made again where somebody has removed it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        usage = shutil.disk_usage(self._folder)
        # As `df` has it: what is kept for root is neither used nor free.
        self._share = usage.used / max(1, usage.used + usage.free)

    def add(self, num_bytes: int) -> None:
        """Count what was written."""
        self._num_bytes += num_bytes

    def refusal(self, num_bytes: int) -> str:
        """Return why so many bytes may not be written; nothing if they may."""
        if self._limit.max_share < 1 and self._share >= self._limit.max_share:
            return f"{self._share:.1%} of the disk is used, max_share is {self._limit.max_share:g}"
        most = self._limit.max_bytes
        if most is not None and self._num_bytes + num_bytes > most:
            return f"the captures take {self._num_bytes:,} bytes, max_bytes is {most:,}"
        return ""


def capture_files(folder: Path) -> Iterator[Path]:
    """Yield the files of captures in a folder, however deep; links lead nowhere."""
    for root, _, names in os.walk(folder):
        yield from (Path(root, name) for name in names if name.endswith(SUFFIX))


def _size(file: Path) -> int:
    try:
        return file.lstat().st_size
    except OSError:  # removed in between
        return 0
