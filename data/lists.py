"""Lists of images with a label each: CSV, and JSON lines such as SageMaker's manifests."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regrow.data.errors import BadInput
from regrow.data.files import read_text


def only_list(root: Path) -> Path:
    """Find the one list of images in a folder."""
    found = sorted(f for f in root.iterdir() if f.suffix in (".csv", ".jsonl", ".manifest"))
    if len(found) != 1:
        raise BadInput(f"{root}: {len(found)} lists of images in it; name one, data.source.file")
    return found[0]


def csv_rows(path: Path) -> list[tuple[int, Mapping[str, Any]]]:
    """Give the rows of a CSV file by column, each with its line's number."""
    try:
        return list(enumerate(csv.DictReader(io.StringIO(read_text(path))), 2))
    except csv.Error as error:
        raise BadInput(f"{path}: not CSV ({error})") from error


def json_rows(path: Path, attribute: str) -> list[tuple[int, Mapping[str, Any]]]:
    """Give the objects of a JSON-lines file, each with its line's number.

    Args:
        path: The file; the rows of an augmented manifest get `image` and `label` too.
        attribute: The label attribute of an augmented manifest.
    """
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise BadInput(f"{path} line {number}: not JSON ({error})") from error
        if not isinstance(row, dict):
            raise BadInput(f"{path} line {number}: not a JSON object")
        if "source-ref" in row:
            described, label = row.get(f"{attribute}-metadata"), row.get(attribute)
            if isinstance(described, dict):
                label = described.get("class-name", label)
            row = {**row, "image": row["source-ref"], "label": label}
        rows.append((number, row))
    return rows
