"""The errors that a command ends with, each in one line that is safe to print."""

import errno

from regrow.text import printable

# What the system says where a disk is full, or may not be written.
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
# What it says of a path that nobody may use, and of one that is none.
UNUSABLE = (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG)


class _Said(Exception):
    """An error whose message may hold names of strangers, and is printed on one safe line."""

    def __str__(self) -> str:
        return printable(" ".join(map(str, self.args)))


class BadInput(_Said):
    """Input that cannot be used: a line that names the file or key and the way out (code 2)."""


class CannotWrite(BadInput, OSError):
    """A file that cannot be written, as where the disk is full (code 2).

    Args:
        cause: What the system said.
        name: The file, where the cause does not name it.
    """

    def __init__(self, cause: OSError, name: str) -> None:
        file = cause.filename2 or cause.filename or name
        super().__init__(
            f"{file}: cannot be written ({cause.strerror or cause}); what was written before is "
            "whole: make room or mend the folder, then start again; training and pruning go on "
            "with --resume"
        )
        self.errno, self.strerror = cause.errno, cause.strerror


class CheckFailed(_Said):
    """A check that was not met: a gate, an accuracy budget, or the parity of an export (code 3)."""
