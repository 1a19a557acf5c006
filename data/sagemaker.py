"""The layouts of SageMaker's built-in image algorithms: one folder a channel, classes by number.

Source: the developer guide's pages on the input of Image Classification, Object Detection and
Semantic Segmentation (MXNet), https://docs.aws.amazon.com/sagemaker/latest/dg/.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

from regrow.data.checks.faults import Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.augmented_manifest import (
    boxes_of,
    by_number,
    declared_of,
    kind_and_classes,
)
from regrow.data.formats.unlisted import count_unlisted
from regrow.data.names.listing import list_images
from regrow.data.names.lookup import by_stem, match_files
from regrow.data.names.pairing import pair_masks
from regrow.data.names.tidy import class_name, class_number, clean_name
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import VOID, Item, Mask
from regrow.errors import BadInput
from regrow.files import SPLIT_NAMES, name_below, one_line, read_json, read_text
from regrow.plain import MISSHAPEN

LIST, ANNOTATION, LABEL_MAP = "_lst", "_annotation", "label_map"


class SageMakerList(Source):
    """Images with a class number each: `train/`, and a `.lst` file in `train_lst/`.

    `validation` and `test` likewise. A line holds an index, the number and the path of the image
    below `train/`. Classes are called by their numbers.

    Args:
        group: Groups of images that a split keeps together, see `Source`.
    """

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all splits that have a list."""
        root, remarks = locate(root), Remarks()
        items: list[Item] = []
        for images, lists, split in _channels(root, LIST):
            files = sorted(lists.rglob("*.lst"))
            if len(files) != 1:
                raise BadInput(f"{lists}: {len(files)} .lst files in it; leave one")
            rows = dict(_listed(files[0], faults))
            found = match_files(
                {where: name for where, (_, name) in rows.items()}, [images], faults
            )
            items += [
                Item(name_below(root, file), file, str(rows[where][0]), split)
                for where, file in found.items()
            ]
            count_unlisted(images, {*found.values()}, remarks, root)
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: no images in it; expected train_lst/*.lst and train/")
        return Content(*kind_and_classes(items, str(root)), items, remarks)


class SageMakerBoxes(Source):
    """Images with a JSON file of boxes each: `train/` and `train_annotation/*.json`.

    `validation` and `test` likewise. Classes are called as `categories` says, else by their
    numbers.

    Args:
        group: Groups of images that a split keeps together, see `Source`.
    """

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all splits that have annotations."""
        root, remarks = locate(root), Remarks()
        names: dict[int, str] = {}
        items: list[Item] = []
        read = [
            (_read_channel(images, annotations, names, faults, remarks), split)
            for images, annotations, split in _channels(root, ANNOTATION)
        ]
        for entries, split in read:  # each file may name classes of the others
            for where, (file, content) in entries.items():
                with faults.row(where):
                    target, size = boxes_of(content, names, where), declared_of(content, where)
                    name = name_below(root, file)
                    items.append(Item(name, file, target, split, None, None, size, where))
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: no images in it; expected train_annotation/*.json and train/")
        kind, shown_names = kind_and_classes(items, str(root))
        classes = [names[number] for number in sorted(names)]
        unnamed = set(shown_names) - set(classes)
        return Content(kind, [*classes, *by_number(unnamed)], items, remarks)


def _read_channel(
    images: Path, annotations: Path, names: dict[int, str], faults: Faults, remarks: Remarks
) -> dict[str, tuple[Path, Mapping[str, Any]]]:
    """Read the JSON files of a channel: by file the image and what it says; note the names."""
    contents: dict[str, Mapping[str, Any]] = {}
    numbers = {name: number for number, name in names.items()}
    paths = sorted(annotations.rglob("*.json"))
    for path in paths:
        with faults.row(str(path)):
            content = _content(path)
            _add_names(path, content, names, numbers)
            contents[str(path)] = content
    found = match_files({w: content["file"] for w, content in contents.items()}, [images], faults)
    listed = list_images(images, remarks)
    own = by_stem(listed)
    entries = {}
    for where, file in found.items():
        with faults.row(where):
            _refuse_other_name(where, file, own)
            entries[where] = (file, contents[where])
    used, stems = {*found.values()}, by_stem(paths)
    for file in listed:
        if file not in used and normalize("NFC", file.stem) not in stems:
            faults.add(
                f"{file}: it has no JSON file in {annotations}; an image without objects has a "
                "file with no annotations",
                str(file),
            )
    return entries


class SageMakerMasks(Source):
    """Images with a PNG of class numbers each: `train/a.jpg` and `train_annotation/a.png`.

    `validation` and `test` likewise. Classes are called by their numbers, and 255 is void. What the
    numbers in the files mean may stand in `label_map/train_label_map.json`: `scale` divides them,
    `map` lists the number in the file of each class.

    Args:
        num_classes: How many classes there are, from 0 on; any higher number is refused.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(self, num_classes: int, group: str | None = None) -> None:
        super().__init__(group)
        if not 2 <= num_classes < VOID:
            raise BadInput(f"num_classes is {num_classes}, it must lie in [2, {VOID - 1}]")
        self.num_classes = num_classes

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all splits that have masks."""
        root, remarks = locate(root), Remarks()
        items = []
        for images, masks, split in _channels(root, ANNOTATION):
            names = self._names(images, masks)
            void = frozenset({VOID} - names.keys())
            for file, mask in pair_masks(images, masks, faults, remarks):
                items.append(Item(name_below(root, file), file, Mask(mask, names, void), split))
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: no images in it; expected train_annotation/*.png and train/")
        classes = [str(number) for number in range(self.num_classes)]
        return Content("masks", classes, items, remarks)

    def _names(self, images: Path, masks: Path) -> dict[int, str]:
        """Return the class of each number in the files of a split."""
        beside = images.parent / LABEL_MAP / f"{images.name}_label_map.json"
        path = next((f for f in (beside, masks / "label_map.json") if f.is_file()), None)
        content = {"scale": 1} if path is None else read_json(path)
        numbers = label_map(content, self.num_classes, str(path))
        return {file: str(number) for file, number in numbers.items()}


def label_map(content: Any, num_classes: int, where: str) -> dict[int, int]:
    """Return the class number of each number in a mask's file.

    Args:
        content: `scale`, what numbers are divided by, rounded down; or `map`, class numbers to the
            numbers in the file. 255 is no class unless the map says so.
        num_classes: How many classes there are.
        where: What to call it in an error.

    Raises:
        BadInput: If it is something else, or maps to a class that there is not.
    """
    try:
        if "map" not in content:
            scale = float(content["scale"])
            scaled = {file: int(file // scale) for file in range(VOID)}
            return {file: number for file, number in scaled.items() if number < num_classes}
        pairs = [(int(file), int(number)) for number, file in content["map"].items()]
    except (ArithmeticError, *MISSHAPEN) as error:
        raise BadInput(
            f"{where}: not a label map ({one_line(error)}); it holds `scale`, "
            "a number > 0, or `map`"
        ) from error
    outside = [number for _, number in pairs if not 0 <= number < num_classes]
    if outside:
        raise BadInput(
            f"{where}: maps to class {outside[0]}, and num_classes is {num_classes}; correct one"
        )
    if len(dict(pairs)) < len(pairs):
        raise BadInput(f"{where}: two classes have the same number in the files; number each")
    return dict(pairs)


def _channels(root: Path, beside: str) -> Iterator[tuple[Path, Path, str]]:
    """Yield the folder of images, the folder of labels and the split of each that has labels."""
    for name, split in SPLIT_NAMES.items():
        labels, images = root / f"{name}{beside}", root / name
        if labels.is_dir():
            if not images.is_dir():
                raise BadInput(f"{labels}: the folder of its images, {images}, is not there")
            yield images, labels, split


def _listed(path: Path, faults: Faults) -> Iterator[tuple[str, tuple[int, str]]]:
    """Yield the rows of a list: what errors call each, its class number and its path."""
    for line, text in enumerate(read_text(path).split("\n"), 1):
        where = f"{path} line {line}"
        if text.strip():
            row = None
            with faults.row(where):
                row = _list_row(text, where)
            if row is not None:
                yield where, row


def _list_row(text: str, where: str) -> tuple[int, str]:
    try:
        _, label, name = text.split(maxsplit=2)
        number = float(label)  # as MXNet's im2rec writes it
    except ValueError as error:
        raise BadInput(
            f"{where}: needs an index, a class number and a path, separated by tabs"
        ) from error
    try:
        if "\t" in name.strip():
            raise ValueError
        return class_number(number), name.strip()
    except ValueError as error:
        raise BadInput(
            f"{where}: {shown(text.strip())!r} has several labels, or none that is a class "
            "number; regrow gives an image one class"
        ) from error


def _content(path: Path) -> Mapping[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("file"), str):
        raise BadInput(f"{path}: not SageMaker's boxes; `file` names the image")
    return content


def _refuse_other_name(where: str, file: Path, stems: Mapping[str, list[Path]]) -> None:
    """Refuse a file that names another image than that of its own name, if there is one."""
    own = stems.get(normalize("NFC", Path(where).stem), [])
    if own and file not in own:
        raise BadInput(
            f"{where}: names the image {file}, and {own[0]} has its own name; correct `file` or "
            "remove one"
        )


def _add_names(
    path: Path, content: Mapping[str, Any], names: dict[int, str], numbers: dict[str, int]
) -> None:
    """Note the names of classes, and refuse one that contradicts another file."""
    try:
        found = [
            (class_number(e["class_id"]), clean_name(class_name(e["name"])))
            for e in content.get("categories") or []
        ]
    except MISSHAPEN as error:
        raise BadInput(
            f"{path}: not SageMaker's categories ({one_line(error)}); each has class_id and name"
        ) from error
    for number, name in found:
        if names.setdefault(number, name) != name or numbers.setdefault(name, number) != number:
            raise BadInput(
                f"{path}: class {number} is {shown(name)!r}, which another file says otherwise; "
                "give each number one name"
            )
