"""Hugging Face's image folder: images with `metadata.jsonl` or `metadata.csv` beside them.

Source: https://huggingface.co/docs/datasets/image_dataset, ImageFolder.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.faults import Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.augmented_manifest import by_number
from regrow.data.formats.lists import csv_rows, json_rows
from regrow.data.formats.unlisted import count_unlisted
from regrow.data.names.listing import split_by_folder
from regrow.data.names.lookup import match_files
from regrow.data.names.tidy import class_name, class_number, clean_name
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Boxes, Item, Kind, Target
from regrow.errors import BadInput
from regrow.files import name_below
from regrow.plain import MISSHAPEN, parse_json

METADATA = ("metadata.jsonl", "metadata.csv")
FILE, LABEL, OBJECTS = "file_name", "label", "objects"
CATEGORIES = ("categories", "category")


class HuggingFace(Source):
    """Images with a row of metadata each, as Hugging Face's `imagefolder` has them.

    `metadata.jsonl` or `metadata.csv` lies in the root or in the folder of a split. A row has
    `file_name`, and `label` (a class) or `objects`: `bbox`, a list of left, top, width and height
    in pixels, and `categories` (or `category`), their classes. Folders called train, validation or
    test are official splits. Without metadata, folders are classes: see `ImageFolder`.

    Args:
        column: The column of the label; null takes `objects`, else `label`.
        names: Names of the classes, where rows have their numbers.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        column: str | None = None,
        names: list[str] | None = None,
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        self.column, self.names = column, names

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all files of metadata below the root."""
        root, remarks = locate(root), Remarks()
        found = {path.parent: path for name in METADATA for path in sorted(root.rglob(name))}
        if not found:
            raise BadInput(
                f"{root}: no {' nor '.join(METADATA)} in it; expected Hugging Face's imagefolder"
            )
        items: list[Item] = []
        for folder, path in sorted(found.items()):
            other = folder / METADATA[0]
            if path != other and other.is_file():
                raise BadInput(f"{folder}: has {' and '.join(METADATA)}; remove one of them")
            items += self._read_file(path, root, faults)
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: {', '.join(p.name for p in found.values())} list no images")
        kinds = {"boxes" if isinstance(item.target, Boxes) else "labels" for item in items}
        if len(kinds) > 1:
            raise BadInput(f"{root}: rows with boxes and with classes; set data.source.column")
        count_unlisted(root, {i.image for i in items if isinstance(i.image, Path)}, remarks)
        kind: Kind = "boxes" if "boxes" in kinds else "labels"
        return Content(kind, self._classes(items, kind), items, remarks)

    def _read_file(self, path: Path, root: Path, faults: Faults) -> list[Item]:
        is_table = path.suffix == ".csv"
        rows = dict(csv_rows(path, faults) if is_table else json_rows(path, None, faults))
        targets: dict[str, Target] = {}
        for where, row in rows.items():
            with faults.row(where):
                targets[where] = self._target(row, where)
        named = {where: rows[where].get(FILE) for where in targets}
        files = match_files(named, [path.parent, root], faults)
        return [
            Item(name_below(root, file), file, targets[where], split_by_folder(root, file))
            for where, file in files.items()
        ]

    def _target(self, row: Mapping[str, Any], where: str) -> Target:
        column = self.column or (OBJECTS if row.get(OBJECTS) not in (None, "") else LABEL)
        value = row.get(column)
        if not row.get(FILE) or value in (None, ""):
            raise BadInput(
                f"{where}: needs {FILE} and {self.column or f'{LABEL} or {OBJECTS}'}, has "
                f"{shown(dict(row))}; add it, or set data.source.column"
            )
        if isinstance(value, str) and column == OBJECTS:
            value = parse_json(value, f"{where}: {OBJECTS}")
        if isinstance(value, dict | list):
            return self._boxes(value, where)
        return self._name(value, where)

    def _boxes(self, value: Any, where: str) -> Boxes:
        """Return the boxes of a row, whether a mapping of lists or a list of mappings."""
        try:
            if isinstance(value, list):
                sides = [entry["bbox"] for entry in value]
                classes = [_classes_of(entry) for entry in value]
            else:
                sides, classes = value["bbox"], _classes_of(value)
            if not isinstance(classes, list):
                raise ValueError(f"categories is {shown(classes)}, no list")
            corners = np.array(sides, dtype=np.float64).reshape(-1, 4)
            if len(corners) != len(classes) or len(corners) != len(sides):
                raise ValueError(f"{len(sides)} boxes and {len(classes)} categories")
        except MISSHAPEN as error:
            raise BadInput(
                f"{where}: its objects are none ({shown(str(error))}); they have bbox, a list of "
                "left, top, width and height, and categories, a list as long"
            ) from error
        corners[:, 2:] += corners[:, :2]
        names = tuple(self._name(name, where) for name in classes)
        return Boxes(corners.astype(np.float32), names)

    def _name(self, value: Any, where: str) -> str:
        try:
            if self.names is None:
                return clean_name(class_name(value))
            return self.names[class_number(value)]
        except MISSHAPEN as error:
            line = f"{where}: the class {shown(value)} is none"
            count = f" of the {len(self.names)} of data.source.names" if self.names else ""
            raise BadInput(f"{line}{count}; correct it") from error

    def _classes(self, items: Sequence[Item], kind: Kind) -> list[str]:
        if self.names is not None:
            return list(self.names)
        targets = [item.target for item in items]
        labels = {target for target in targets if isinstance(target, str)}
        labels |= {name for t in targets if isinstance(t, Boxes) for name in t.classes}
        return sorted(labels) if kind == "labels" else by_number(labels)


def _classes_of(value: Mapping[str, Any]) -> Any:
    return value[CATEGORIES[1] if CATEGORIES[0] not in value else CATEGORIES[0]]
