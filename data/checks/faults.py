"""Faults of a data set: bad rows and boxes, noted one by one and refused all at once."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.files import one_line

NUM_SHOWN = 20  # faults that a refusal lists; the rest is counted
NUM_LETTERS = 1600  # of those listed together; a message is cut at `regrow.text.LONGEST`
LONGEST = 200  # letters of a stranger's value in a message
WAY_OUT = "--data.skip_bad=true leaves out what is bad"
ROWS = "bad rows left out, with their images"
BOXES = "bad boxes left out (what they show counts as background)"


class Faults:
    """Faults of a data set, row by row and box by box.

    Whoever reads a data set notes what is bad, leaves it out and goes on; in the end all of it is
    refused in one message, or counted among the remarks.

    Args:
        root: The folder of the data, which a list of faults names once.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = root
        self._lines: list[str] = []
        self._count = 0
        self._skipped = Remarks()

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, line: str, where: str, kind: str = ROWS) -> None:
        """Note a fault.

        Args:
            line: What it is and where, with the way out.
            where: The row or image alone.
            kind: What becomes of it where bad ones are left out, as for `Remarks`.
        """
        self._count += 1
        if len(self._lines) < NUM_SHOWN:
            self._lines.append(line)
        self._skipped.add(kind, where)

    @contextmanager
    def row(self, where: str, kind: str = ROWS) -> Iterator[None]:
        """Note whatever goes wrong with a row; it is left out.

        A stranger's values may be of any type and size, and fail anywhere on their way.

        Args:
            where: What to call the row.
            kind: What becomes of it where bad ones are left out.
        """
        try:
            yield
        except BadInput as error:
            self.add(str(error), where, kind)
        except Exception as error:
            self.add(f"{where}: {described(error)}; correct it", where, kind)

    def settle(self, skip_bad: bool, remarks: Remarks) -> None:
        """Refuse what was noted so far, or count it among the remarks.

        Args:
            skip_bad: Whether bad rows and boxes are left out.
            remarks: Where they are counted then.

        Raises:
            BadInput: Listing the first of them, where they are not left out.
        """
        if not skip_bad:
            self.refuse()
        remarks.take(self._skipped)
        self._lines, self._count, self._skipped = [], 0, Remarks()

    def refuse(self) -> None:
        """Refuse what was noted.

        Raises:
            BadInput: Listing the first of it, if there is any.
        """
        if self._count == 1:
            raise BadInput(f"{self._lines[0]}; {WAY_OUT}")
        if self._count:
            raise BadInput(self._listed())

    def _listed(self) -> str:
        """Return the first faults, what to do about them after all of them."""
        start = f"{self.root}/" if self.root is not None else ""
        facts: list[str] = []
        ways: dict[str, None] = {}
        for line in self._lines:
            fact, _, way = line.replace(start, "").partition("; ")
            if facts and sum(map(len, [*facts, fact, *ways, way])) > NUM_LETTERS:
                break
            facts.append(fact)
            ways[way] = None
        rest = self._count - len(facts)
        more = [f"and {rest:,} more"] if rest else []
        place = f"{self.root}: " if start else ""
        said = "; ".join([*facts, *more, *filter(None, ways), WAY_OUT])
        return f"{place}{self._count:,} bad rows or boxes: {said}"


def described(error: Exception) -> str:
    """Return an error of a library as a clause: its type, and what it says on one line."""
    said = one_line(error)[:LONGEST]
    return f"not to be read ({type(error).__name__}{': ' if said else ''}{said})"


def shown(value: Any) -> str:
    """Return a stranger's value as a message can hold it: short, printable, on one line."""
    text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Let whatever goes wrong with a stranger's file end in one line that names it.

    Args:
        where: The file.

    Raises:
        BadInput: In place of any other error.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{where}: {described(error)}; correct it") from error
