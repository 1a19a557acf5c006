"""The files of a data set in YOLO's layout: class names, the images of each split, their labels.

Source: https://docs.ultralytics.com/datasets/detect; ultralytics, `data/utils.py`
(check_det_dataset, img2label_paths).
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.data.checks.faults import Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.unlisted import SEVERAL
from regrow.data.names.listing import list_images, split_by_folder
from regrow.data.names.lookup import match_files, split_name
from regrow.data.names.tidy import MAX_CLASSES, class_name, class_number, clean_name
from regrow.errors import BadInput
from regrow.files import SMALL, is_there, name_below, read_text, read_yaml

YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
NAMES = ("classes.txt", "obj.names", "labels/classes.txt", "images/classes.txt")
ABSENT = "folders of splits left out that {file} names and that are not there"
KEYS = (
    ("train", "train"),
    ("val", "val"),
    ("valid", "val"),
    ("validation", "val"),
    ("test", "test"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """The classes and images of a data set.

    Args:
        file: The file of the classes.
        names: Class numbers to names.
        splits: The official split of each image, None where it has none.
    """

    file: Path
    names: Mapping[int, str]
    splits: Mapping[Path, str | None]


def find_names(root: Path, file: str | None = None) -> Path:
    """Return the file that names the classes.

    Args:
        root: The folder of the data.
        file: Its name below that; None looks for `data.yaml`, the only other YAML file that names
            classes, or `classes.txt`.

    Raises:
        BadInput: If there is none, or several YAML files could be meant.
    """
    if file is not None:
        if not is_there(root / file):
            raise BadInput(f"{root / file}: no such file; set data.source.file")
        return root / file
    for name in YAML:
        if is_there(root / name):
            return root / name
    found = [f for f in sorted(root.glob("*.y*ml")) if is_there(f) and _names_classes(f)]
    if len(found) > 1:
        listed = ", ".join(f.name for f in found)
        raise BadInput(f"{root}: {listed} all name classes; say which, data.source.file")
    listed_names = [root / name for name in NAMES if is_there(root / name)]
    if not found and not listed_names:
        raise BadInput(
            f"{root}: no data.yaml in it, nor classes.txt; expected YOLO's layout, or set "
            "data.source.file"
        )
    return (found or listed_names)[0]


def _names_classes(file: Path) -> bool:
    try:
        content = read_yaml(file)
    except BadInput:
        return False
    return isinstance(content, dict) and "names" in content


def read_layout(root: Path, file: str | None, faults: Faults, remarks: Remarks) -> Layout:
    """Read which classes and images there are.

    Args:
        root: The folder of the data.
        file: The file of the classes, see `find_names`.
        faults: Where lines of lists are noted whose image is not there.
        remarks: Where it is counted what is left out.

    Raises:
        BadInput: If a file has another layout, or names no training images.
    """
    path = find_names(root, file)
    if path.suffix.lower() not in (".yaml", ".yml"):
        lines = [line.strip() for line in read_text(path, SMALL).rstrip().split("\n")]
        return Layout(path, _checked(dict(enumerate(lines)), path), _all_images(root, remarks))
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise BadInput(f"{path}: not YOLO's layout; it maps names, train and val to values")
    if "kpt_shape" in content:
        raise BadInput(f"{path}: labels of keypoints (kpt_shape), which regrow does not read")
    names = _yaml_names(content, path)
    if not any(key in content for key, _ in KEYS):
        return Layout(path, names, _all_images(root, remarks))
    splits: dict[Path, str | None] = {}
    taken: dict[str, list[Path]] = {}
    for key, split in KEYS:
        if content.get(key):
            images = _images(root, path, content, key, faults, remarks)
            taken.setdefault(split, []).extend(images)
            for image in images:
                earlier = splits.get(image, split)
                several = SEVERAL.format(lists=path.name)
                remarks.add(several, name_below(root, image), int(earlier != split))
            splits |= dict.fromkeys(images, split)
    if "train" in taken and "train" not in splits.values():
        raise BadInput(
            f"{path}: all images of train are of val or test too; name other folders, or remove "
            "val: regrow splits by itself then"
        )
    if not splits:
        raise BadInput(f"{path}: names no images; give train a folder or a list of them")
    return Layout(path, names, splits)


def _all_images(root: Path, remarks: Remarks) -> dict[Path, str | None]:
    """Return all images below the root, each with the split that its folder is called after."""
    return {file: split_by_folder(root, file) for file in list_images(root, remarks)}


def _yaml_names(content: Mapping[str, Any], path: Path) -> dict[int, str]:
    """Return the class of each number, as `names` or `nc` say."""
    names, count = content.get("names"), content.get("nc")
    try:
        count = None if count is None else class_number(count, MAX_CLASSES, "nc")
        if names is None and count is not None:
            names = [str(number) for number in range(count)]
        if not isinstance(names, list | dict) or not names:
            raise ValueError(f"names is {shown(names)}, no list of class names")
        pairs = list(enumerate(names)) if isinstance(names, list) else list(names.items())
        found = {class_number(number): class_name(name) for number, name in pairs}
    except ValueError as error:
        raise BadInput(f"{path}: {error}; correct it") from error
    if count not in (None, len(found)):
        raise BadInput(f"{path}: nc is {count}, and names has {len(found)} classes; correct one")
    return _checked(found, path)


def _checked(names: Mapping[int, str], path: Path) -> dict[int, str]:
    """Return names in one form, and refuse one that is there twice."""
    clean = {number: clean_name(name) for number, name in names.items()}
    seen: set[str] = set()
    for name in clean.values():
        if name in seen:
            raise BadInput(f"{path}: {shown(name)} is named twice; name each class once")
        seen.add(name)
    return clean


def _images(
    root: Path,
    file: Path,
    content: Mapping[str, Any],
    key: str,
    faults: Faults,
    remarks: Remarks,
) -> list[Path]:
    """Return the images of a split: of a folder, several, or a list of images."""
    values = content[key] if isinstance(content[key], list) else [content[key]]
    images: list[Path] = []
    for value in values:
        if not isinstance(value, str):
            raise BadInput(f"{file}: {key} is {shown(value)}; give a folder or a list of images")
        place = find_place(root, file.parent, content.get("path"), value)
        if place is None and key == "train":
            raise BadInput(
                f"{file}: train is {shown(value)}, which is not below {root}; correct it, or give "
                "the folder above as data.root and data.source.file below it"
            )
        if place is None:
            remarks.add(ABSENT.format(file=file.name), f"{key} ({shown(value)})")
        elif place.is_dir():
            images += list_images(place, remarks)
        else:
            lines = enumerate(read_text(place).split("\n"), 1)
            named = {f"{place} line {n}": line.strip() for n, line in lines if line.strip()}
            images += match_files(named, [place.parent, file.parent, root], faults).values()
    return images


def find_place(root: Path, base: Path, path: Any, value: str) -> Path | None:
    """Return the folder or list that a value of `data.yaml` means, inside the folder of the data.

    Tools write paths of the machine where they ran, and roboflow `../train/images` for a folder
    beside the file.

    Args:
        root: The folder of the data.
        base: The folder of the file.
        path: What it has as `path`.
        value: What it has for a split.
    """
    for place in _candidates(root, base, path if isinstance(path, str) else "", value):
        inside = os.path.relpath(os.path.abspath(place), os.path.abspath(root))
        if inside.split(os.sep)[0] != "..":
            if os.path.exists(place):
                return root / inside
        elif os.path.isabs(value) and os.path.exists(place):
            return None  # what it means is there, and not ours to read
    return None


def _candidates(root: Path, base: Path, path: str, value: str) -> Iterator[Path]:
    """Yield what a value may mean, the most literal first."""
    named, start = value.replace("\\", "/"), path.replace("\\", "/")
    short = re.sub(r"^(\.\.?/)+", "", f"{named}/").rstrip("/")
    address = split_name(short or ".")
    if "\0" in named + start or (short and address is None):
        return
    yield base / start / named
    yield base / named
    yield base / short
    if address is not None and address[0]:  # of another machine: its end holds here
        yield from (root.joinpath(*address[1][gone:]) for gone in range(len(address[1])))
    folders = split_name(re.sub(r"^(\.\.?/)+", "", start) or ".")
    if folders is not None and address is not None and not address[0]:
        for gone in range(len(folders[1])):
            yield root.joinpath(*folders[1][gone:], *address[1])


def label_places(root: Path, image: Path) -> tuple[Path, ...]:
    """Return where the text file of an image may lie: in `labels/` for `images/`, or beside it."""
    parts = list(image.relative_to(root).parts)
    beside = image.with_suffix(".txt")
    folders = [place for place, name in enumerate(parts[:-1]) if name == "images"]
    if not folders:
        return (beside,)
    parts[folders[-1]] = "labels"
    return root.joinpath(*parts).with_suffix(".txt"), beside
