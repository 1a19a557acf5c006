"""Lists of images with a label each: CSV, and JSON lines such as SageMaker's manifests."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.data.checks.faults import Faults, shown
from regrow.data.formats.augmented_manifest import augmented_row, declared_of, mask_of
from regrow.data.formats.box_table import by_image, is_box_table
from regrow.data.names.listing import list_folders
from regrow.data.targets.labels import Declared
from regrow.errors import BadInput
from regrow.files import SPLIT_NAMES, read_text
from regrow.plain import parse_json


def find_lists(root: Path) -> list[tuple[Path, str | None]]:
    """Find the one list of images in a folder, or the one in each folder of a split.

    Returns:
        Each list, with the split of its folder.

    Raises:
        BadInput: If there is none, or several in one folder.
    """
    found = _lists_in(root)
    if found:
        return [(_only(found, root), None)]
    splits = [f for f in list_folders(root) if f.name.lower() in SPLIT_NAMES]
    below = {folder: _lists_in(folder) for folder in splits}
    if not any(below.values()):
        raise BadInput(f"{root}: no list of images in it; name one, data.source.file")
    return [
        (_only(lists, folder), SPLIT_NAMES[folder.name.lower()])
        for folder, lists in below.items()
        if lists
    ]


def _lists_in(folder: Path) -> list[Path]:
    return sorted(f for f in folder.iterdir() if f.suffix in (".csv", ".jsonl", ".manifest"))


def _only(lists: list[Path], folder: Path) -> Path:
    if len(lists) > 1:
        raise BadInput(f"{folder}: {len(lists)} lists of images in it; name one, data.source.file")
    return lists[0]


def csv_rows(path: Path, faults: Faults) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the rows of a CSV file by column, each with the name that errors call it by.

    Blanks around the names of columns and of images count for nothing.

    Args:
        path: The file; a table of boxes gives a row an image.
        faults: Where boxes of such a table are noted that cannot be used.
    """
    try:
        table = csv.DictReader(io.StringIO(read_text(path)))
        columns = [name.strip() for name in table.fieldnames or ()]
        read = [
            (f"{path} line {line}", {k.strip(): v for k, v in row.items() if isinstance(k, str)})
            for line, row in enumerate(table, 2)
        ]
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV ({error})") from error
    twice = sorted(name for name, count in Counter(columns).items() if count > 1 and name)
    if twice:
        raise BadInput(f"{path}: has the column {shown(twice[0])} twice; name each once")
    if read and is_box_table(read[0][1]):
        yield from by_image(read, faults)
        return
    for where, row in read:
        image = row.get("image")
        yield where, {**row, "image": image.strip() if image else None}


def json_rows(
    path: Path, attribute: str | None, faults: Faults
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the objects of a JSON-lines file, each with the name that errors call it by.

    Args:
        path: The file; the rows of an augmented manifest get `image` and `label` too.
        attribute: The label attribute of an augmented manifest; None takes `class`, or the only
            one.
        faults: Where lines are noted that cannot be used.
    """
    for number, line in enumerate(read_text(path).split("\n"), 1):
        where = f"{path} line {number}"
        row = None
        with faults.row(where):
            row = _json_row(line, attribute, where) if line.strip() else None
        if row is not None:
            yield where, row


def _json_row(line: str, attribute: str | None, where: str) -> dict[str, Any]:
    row = parse_json(line, where)
    if not isinstance(row, dict):
        raise BadInput(f"{where}: not a JSON object")
    return augmented_row(row, attribute, where)


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a list: the names of an image and of its mask, before the files are found.

    Args:
        values: The row, as `augmented_row` gives it.
        image: The name of the image.
        mask: The name of the mask, if its label is one.
        split: The official split, if it has one.
        group: What must stay on one side of a split together.
        size: The height and width that it says the image has.
    """

    values: Mapping[str, Any]
    image: Any
    mask: Any
    split: str | None
    group: str | None
    size: Declared | None


def read_row(values: Mapping[str, Any], official: str | None, where: str) -> Row:
    """Read a row.

    Args:
        values: The row.
        official: The split of the list, if it has one.
        where: What to call the row in an error.

    Raises:
        BadInput: If it lacks something.
    """
    name, label = values.get("image"), values.get("label")
    if not name or label in (None, ""):
        raise BadInput(f"{where}: needs an image and a label, has {shown(dict(values))}")
    split = str(values.get("split") or official or "").strip().lower()
    if split and split not in SPLIT_NAMES:
        raise BadInput(f"{where}: the split {shown(split)!r} is not train, val or test")
    group = values.get("group")
    group = None if group in (None, "") else str(group)
    size = declared_of(values, where)
    return Row(values, name, mask_of(values), SPLIT_NAMES.get(split), group, size)
