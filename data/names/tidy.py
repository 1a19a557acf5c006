"""One form for the names in a data set, and limits on what it may hold."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from math import isfinite
from typing import Any

from regrow.data.checks.faults import Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.targets.labels import Boxes, Declared, Item, Mask, Target, renamed
from regrow.errors import BadInput

MAX_ITEMS = 20_000_000  # one takes about 1 kB of memory
MAX_CLASSES = 300_000  # Google Landmarks v2 has 203,094; each gets a row of the head
MAX_BOXES = 50_000  # of an image; NWPU-Crowd has 20,033
MAX_NAME = 500  # letters of the name of a class
MAX_LABEL = 2**31 - 1  # class numbers are 32 bits wide in MXNet and SageMaker
MAX_NUMBER = 2**16 - 1  # in a mask: PNG has at most 16 bits; a table of so many is made

CHANGED = "class names taken without blanks around them and in one Unicode form (NFC)"
ONE = "class names that differ by blanks or Unicode form alone, taken for one"
ESCAPED = "file names that are not UTF-8, called by their bytes"
NEGATIVES = "images listed without a box: they count as background"
UNSAID = "sizes of 0 in annotations, taken for unknown"


def clean_name(name: str) -> str:
    """Return the name of a class in normal form C, without blanks around it."""
    return unicodedata.normalize("NFC", name).strip()


def class_name(value: Any) -> str:
    """Return the name of a class as a file has it: a text or a number.

    Raises:
        ValueError: If it is something else.
    """
    if not isinstance(value, str | int | float):
        raise ValueError(f"the class name {shown(value)} is no text")
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"the class name {value} stands for a missing one")
    return str(value)


def class_number(value: Any, most: int = MAX_LABEL, what: str = "class number") -> int:
    """Return a class number.

    Args:
        value: What a file has for it: a whole number, or its digits.
        most: The largest that there may be.
        what: What to call it in an error.

    Raises:
        ValueError: If it is something else.
    """
    number = int(value) if isinstance(value, str) and len(value) <= len(str(most)) else value
    whole = isinstance(number, int | float) and 0 <= number <= most and number == int(number)
    if isinstance(number, bool) or not whole:
        raise ValueError(f"the {what} {shown(value)} is not a whole number in [0, {most}]")
    return int(number)


def mask_number(value: Any, where: str) -> int:
    """Return the number of a class in masks.

    Raises:
        BadInput: If there can be no such number, or none that a table has room for.
    """
    try:
        return class_number(value, MAX_NUMBER)
    except ValueError as error:
        raise BadInput(
            f"{where}: {error}, the range of masks; number the class otherwise"
        ) from error


def declared_size(values: Mapping[str, Any]) -> Declared | None:
    """Return the size that an annotation says its image has.

    Args:
        values: Perhaps `width` and `height`, in pixels, and `depth`, the number of channels.

    Returns:
        The size, 0 for what it does not say; None where it says neither height nor width.

    Raises:
        ValueError: If one of them is no number of pixels.
    """
    said = [values.get(side) for side in ("height", "width")]
    if said == [None, None]:
        return None
    height, width = (0 if side is None else _digits(side) for side in said)
    depth = str(values.get("depth", "")).strip()  # tools write words where they do not know
    channels = int(depth) if depth.isascii() and depth.isdigit() and len(depth) < 3 else 0
    return Declared(
        class_number(height, what="height"), class_number(width, what="width"), channels
    )


def _digits(side: Any) -> Any:
    return float(side) if isinstance(side, str) and len(side) < 20 else side


def tidy(
    classes: Sequence[str], items: Sequence[Item], remarks: Remarks, faults: Faults
) -> tuple[list[str], list[Item]]:
    """Bring names into one form, and note what no data set may hold.

    Args:
        classes: Class names as the files have them.
        items: The images.
        remarks: Where it is counted what was changed.
        faults: Where items are noted that cannot be used.

    Returns:
        The classes and the items that can be used.

    Raises:
        BadInput: If there are too many images or classes, or a class that no row names is called
            nothing, or what cannot be printed.
    """
    if len(items) > MAX_ITEMS or len(classes) > MAX_CLASSES:
        raise BadInput(
            f"{len(items):,} images of {len(classes):,} classes; regrow takes at most "
            f"{MAX_ITEMS:,} and {MAX_CLASSES:,}"
        )
    names = _Names(remarks)
    # A label that can be no class is a fault of its row; that of masks, of the list of classes.
    used = {n for item in items if not isinstance(item.target, Mask) for n in _names(item.target)}
    clean = []
    for name in classes:
        with suppress(BadInput) if name in used else nullcontext():
            clean.append(names.clean(name))
    if len(set(clean)) < len(set(classes)) == len(classes):
        kept, clean = clean, list(dict.fromkeys(clean))
        for name in clean:
            remarks.add(ONE, name, kept.count(name) - 1)
    tidied = []
    for item in items:
        name = item.name.encode("utf-8", "backslashreplace").decode()
        if name != item.name:
            remarks.add(ESCAPED, name)
            item = replace(item, name=name)
        with faults.row(name):
            tidied.append(_tidied(item, names, remarks))
    return clean, _listed_once(tidied, faults)


def _listed_once(items: Sequence[Item], faults: Faults) -> list[Item]:
    """Return the items that no other one is called like."""
    counts = Counter(item.name for item in items)
    for name, count in counts.items():
        for _ in range(count if count > 1 else 0):
            faults.add(f"{name} is listed twice; list each image once", name)
    return [item for item in items if counts[item.name] == 1]


class _Names:
    """Class names to their clean form, each looked at once."""

    def __init__(self, remarks: Remarks) -> None:
        self._remarks = remarks
        self._known: dict[str, str] = {}

    def clean(self, name: str) -> str:
        if name not in self._known:
            clean = clean_name(name)
            if not clean or len(clean) > MAX_NAME:
                raise BadInput(
                    f"the class name {shown(name)!r} has {len(clean)} letters; "
                    f"give it 1 to {MAX_NAME}"
                )
            if not clean.isprintable():
                raise BadInput(f"the class name {shown(name)} is not printable; write it anew")
            self._known[name] = clean
            self._remarks.add(CHANGED, ascii(name), int(clean != name))
        return self._known[name]

    def changed(self, names: Iterable[str]) -> dict[str, str]:
        return {name: clean for name in names if (clean := self.clean(name)) != name}


def _tidied(item: Item, names: _Names, remarks: Remarks) -> Item:
    try:
        changed = names.changed(set(_names(item.target)))
    except BadInput as error:
        raise BadInput(f"{item.name}: {error}") from error
    if changed:
        item = replace(item, target=renamed(item.target, changed))
    if isinstance(item.target, Boxes):
        count = len(item.target.classes)
        if count > MAX_BOXES:
            raise BadInput(f"{item.name}: has {count:,} boxes, more than {MAX_BOXES:,}; split it")
        remarks.add(NEGATIVES, item.name, int(count == 0))
    if item.declared is not None:
        remarks.add(UNSAID, item.name, int(0 in item.declared[:2]))
    if item.group is not None and not item.group.isprintable():
        raise BadInput(f"{item.name}: its group {ascii(item.group)} is not printable; rename it")
    return item


def _names(target: Target) -> Iterable[str]:
    if isinstance(target, str):
        return (target,)
    return target.names.values() if isinstance(target, Mask) else target.classes
