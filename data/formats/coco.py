"""COCO: categories, images, and boxes or masks in one JSON file a split.

Source: https://cocodataset.org/#format-data.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.checks.faults import BOXES, Faults, reading, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.coco_regions import region_of
from regrow.data.formats.tools.shapes import Kind as BoxesOrMasks
from regrow.data.formats.unlisted import UNREAD, count_unlisted, files_of
from regrow.data.images.regions import Drawn, Region, mask_numbers
from regrow.data.names.lookup import match_files
from regrow.data.names.tidy import class_name, clean_name, declared_size
from regrow.data.source import Content, Source, locate
from regrow.data.targets.ignored import mark_of
from regrow.data.targets.labels import VOID, Boxes, Item, Mask
from regrow.errors import BadInput
from regrow.files import GAP, SPLIT_NAMES, name_below, one_line, read_json


@dataclass(frozen=True, slots=True)
class Box:
    """An annotation: a box as the file has it, or the region that it covers.

    Args:
        sides: Left, top, width and height; none where masks are read.
        name: Its class.
        mark: What it stands for, see `Boxes`.
        region: The pixels that it covers, for masks.
        area: Their number, by which smaller ones lie on top.
    """

    sides: tuple[float, ...]
    name: str
    mark: int
    region: Region | None = None
    area: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """How annotations are read.

    Args:
        kind: As boxes or as masks.
        background: The class of pixels of no annotation, for masks; None makes them void.
    """

    kind: BoxesOrMasks = "boxes"
    background: str | None = None


def coco_items(
    path: Path,
    folder: Path,
    root: Path,
    split: str | None,
    faults: Faults,
    how: Reading = Reading(),
) -> tuple[list[str], list[Item]]:
    """Read the annotations of a split.

    Args:
        path: The file.
        folder: Where its images are.
        root: The folder of the data, below which items are called.
        split: Their official split.
        faults: Where annotations and images are noted that cannot be used.
        how: As boxes or masks.

    Returns:
        The class names, and the images.

    Raises:
        BadInput: If the file has another layout.
    """
    content = read_json(path)
    with _layout(str(path)):
        names = _categories(path, content["categories"])
        if how.kind == "masks":
            _refuse_boxes_alone(path, content["annotations"])
        boxes = _boxes(path, content["annotations"], names, faults, how.kind)
        entries, listed = _images(path, content["images"], faults)
    for image in boxes.keys() - listed:
        where = f"{path}: annotations are of the image {shown(image)}"
        faults.add(f"{where}, which is not listed; list it or remove them", where)
    files = match_files({w: e["file_name"] for w, e in entries.items()}, [folder], faults)
    items = []
    numbers = mask_numbers([*names.values()], how.background) if how.kind == "masks" else {}
    for where, file in files.items():
        with faults.row(where), _layout(where):
            entry = entries[where]
            own, size = boxes.get(entry["id"], []), declared_size(entry)
            target = _mask(file, own, numbers, how) if how.kind == "masks" else _target(own)
            name = name_below(root, file)
            items.append(
                Item(name, file, target, split, declared=size, declared_by=f"{path} ({name})")
            )
    return list(numbers.values() if numbers else names.values()), items


def _mask(file: Path, boxes: list[Box], numbers: Mapping[int, str], how: Reading) -> Mask:
    """Return the mask of an image, the smallest regions on top."""
    places = {name: number for number, name in numbers.items()}
    ordered = sorted(boxes, key=lambda box: -box.area)
    regions = tuple((places[b.name], b.region) for b in ordered if b.region is not None)
    below = VOID if how.background is None else places[how.background]
    return Mask(Drawn(file, regions, below), numbers)


def _refuse_boxes_alone(path: Path, entries: Any) -> None:
    """Refuse a file without any region where masks are to be drawn."""
    if (
        isinstance(entries, list)
        and entries
        and not any(isinstance(e, Mapping) and e.get("segmentation") for e in entries)
    ):
        raise BadInput(
            f"{path}: masks are asked for, and its annotations have boxes alone, no segmentation; "
            "train detection on it, with --data.source.kind=boxes"
        )


def _categories(path: Path, entries: Any) -> dict[Any, str]:
    names: dict[Any, str] = {}
    numbers: dict[str, Any] = {}
    for entry in entries:
        number, name = entry["id"], clean_name(class_name(entry["name"]))
        if names.setdefault(number, name) != name:
            raise BadInput(
                f"{path}: the category {shown(number)} is {shown(names[number])} and {shown(name)}"
                "; give each number one name"
            )
        if name in numbers:
            raise BadInput(f"{path}: {name} is named twice; name each class once")
        numbers[name] = number
    return names


def _boxes(
    path: Path, entries: Any, names: Mapping[Any, str], faults: Faults, kind: BoxesOrMasks
) -> dict[Any, list[Box]]:
    """Read the annotations, by the image that each is of."""
    boxes: dict[Any, list[Box]] = defaultdict(list)
    for place, entry in enumerate(entries):
        where = f"{path}: annotation {shown(_id(entry, place))}"
        with faults.row(where, BOXES), _layout(where):
            category = entry["category_id"]
            if category not in names:
                raise BadInput(
                    f"{where} has the category {shown(category)}, which is not listed; list it"
                )
            if kind == "masks":
                region, area = region_of(entry)
                own = Box((), names[category], mark_of(entry), region, area)
                boxes[entry["image_id"]].append(own)
                continue
            if not isinstance(entry["bbox"], list) or len(entry["bbox"]) != 4:
                raise ValueError(f"the bbox is {shown(entry['bbox'])}, not four numbers")
            sides = tuple(float(side) for side in entry["bbox"])
            boxes[entry["image_id"]].append(Box(sides, names[category], mark_of(entry)))
    return boxes


def _images(
    path: Path, entries: Any, faults: Faults
) -> tuple[dict[str, Mapping[str, Any]], set[Any]]:
    """Read the list of images: by what to call the entry of each; and all their numbers."""
    images: dict[str, Mapping[str, Any]] = {}
    listed: set[Any] = set()
    for place, entry in enumerate(entries):
        where = f"{path}: image {shown(_id(entry, place))}"
        with faults.row(where), _layout(where):
            number = entry["id"]
            if number in listed:
                raise BadInput(f"{where} is listed twice; give each image a number of its own")
            listed.add(number)
            if not isinstance(entry["file_name"], str):
                raise ValueError(f"its file_name is {shown(entry['file_name'])}")
            images[where] = entry
    return images, listed


def _id(entry: Any, place: int) -> Any:
    """Return what to call an entry: its number, or its place in the list."""
    return entry.get("id", f"number {place}") if isinstance(entry, dict) else f"number {place}"


def _target(boxes: list[Box]) -> Boxes:
    corners = np.array([box.sides for box in boxes], dtype=np.float64).reshape(-1, 4)
    corners[:, 2:] += corners[:, :2]
    names, marks = tuple(box.name for box in boxes), tuple(box.mark for box in boxes)
    return Boxes(corners.astype(np.float32), names, marks)


@contextmanager
def _layout(where: str) -> Iterator[None]:
    """Let an entry of another layout end in a line that names it."""
    try:
        with reading(where):
            yield
    except BadInput as error:
        cause = error.__cause__
        if isinstance(cause, KeyError):
            line = f"{where}: not COCO's layout, an entry has no {shown(cause.args[0])!r}"
            raise BadInput(f"{line}; correct it") from cause
        if isinstance(cause, AttributeError | TypeError | ValueError | OverflowError):
            line = f"{where}: not COCO's layout ({one_line(cause)})"
            raise BadInput(f"{line}; correct it") from cause
        raise


class Coco(Source):
    """Images with boxes or masks in COCO's JSON; boxes of crowds (`iscrowd`) are ignored.

    Args:
        images: The folder of a split's images, below the root.
        annotations: The file of a split's annotations, below the root.
        kind: The labels to read: `boxes`, or `masks` of `segmentation`, the smallest on top.
        background: The class of pixels of no annotation, for masks; null makes them void.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        images: str = "images/{split}",
        annotations: str = "annotations/instances_{split}.json",
        kind: BoxesOrMasks = "boxes",
        background: str | None = "background",
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        self.images, self.annotations = images, annotations
        self.how = Reading(kind, background)

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all splits that have annotations."""
        root, remarks = locate(root), Remarks()
        items: list[Item] = []
        classes: list[str] = []
        lists: list[Path] = []
        folders = set()
        for name, split in SPLIT_NAMES.items() if GAP in self.annotations else [("", None)]:
            path = root / self.annotations.replace(GAP, name)
            if path.is_file():
                folder = root / self.images.replace(GAP, name)
                names, found = coco_items(path, folder, root, split, faults, self.how)
                classes += [name for name in names if name not in classes]
                items += found
                lists.append(path)
                folders.add(folder)
        if not items:
            faults.refuse()
            raise BadInput(
                f"{root}: no annotations of images at {self.annotations}; set "
                "data.source.annotations"
            )
        used = {place for item in items for place in files_of(item)}
        for folder in sorted(folders):
            count_unlisted(folder, used, remarks, root)
        for path in sorted({f for own in lists for f in own.parent.glob("*.json")} - {*lists}):
            remarks.add(UNREAD, name_below(root, path))
        return Content(self.how.kind, classes, items, remarks)
