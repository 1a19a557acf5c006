"""The formats that are read directly: each gives the items of a data set, and no pixels yet."""

import os
import re
import xml.etree.ElementTree as ElementTree
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from regrow.data.augmented import kind_and_classes, target_of
from regrow.data.errors import BadInput
from regrow.data.files import (
    GAP,
    SMALL,
    SPLIT_NAMES,
    find_file,
    list_folders,
    list_images,
    name_below,
    one_line,
    read_bytes,
    read_json,
    read_text,
)
from regrow.data.ignored import mark_of
from regrow.data.lists import csv_rows, find_lists, json_rows
from regrow.data.remarks import Remarks
from regrow.data.snapshot import Boxes, Item, Kind, Mask
from regrow.data.torchvision_sets import images_of, labels_of, official_splits


@dataclass(frozen=True, slots=True)
class Content:
    """What a source holds.

    Args:
        kind: What the labels are.
        classes: Class names.
        items: The images.
        remarks: What was left out, clipped or changed.
    """

    kind: Kind
    classes: Sequence[str]
    items: Sequence[Item]
    remarks: Remarks = field(default_factory=Remarks)


class Source(ABC):
    """Where labelled images come from."""

    # Whether the images are trained on and scored by themselves, and do not only stand beside
    # others, as those of a memory do.
    stands_alone = True

    @abstractmethod
    def read(self, root: Path | None) -> Content:
        """Read what there is.

        Args:
            root: The folder of the data.

        Raises:
            BadInput: Naming the file that cannot be used.
        """


def some_items(items: Sequence[Item], count: int | None) -> Sequence[Item]:
    """Draw so many items of each split at most; they stay in order."""
    if count is None:
        return items
    splits: dict[str | None, list[int]] = {}
    for place, item in enumerate(items):
        splits.setdefault(item.split, []).append(place)
    random = np.random.default_rng(0)
    drawn = [random.permutation(places)[:count] for places in splits.values()]
    return [items[place] for place in np.sort(np.concatenate(drawn))]


def locate(root: Path | None) -> Path:
    """Find the folder of the data.

    Args:
        root: A folder; where it does not exist as it stands, one under the environment variable
            `REGROW_DATA`, else under `../shared/data`.

    Raises:
        BadInput: If there is none, naming the places tried.
    """
    if root is None:
        raise BadInput("data.root is not set; give the folder of the data with --data.root")
    base = Path(os.environ.get("REGROW_DATA", "../shared/data"))
    places = [root] if root.is_absolute() else [root, base / root]
    for place in places:
        if place.is_dir():
            return place
    tried = " nor ".join(str(place) for place in places)
    raise BadInput(f"data.root: no folder {tried}; set --data.root or REGROW_DATA")


class ImageFolder(Source):
    """One folder a class, as torchvision lays them out, perhaps below one folder a split."""

    def read(self, root: Path | None) -> Content:
        """Read `<class>/*.jpg` or `{train,val,test}/<class>/*.jpg`."""
        root = locate(root)
        folders = list_folders(root)
        splits = {f: SPLIT_NAMES[f.name.lower()] for f in folders if f.name.lower() in SPLIT_NAMES}
        beside = [f.name for f in folders if f not in splits and list_images(f)] if splits else []
        if beside:
            raise BadInput(
                f"{root}: holds splits ({', '.join(f.name for f in splits)}) beside other folders "
                f"of images ({', '.join(beside)}); put each class below a split, or rename"
            )
        items, classes = [], set()
        tops: dict[Path, str | None] = {**splits} if splits else {root: None}
        for top, split in tops.items():
            for folder in list_folders(top):
                files = list_images(folder)
                classes.add(folder.name)
                items += [
                    Item(str(file.relative_to(root)), file, folder.name, split) for file in files
                ]
        if not items:
            raise BadInput(f"{root}: no images in it; expected {root}/<class>/<image>.jpg")
        return Content("labels", sorted(classes), items)


