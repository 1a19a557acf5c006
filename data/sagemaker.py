"""The layouts of SageMaker's built-in image algorithms: one folder a channel, classes by number.

Source: the developer guide's pages on the input of Image Classification, Object Detection and
Semantic Segmentation (MXNet), https://docs.aws.amazon.com/sagemaker/latest/dg/.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regrow.data.augmented import boxes_of, by_number, kind_and_classes
from regrow.data.errors import BadInput
from regrow.data.files import (
    SPLIT_NAMES,
    find_file,
    list_images,
    name_below,
    one_line,
    read_json,
    read_text,
)
from regrow.data.formats import Content, Source, locate
from regrow.data.snapshot import VOID, Item, Mask

LIST, ANNOTATION, LABEL_MAP = "_lst", "_annotation", "label_map"


class SageMakerList(Source):
    """Images with a class number each: `train/`, and a `.lst` file in `train_lst/`.

    `validation` and `test` likewise. A line holds an index, the number and the path of the image
    below `train/`. Classes are called by their numbers.
    """

    def read(self, root: Path | None) -> Content:
        """Read all splits that have a list."""
        root = locate(root)
        items: list[Item] = []
        for images, lists, split in _channels(root, LIST):
            files = sorted(lists.rglob("*.lst"))
            if len(files) != 1:
                raise BadInput(f"{lists}: {len(files)} .lst files in it; leave one")
            for line, number, name in _listed(files[0]):
                file = find_file(images, name)
                if file is None:
                    raise BadInput(f"{files[0]} line {line}: no image {name} below {images}")
                items.append(Item(name_below(root, file), file, str(number), split))
        if not items:
            raise BadInput(f"{root}: no images in it; expected train_lst/*.lst and train/")
        return Content(*kind_and_classes(items, str(root)), items)


class SageMakerBoxes(Source):
    """Images with a JSON file of boxes each: `train/` and `train_annotation/*.json`.

    `validation` and `test` likewise. Classes are called as `categories` says, else by their
    numbers.
    """

    def read(self, root: Path | None) -> Content:
        """Read all splits that have annotations."""
        root = locate(root)
        entries: list[tuple[Path, Path, str, Mapping[str, Any]]] = []
        names: dict[int, str] = {}
        for images, annotations, split in _channels(root, ANNOTATION):
            seen = set()
            for path in sorted(annotations.rglob("*.json")):
                content = read_json(path)
                file = _image_of(path, content, images)
                _add_names(path, content, names)
                entries.append((path, file, split, content))
                seen.add(file)
            bare = [file for file in list_images(images) if file not in seen]
            if bare:
                raise BadInput(
                    f"{bare[0]}: it has no JSON file in {annotations}, and {len(bare) - 1} more "
                    "images have none; an image without objects has a file with no annotations"
                )
        items = [
            Item(name_below(root, file), file, boxes_of(content, names, str(path)), split)
            for path, file, split, content in entries
        ]
        if not items:
            raise BadInput(f"{root}: no images in it; expected train_annotation/*.json and train/")
        kind, shown = kind_and_classes(items, str(root))
        classes = [names[number] for number in sorted(names)]
        unnamed = set(shown) - set(classes)
        return Content(kind, [*classes, *by_number(unnamed)], items)


class SageMakerMasks(Source):
    """Images with a PNG of class numbers each: `train/a.jpg` and `train_annotation/a.png`.

    `validation` and `test` likewise. Classes are called by their numbers, and 255 is void. What the
    numbers in the files mean may stand in `label_map/train_label_map.json`: `scale` divides them,
    `map` lists the number in the file of each class.

    Args:
        num_classes: How many classes there are, from 0 on; any higher number is refused.
    """

    def __init__(self, num_classes: int) -> None:
        if not 2 <= num_classes < VOID:
            raise BadInput(f"num_classes is {num_classes}, it must lie in [2, {VOID - 1}]")
        self.num_classes = num_classes

    def read(self, root: Path | None) -> Content:
        """Read all splits that have masks."""
        root = locate(root)
        items = []
        for images, masks, split in _channels(root, ANNOTATION):
            names = self._names(images, masks)
            void = frozenset({VOID} - names.keys())
            for file in list_images(images):
                mask = masks / file.relative_to(images).with_suffix(".png")
                if not mask.is_file():
                    raise BadInput(f"{file}: its mask {mask} is not there")
                items.append(Item(name_below(root, file), file, Mask(mask, names, void), split))
        if not items:
            raise BadInput(f"{root}: no images in it; expected train_annotation/*.png and train/")
        return Content("masks", [str(number) for number in range(self.num_classes)], items)

    def _names(self, images: Path, masks: Path) -> dict[int, str]:
        """Give the class of each number in the files of a split."""
        beside = images.parent / LABEL_MAP / f"{images.name}_label_map.json"
        path = next((f for f in (beside, masks / "label_map.json") if f.is_file()), None)
        content = {"scale": 1} if path is None else read_json(path)
        numbers = label_map(content, self.num_classes, str(path))
        return {file: str(number) for file, number in numbers.items()}


def label_map(content: Any, num_classes: int, where: str) -> dict[int, int]:
    """Give the class number of each number in a mask's file.

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
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
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
    """Give the folders of images and of labels, and the split, of each that has labels."""
    for name, split in SPLIT_NAMES.items():
        labels, images = root / f"{name}{beside}", root / name
        if labels.is_dir():
            if not images.is_dir():
                raise BadInput(f"{labels}: the folder of its images, {images}, is not there")
            yield images, labels, split


def _listed(path: Path) -> Iterator[tuple[int, int, str]]:
    """Give line, class number and path of each image of a list."""
    for line, text in enumerate(read_text(path).split("\n"), 1):
        if not text.strip():
            continue
        try:
            _, label, name = text.split(maxsplit=2)
            number = float(label)  # as MXNet's im2rec writes it
        except ValueError as error:
            raise BadInput(
                f"{path} line {line}: needs an index, a class number and a path, separated by tabs"
            ) from error
        if number < 0 or number != int(number) or "\t" in name.strip():
            raise BadInput(
                f"{path} line {line}: {text.strip()!r} has several labels, or none that is a class "
                "number; regrow gives an image one class"
            )
        yield line, int(number), name.strip()


def _image_of(path: Path, content: Any, images: Path) -> Path:
    name = content.get("file") if isinstance(content, dict) else None
    if not isinstance(name, str):
        raise BadInput(f"{path}: not SageMaker's boxes; `file` names the image")
    file = find_file(images, name)
    if file is None:
        raise BadInput(f"{path}: no image {name} below {images}")
    return file


def _add_names(path: Path, content: Mapping[str, Any], names: dict[int, str]) -> None:
    """Note the names of classes, and refuse one that contradicts another file."""
    try:
        found = {int(e["class_id"]): str(e["name"]) for e in content.get("categories") or []}
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(
            f"{path}: not SageMaker's categories ({one_line(error)}); each has class_id and name"
        ) from error
    for number, name in found.items():
        known = next((k for k, n in names.items() if n == name), number)
        if names.setdefault(number, name) != name or known != number:
            raise BadInput(
                f"{path}: class {number} is {name!r}, which another file says otherwise; give each "
                "number one name"
            )
