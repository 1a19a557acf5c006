"""Lists of images with a label each: CSV, JSON lines, SageMaker's augmented manifests."""

from pathlib import Path

from regrow.data.checks.faults import Faults
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.augmented_manifest import kind_and_classes, target_of
from regrow.data.formats.lists import Row, csv_rows, find_lists, json_rows, read_row
from regrow.data.formats.unlisted import count_unlisted, files_of
from regrow.data.names.lookup import match_files
from regrow.data.names.tidy import clean_name
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import VOID, Item
from regrow.errors import BadInput
from regrow.files import name_below


class ManifestFile(Source):
    """A list of images with a label each: CSV, or JSON lines such as SageMaker's.

    CSV has the columns `image` and `label`, perhaps `split` and `group`. JSON lines have the same
    keys, or those of an augmented manifest: `source-ref` and the label attribute, whose value is a
    class, `annotations` of boxes, or the file of a mask where the attribute's name ends in `-ref`.
    CSV with `filename`, `class`, `xmin`, `ymin`, `xmax` and `ymax`, perhaps `width` and `height`,
    has a row a box.

    Args:
        file: The list, below the root; by default the only .csv, .jsonl or .manifest there, or the
            only one in each folder of a split.
        attribute: The label attribute of an augmented manifest; null takes `class`, or the only
            one.
        num_classes: How many classes the masks of an augmented manifest have, where its metadata
            does not name them.
        group: Groups of images that a split keeps together, where the list has none; see `Source`.
    """

    def __init__(
        self,
        file: str | None = None,
        attribute: str | None = None,
        num_classes: int | None = None,
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        if num_classes is not None and not 1 <= num_classes <= VOID:
            raise BadInput(
                f"data.source.num_classes is {num_classes}, it must lie in [1, {VOID}]: it is of "
                "masks, and these have at most so many classes"
            )
        self.file, self.attribute, self.num_classes = file, attribute, num_classes

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read the list, or those of the splits."""
        root, remarks = locate(root), Remarks()
        lists = [(root / self.file, None)] if self.file else find_lists(root)
        items = [i for path, split in lists for i in self._read_list(path, split, root, faults)]
        used = {place for item in items for place in files_of(item)}
        count_unlisted(root, used, remarks)
        kind, classes = kind_and_classes(items, str(root))
        classes = sorted(classes, key=clean_name) if kind == "labels" else classes
        return Content(kind, classes, items, remarks)

    def _read_list(
        self, path: Path, official: str | None, root: Path, faults: Faults
    ) -> list[Item]:
        if not path.is_file():
            raise BadInput(f"{path}: no such list of images; set data.source.file")
        is_table = path.suffix == ".csv"
        found = csv_rows(path, faults) if is_table else json_rows(path, self.attribute, faults)
        rows: dict[str, Row] = {}
        for where, values in found:
            with faults.row(where):
                rows[where] = read_row(values, official, where)
        folders = (path.parent, root)
        images = match_files({w: r.image for w, r in rows.items()}, folders, faults)
        named = {w: rows[w].mask for w in images if rows[w].mask is not None}
        masks = match_files(named, folders, faults, "mask")
        items = []
        for where, file in images.items():
            row = rows[where]
            if where in named and where not in masks:
                continue
            with faults.row(where):
                target = target_of(row.values, masks.get(where), self.num_classes, where)
                name = str(row.image) if official is None else name_below(root, file)
                items.append(Item(name, file, target, row.split, row.group, None, row.size, where))
        if not items:
            faults.refuse()
            raise BadInput(f"{path}: lists no images")
        return items