class ManifestFile(Source):
    """A list of images with a label each: CSV, or JSON lines such as SageMaker's.

    CSV has the columns `image` and `label`, perhaps `split` and `group`. JSON lines have the same
    keys, or those of an augmented manifest: `source-ref` and the label attribute, whose value is a
    class, `annotations` of boxes, or the file of a mask where the attribute's name ends in `-ref`.

    Args:
        file: The list, below the root; by default the only .csv, .jsonl or .manifest there, or the
            only one in each folder of a split.
        attribute: The label attribute of an augmented manifest; null takes `class`, or the only
            one.
        num_classes: How many classes the masks of an augmented manifest have, where its metadata
            does not name them.
    """

    def __init__(
        self,
        file: str | None = None,
        attribute: str | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.file, self.attribute, self.num_classes = file, attribute, num_classes

    def read(self, root: Path | None) -> Content:
        """Read the list, or those of the splits."""
        root = locate(root)
        lists = [(root / self.file, None)] if self.file else find_lists(root)
        items = [item for path, split in lists for item in self._read_list(path, split, root)]
        kind, classes = kind_and_classes(items, str(root))
        return Content(kind, sorted(classes) if kind == "labels" else classes, items)

    def _read_list(self, path: Path, official: str | None, root: Path) -> list[Item]:
        if not path.is_file():
            raise BadInput(f"{path}: no such list of images; set data.source.file")
        items = []
        rows = csv_rows(path) if path.suffix == ".csv" else json_rows(path, self.attribute)
        for line, row in rows:
            name, label = row.get("image"), row.get("label")
            if not name or label in (None, ""):
                raise BadInput(f"{path} line {line}: needs an image and a label, has {row}")
            where, folders = f"{path} line {line}", (path.parent, root)
            target = target_of(row, folders, self.num_classes, where)
            split = str(row.get("split") or official or "").lower()
            if split and split not in SPLIT_NAMES:
                raise BadInput(f"{path} line {line}: the split {split!r} is not train, val or test")
            group = row.get("group")
            file = find_file(path.parent, str(name)) or find_file(root, str(name))
            if file is None:
                raise BadInput(f"{path} line {line}: no image {name} below {root}")
            group = None if group in (None, "") else str(group)
            called = str(name) if official is None else name_below(root, file)
            items.append(Item(called, file, target, SPLIT_NAMES.get(split), group))
        if not items:
            raise BadInput(f"{path}: lists no images")
        return items


class Coco(Source):
    """Images with boxes in COCO's JSON; those of crowds (`iscrowd`) are ignored.

    Args:
        images: The folder of a split's images, below the root.
        annotations: The file of a split's annotations, below the root.
    """

    def __init__(
        self,
        images: str = "images/{split}",
        annotations: str = "annotations/instances_{split}.json",
    ) -> None:
        self.images, self.annotations = images, annotations

    def read(self, root: Path | None) -> Content:
        """Read all splits that have annotations."""
        root = locate(root)
        items: list[Item] = []
        classes: list[str] = []
        for name, split in SPLIT_NAMES.items() if GAP in self.annotations else [("", None)]:
            path = root / self.annotations.replace(GAP, name)
            if path.is_file():
                folder = root / self.images.replace(GAP, name)
                names = self._read_split(path, folder, root, split, items)
                classes += [name for name in names if name not in classes]
        if not items:
            raise BadInput(
                f"{root}: no annotations of images at {self.annotations}; set "
                "data.source.annotations"
            )
        return Content("boxes", classes, items)

    def _read_split(
        self, path: Path, folder: Path, root: Path, split: str | None, items: list[Item]
    ) -> list[str]:
        content = read_json(path)
        try:
            names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
            _refuse_twice(path, list(names.values()))
            boxes: dict[Any, list[tuple[list[float], str, int]]] = defaultdict(list)
            for entry in content["annotations"]:
                if entry["category_id"] not in names:
                    raise BadInput(
                        f"{path}: annotation {entry.get('id')} has the category "
                        f"{entry['category_id']}, which is not listed"
                    )
                found = (entry["bbox"], names[entry["category_id"]], mark_of(entry))
                boxes[entry["image_id"]].append(found)
            for image in content["images"]:
                file = folder / image["file_name"]
                own = boxes.pop(image["id"], [])
                corners = np.array([box for box, _, _ in own], dtype=np.float32)
                corners = corners.reshape(len(own), 4)
                corners[:, 2:] += corners[:, :2]
                marks = tuple(mark for _, _, mark in own)
                target = Boxes(corners, tuple(name for _, name, _ in own), marks)
                items.append(Item(name_below(root, file), file, target, split))
            if boxes:
                raise BadInput(
                    f"{path}: annotations are of the image {next(iter(boxes))}, which is not listed"
                )
        except KeyError as error:
            raise BadInput(f"{path}: not COCO's layout, an entry has no {error}") from error
        except (AttributeError, TypeError, ValueError) as error:
            raise BadInput(f"{path}: not COCO's layout ({one_line(error)})") from error
        return list(names.values())


class Voc(Source):
    """Images with boxes in Pascal VOC's layout: JPEGImages, Annotations, ImageSets/Main.

    Objects that are `difficult` are ignored.
    """

    def read(self, root: Path | None) -> Content:
        """Read all annotations, or those that ImageSets/Main/{train,trainval,val,test}.txt list."""
        root = locate(root)
        files = sorted((root / "Annotations").glob("*.xml"))
        if not files:
            raise BadInput(f"{root}: no Annotations/*.xml in it; expected Pascal VOC's layout")
        splits: dict[str, str] = {}
        # A list of both is taken for training where there is no list of either.
        for name in ("trainval", "train", "val", "test"):
            path = root / "ImageSets" / "Main" / f"{name}.txt"
            if path.is_file():
                lines = [line.split() for line in read_text(path).splitlines()]
                splits |= {words[0]: SPLIT_NAMES.get(name, "train") for words in lines if words}
        items, classes = [], set()
        for file in files:
            if splits and file.stem not in splits:
                continue
            image, target = _voc_target(root, file)
            classes |= set(target.classes)
            items.append(Item(name_below(root, image), image, target, splits.get(file.stem)))
        if not items:
            raise BadInput(f"{root}: ImageSets/Main lists none of the images with Annotations")
        return Content("boxes", sorted(classes), items)


class Masks(Source):
    """Images with a PNG of class numbers each.

    `classes.json` holds a list of class names by number, or a mapping of names to numbers, perhaps
    under `classes`, with the number of void under `void` or `ignore_index`. 255 is void too unless
    it is the number of a class, and so is a class named void or ignore. A mask with any other
    number is refused.

    Args:
        images: The folder of a split's images, below the root.
        masks: The folder of a split's masks, below the root.
        classes_file: The list of classes, below the root.
        group: A pattern whose first group in a file's name is the group of the image.
    """

    def __init__(
        self,
        images: str = "images/{split}",
        masks: str = "masks/{split}",
        classes_file: str = "classes.json",
        group: str | None = None,
    ) -> None:
        self.images, self.masks, self.classes_file = images, masks, classes_file
        try:
            self.group = re.compile(group) if group else None
        except re.error as error:
            raise BadInput(f"data.source.group {group!r} is not a pattern: {error}") from error
        if self.group and not self.group.groups:
            raise BadInput(f"data.source.group {group!r} has no group; put one in parentheses")

    def read(self, root: Path | None) -> Content:
        """Read all splits that have images."""
        root = locate(root)
        names, void = _mask_names(root / self.classes_file)
        items = []
        for alias, split in SPLIT_NAMES.items() if GAP in self.images else [("", None)]:
            folder = root / self.images.replace(GAP, alias)
            for file in list_images(folder) if folder.is_dir() else []:
                below = file.relative_to(folder).with_suffix(".png")
                mask = root / self.masks.replace(GAP, alias) / below
                if not mask.is_file():
                    raise BadInput(f"{file}: its mask {mask} is not there")
                found = self.group.search(file.stem) if self.group else None
                group = found.group(1) if found else None
                target = Mask(mask, names, void)
                items.append(Item(name_below(root, file), file, target, split, group))
        if not items:
            raise BadInput(f"{root}: no images at {self.images}; set data.source.images")
        return Content("masks", list(dict.fromkeys(names.values())), items)


class Torchvision(Source):
    """A data set of torchvision with one label an image, as it lies on the disk.

    Its own splits are official; one that has none is split by pixels like any other.

    Args:
        dataset: Its class path, such as `torchvision.datasets.CIFAR10`.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    def read(self, root: Path | None) -> Content:
        """Read its labels, and its images where it holds them in memory."""
        root = locate(root)
        module, _, name = self.dataset.rpartition(".")
        if module != "torchvision.datasets" or not hasattr(import_module(module), name):
            raise BadInput(f"data.source.dataset: torchvision.datasets has no {self.dataset!r}")
        items: list[Item] = []
        classes: list[str] = []
        try:
            make = getattr(import_module(module), name)
            for split, data in official_splits(make, root):
                labels = labels_of(data)
                names = getattr(data, "classes", None) or getattr(data, "categories", None)
                names = [str(name) for name in names or range(max(labels) + 1)]
                classes += [name for name in names if name not in classes]
                items += [
                    Item(f"{split or 'all'}/{number}", image, names[label], split)
                    for number, (image, label) in enumerate(
                        zip(images_of(data), labels, strict=True)
                    )
                ]
        except (RuntimeError, OSError, TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"{root}: {self.dataset} cannot be read: {one_line(error)}") from error
        return Content("labels", classes, items)


def _refuse_twice(path: Path, names: Sequence[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"{path}: {', '.join(twice)} is named twice; name each class once")


def _voc_target(root: Path, file: Path) -> tuple[Path, Boxes]:
    try:
        tree = ElementTree.fromstring(read_bytes(file, SMALL))
        image = root / "JPEGImages" / (tree.findtext("filename") or f"{file.stem}.jpg")
        corners, names, marks = [], [], []
        for entry in tree.iter("object"):
            box = entry.find("bndbox")
            if box is None:
                raise BadInput(f"{file}: an object has no bndbox")
            name = entry.findtext("name")
            if not name:
                raise BadInput(f"{file}: an object has no name")
            left, top, right, bottom = (
                float(box.findtext(k) or "nan") for k in ("xmin", "ymin", "xmax", "ymax")
            )
            # VOC counts pixels from 1, and its last pixel belongs to the box; some tools count
            # from 0.
            corners.append((left - (left != 0), top - (top != 0), right, bottom))
            names.append(name)
            marks.append(mark_of({"difficult": entry.findtext("difficult")}))
    except (ElementTree.ParseError, ValueError) as error:
        raise BadInput(f"{file}: not a Pascal VOC annotation ({error})") from error
    boxes = np.array(corners, dtype=np.float32).reshape(-1, 4)
    return image, Boxes(boxes, tuple(names), tuple(marks))


def _mask_names(path: Path) -> tuple[dict[int, str], frozenset[int]]:
    """Give the class of each number, and the numbers of void."""
    if not path.is_file():
        raise BadInput(f"{path}: no such list of classes; set data.source.classes_file")
    content, void = read_json(path), None
    if isinstance(content, dict):
        void = content.get("void", content.get("ignore_index"))
        content = content.get("classes", {k: v for k, v in content.items() if isinstance(v, int)})
    if isinstance(content, list):
        pairs = [(number, str(name)) for number, name in enumerate(content)]
    elif isinstance(content, dict) and all(isinstance(v, int) for v in content.values()):
        pairs = [(number, name) for name, number in content.items()]
    else:
        raise BadInput(f"{path}: expected a list of class names, or names with numbers")
    if void is not None and not isinstance(void, int):
        raise BadInput(f"{path}: void is {void!r}; give its number")
    numbers = dict(pairs)
    if len(numbers) < len(pairs):
        raise BadInput(f"{path}: two classes have the same number; number each")
    _refuse_twice(path, [name for _, name in pairs])
    voids = {k for k, name in pairs if k == void or name.lower() in ("void", "ignore")}
    names = {number: name for number, name in pairs if number not in voids}
    return names, frozenset(voids if void is None else voids | {void})
