"""Lists of images with a label each: CSV, and JSON lines such as SageMaker's manifests."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.data.augmented import augmented_row
from regrow.data.errors import BadInput
from regrow.data.files import SPLIT_NAMES, list_folders, read_text
from regrow.data.plain import parse_json


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


def csv_rows(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """Give the rows of a CSV file by column, each with its line's number."""
    try:
        return list(enumerate(csv.DictReader(io.StringIO(read_text(path))), 2))
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV ({error})") from error


def json_rows(path: Path, attribute: str | None) -> list[tuple[int, Mapping[str, Any]]]:
    """Give the objects of a JSON-lines file, each with its line's number.

    Args:
        path: The file; the rows of an augmented manifest get `image` and `label` too.
        attribute: The label attribute of an augmented manifest; None takes `class`, or the only
            one.
    """
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        row = parse_json(line, f"{path} line {number}")
        if not isinstance(row, dict):
            raise BadInput(f"{path} line {number}: not a JSON object")
        rows.append((number, augmented_row(row, attribute, f"{path} line {number}")))
    return rows
