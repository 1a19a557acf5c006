"""Remarks on data: what was left out, clipped or changed, counted by kind and told once."""

import re
from bisect import insort
from collections.abc import Collection, Mapping
from typing import Any

from regrow.logs import log
from regrow.text import printable

NUM_NAMES = 5  # names that a line and the report give as examples
# How the first noun, the first verb and what refers to them become singular.
NOUNS = {
    "files and folders": "file or folder",
    "classes": "class",
    "boxes": "box",
    **{f"{noun}s": noun for noun in ("annotation", "crowd", "file", "folder", "image", "link")},
    **{f"{noun}s": noun for noun in ("mask", "name", "object", "row")},
    **{f"{noun}s": noun for noun in ("answer", "capture", "event", "label", "line")},
}
VERBS = {"are": "is", "have": "has", "do": "does"}
VERBS |= {verb: f"{verb}s" for verb in ("differ", "lead", "lie")}
OTHERS = {"with their images": "with its image", "their": "its", "they show": "it shows"}


class Remarks:
    """Counts of what happened to the data while it was read, with the first names of each kind.

    A kind is a clause that stands after a count and before names, such as `boxes clipped at the
    edge of their image`.

    Args:
        by_name: Whether kinds and names are those that come first in the alphabet, so that they do
            not depend on the order in which they were added.
    """

    def __init__(self, *, by_name: bool = False) -> None:
        self._by_name = by_name
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._counts)

    def add(self, kind: str, name: str, count: int = 1) -> None:
        """Count what happened to an image, a label or a file.

        Args:
            kind: What happened, as a clause in the plural.
            name: What it happened to.
            count: How often.
        """
        if count < 1:
            return
        self._counts[kind] = self._counts.get(kind, 0) + count
        self._note(kind, name)

    def _note(self, kind: str, name: str) -> None:
        names = self._names.setdefault(kind, [])
        if name in names:
            return
        if self._by_name:
            insort(names, name)
        else:
            names.append(name)
        del names[NUM_NAMES:]

    def take(self, other: "Remarks", without: Collection[str] = ()) -> None:
        """Add the counts of another part of the data.

        Args:
            other: The counts of that part.
            without: Kinds that are not added.
        """
        for kind, count in other._counts.items():
            if kind in without:
                continue
            self._counts[kind] = self._counts.get(kind, 0) + count
            for name in other._names[kind]:
                self._note(kind, name)

    def count(self, kind: str) -> int:
        """Return how often something happened."""
        return self._counts.get(kind, 0)

    @property
    def lines(self) -> list[str]:
        """Return one line a kind: the count, what happened, and the first names.

        Names are of strangers, and do nothing to a terminal.
        """
        return [
            f"{count:,} {kind if count > 1 else _singular(kind)}: "
            f"{', '.join(printable(name) for name in self._names[kind])}"
            f"{', ...' if count > len(self._names[kind]) else ''}"
            for kind, count in self._sorted()
        ]

    def _sorted(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items()) if self._by_name else [*self._counts.items()]

    def warn(self, where: str) -> None:
        """Log each line as a warning.

        Args:
            where: What the data is called.
        """
        for line in self.lines:
            log.warning(f"{where}: {line}")

    def to_dict(self) -> Mapping[str, Any]:
        """Return the counts and first names by kind, as plain data for a report."""
        return {k: {"count": n, "first": list(self._names[k])} for k, n in self._sorted()}


def _singular(kind: str) -> str:
    """Return a clause in the plural as it is said of one."""
    for words in (NOUNS, VERBS, OTHERS):
        found = re.search(rf"\b({'|'.join(words)})\b", kind)
        if found is not None:
            kind = kind[: found.start()] + words[found[0]] + kind[found.end() :]
    return kind
