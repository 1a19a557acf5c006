"""The two ways in which a command ends with something to say to its user."""

from regrow.text import printable


class _Said(Exception):
    """An error whose message names things of strangers, and is one line that is safe to print."""

    def __str__(self) -> str:
        return printable(" ".join(map(str, self.args)))


class BadInput(_Said):
    """Input that cannot be used: a line that names the file or key and the way out (code 2)."""


class CannotWrite(BadInput, OSError):
    """A file that cannot be written, as where the disk is full (code 2).

    Args:
        line: What to say.
        cause: What the system said.
    """

    def __init__(self, line: str, cause: OSError) -> None:
        super().__init__(line)
        self.errno, self.strerror = cause.errno, cause.strerror


class CheckFailed(_Said):
    """A gate, a budget or a parity check that was not met (code 3)."""
