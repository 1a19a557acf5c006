"""Standard output of a command: control characters shown, and a reader who leaves is no error.

Names of strangers' files and classes reach the terminal in many lines. So the streams themselves
show control characters as escapes, and a reader who went away does not end the work.
"""

import errno
import io
import os
import re
import sys

from regrow.text import escaped

# Controls, marks that turn the direction of writing, and what has no UTF-8; not tab and newline.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)
# What rich sends to a terminal: colours, the cursor up, hidden and shown, a line erased.
OF_A_BAR = re.compile(r"\x1b\[(?:[\d;]*m|\d*A|2K|\?25[lh])|\r")
STREAMS = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))


class Output(io.TextIOWrapper):
    """Text for people: what does something to a terminal is shown as an escape.

    Attributes:
        lost: Why a part of it could not be written; the rest went nowhere. None if nothing is lost.
    """

    def __init__(self, handle: int, encoding: str) -> None:
        buffer = io.BufferedWriter(io.FileIO(handle, "w", closefd=False))
        super().__init__(buffer, encoding, "backslashreplace", line_buffering=True)
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text; on a terminal, what draws a progress bar passes."""
        count = len(text)
        if CONTROLS.search(text):
            text = self._drawn(text) if self.isatty() else shown(text)
        try:
            super().write(text)
        except OSError as error:
            self._lose(error)
        return count

    def flush(self) -> None:
        """Write what waits, or drop it."""
        try:
            super().flush()
        except OSError as error:
            self._lose(error)

    def _lose(self, error: OSError) -> None:
        """Send all that follows nowhere, as the documentation of Python's `signal` proposes."""
        self.lost = self.lost or error
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)

    def _drawn(self, text: str) -> str:
        parts = OF_A_BAR.split(text)
        marks = [*OF_A_BAR.findall(text), ""]
        return "".join(shown(part) + mark for part, mark in zip(parts, marks, strict=True))


def shown(text: str) -> str:
    """Return a text of any number of lines with its control characters as escapes."""
    return CONTROLS.sub(lambda found: escaped(found[0]), text.replace("\r\n", "\n"))


def take_streams() -> None:
    """Make this process print through `Output`, unless something else reads what it prints.

    A standard stream that is closed is opened on nothing, lest a file of the run get its number.
    """
    for name, mode in STREAMS:
        stream, own = getattr(sys, name), getattr(sys, f"__{name}__")
        if stream is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for the whole process
        elif mode == "w" and stream is own and not isinstance(stream, Output):
            try:
                stream.flush()
                setattr(sys, name, Output(stream.fileno(), stream.encoding))
            except (OSError, AttributeError, ValueError):  # a stream of someone's own
                continue


def lost_output() -> str | None:
    """Return why what was printed could not be written; None if it was, or the reader left."""
    stream = sys.stdout
    if not isinstance(stream, Output):
        return None
    stream.flush()
    error = stream.lost
    return None if error is None or error.errno == errno.EPIPE else error.strerror
