"""Lock of a run folder: one run at a time, until its process ends.

It is a POSIX record lock (`fcntl.lockf`) on a file in the folder. The kernel releases it when the
process ends in any way; forked workers do not hold it; it moves with the folder when that is
renamed; and NFS supports it where its lock service runs. The text of the file names the holder for
error messages only.
"""

import errno
import fcntl
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from regrow.errors import BadInput
from regrow.logs import log
from regrow.text import printable

LOCK = ".lock"
LONGEST = 500  # characters of the holder's name
IN_USE = (errno.EACCES, errno.EAGAIN)
P = ParamSpec("P")
R = TypeVar("R")


@dataclass(slots=True)
class _Held:
    handle: int
    path: Path
    owner: int


# The locks of this process, by device and inode of the file. A second handle of such a file must
# not be opened: closing it would release the lock.
_held: dict[tuple[int, int], _Held] = {}
_told: set[Path] = set()


def hold(folder: Path, about: str = "") -> None:
    """Lock a folder and the runs inside it for this process, until they are released.

    A folder that this process has locked already stays locked. Where the file system has no locks,
    a warning is logged once, and the run goes on.

    Args:
        folder: The folder.
        about: Name of the holder, by default the command of this process.

    Raises:
        BadInput: If another process has locked it, or a run inside it.
        FileNotFoundError: If the folder does not exist, or was moved meanwhile.
    """
    _hold(folder, about)
    for file in sorted(folder.rglob(LOCK)):
        with suppress(FileNotFoundError):  # that run has just ended
            if file.parent != folder:
                _hold(file.parent, about)


def release(folder: Path) -> None:
    """Release the locks of a folder and the runs inside it that this process holds."""
    for file in folder.rglob(LOCK):
        with suppress(FileNotFoundError):
            key = _key(file.lstat())
            if key in _held:
                _held[key].path = file  # the folder may have another name by now
                _release(key)


def releases_folders(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator that releases the folders locked in a function when it ends."""

    @wraps(function)
    def wrapped(*args: P.args, **options: P.kwargs) -> R:
        with _released():
            return function(*args, **options)

    return wrapped


@contextmanager
def _released() -> Iterator[None]:
    before = set(_held)
    try:
        yield
    finally:
        for key in set(_held) - before:
            _release(key)


def _hold(folder: Path, about: str) -> None:
    file = folder / LOCK
    while True:
        if file.exists() and _key(file.stat()) in _held:
            return
        try:
            handle = os.open(
                file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644
            )
        except FileNotFoundError:
            raise
        except OSError as error:
            return _tell(folder, error)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = printable(os.pread(handle, LONGEST, 0).decode("utf-8", "replace"))
            os.close(handle)
            if error.errno not in IN_USE:
                return _tell(folder, error)
            raise BadInput(
                f"{folder} is in use by {holder or 'another process'}; wait until that ends or "
                "stop it, or give another folder with --run"
            ) from error
        # The file may have been removed, or moved with its folder, between both calls.
        if file.exists() and _key(file.stat()) == _key(os.fstat(handle)):
            break
        os.close(handle)
    said = f"process {os.getpid()} on {socket.gethostname()}: {about or shlex.join(sys.argv)}"
    with suppress(OSError):  # a full disk, which the run itself will name
        os.ftruncate(handle, 0)
        os.pwrite(handle, printable(said, LONGEST).encode(), 0)
    _held[_key(os.fstat(handle))] = _Held(handle, file, os.getpid())


def _release(key: tuple[int, int]) -> None:
    held = _held.pop(key)
    if held.owner != os.getpid():  # a forked worker, which never held it
        return
    with suppress(OSError):
        if _key(held.path.stat()) == key:
            held.path.unlink()
    os.close(held.handle)


def _tell(folder: Path, error: OSError) -> None:
    if folder not in _told:
        _told.add(folder)
        log.warning(
            printable(
                f"{folder} cannot be locked ({error.strerror}); a second run in it would not be "
                "noticed"
            )
        )


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
