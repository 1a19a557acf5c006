"""Files of captures by the hour, to which lines are appended whole.

Each writer has a file of its own in each hour, so that several processes may share a folder; the
file is locked while it is open. A process that is killed may leave a torn last line, which the
next one cuts off.
"""

import errno
import fcntl
import os
import uuid
from pathlib import Path

from regrow.deploy.capture.space import SUFFIX, capture_files
from regrow.files import sync_folder

PREFIX = "regrow-"
# At the turn of an hour both are written to, and a clock that is set back makes a third.
MAX_OPEN = 4
BLOCK = 2**16
# What file systems without locks say.
NO_LOCKS = (errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK)


class HourFiles:
    """The files of one writer: one an hour, below `yyyy/mm/dd/hh`.

    Args:
        folder: The folder of the hours.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = folder, f"{PREFIX}{uuid.uuid4().hex}{SUFFIX}"
        self._open: dict[str, int] = {}

    def append(self, hour: str, lines: bytes) -> None:
        """Append lines to the file of an hour, all or none of them.

        Args:
            hour: The hour, such as `2026/11/30/07`.
            lines: Whole lines.

        Raises:
            OSError: If they cannot be written, as where the disk is full.
        """
        handle = self._handle(hour)
        size = os.fstat(handle).st_size
        try:
            left = memoryview(lines)
            while left:
                left = left[os.write(handle, left) :]
        except OSError:
            try:
                os.ftruncate(handle, size)
            finally:  # should that fail too, the torn line is cut off when it is opened again
                self._close(hour)
            raise

    def sync(self) -> None:
        """Have all that was written on the disk; close files that somebody has removed.

        Raises:
            OSError: If the disk fails.
        """
        for hour, handle in list(self._open.items()):
            os.fsync(handle)
            if os.fstat(handle).st_nlink == 0:
                self._close(hour)

    def close(self) -> None:
        """Have all that was written on the disk, and close the files."""
        try:
            self.sync()
        finally:
            for hour in list(self._open):
                self._close(hour)

    def _handle(self, hour: str) -> int:
        handle = self._open.pop(hour, None)
        if handle is None:
            while len(self._open) >= MAX_OPEN:
                oldest = next(iter(self._open))
                os.fsync(self._open[oldest])
                self._close(oldest)
            handle = self._opened(hour)
        self._open[hour] = handle  # the one used last stands last
        return handle

    def _opened(self, hour: str) -> int:
        path = self._folder / hour / self._name
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        try:
            _lock(handle, wait=True)  # a process that begins may hold it for an instant
            _cut_torn_line(handle)
            folder = path.parent
            while folder.is_relative_to(self._folder):  # each may be new
                sync_folder(folder)
                folder = folder.parent
        except BaseException:
            os.close(handle)
            raise
        return handle

    def _close(self, hour: str) -> None:
        os.close(self._open.pop(hour))


def _lock(handle: int, *, wait: bool) -> bool:
    """Lock an open file; False if another process holds it, and one does not wait for it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def cut_torn_lines(folder: Path) -> int:
    """Cut the torn last line off each file that a killed writer has left; return how many were.

    Files of a writer that is alive, and files that other programs wrote, are left as they are.

    Args:
        folder: The folder of the hours.
    """
    num_cut = 0
    for file in capture_files(folder):
        if not file.name.startswith(PREFIX):
            continue
        try:
            handle = os.open(file, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:  # removed in between, a link, or of another user: readers skip such a line
            continue
        try:
            num_cut += _lock(handle, wait=False) and _cut_torn_line(handle)
        finally:
            os.close(handle)
    return num_cut


def _cut_torn_line(handle: int) -> bool:
    """Cut off what follows the last line end of a file; whether there was any."""
    size = end = os.fstat(handle).st_size
    if size == 0 or os.pread(handle, 1, size - 1) == b"\n":
        return False
    while end > 0:
        start = max(0, end - BLOCK)
        found = os.pread(handle, end - start, start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    os.ftruncate(handle, end)
    os.fsync(handle)
    return True
