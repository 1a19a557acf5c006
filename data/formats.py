"""The formats that are read directly: each gives the items of a data set, and no pixels yet."""

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import numpy as np

from regrow.data.augmented import kind_and_classes, target_of
from regrow.data.coco import coco_items
from regrow.data.faults import Faults, reading
from regrow.data.listing import list_folders, list_images
from regrow.data.lists import Row, csv_rows, find_lists, json_rows, read_row
from regrow.data.lookup import match_files, one_to_one
from regrow.data.mask_classes import read_mask_classes
from regrow.data.pairing import NAME, pair_masks
from regrow.data.remarks import Remarks
from regrow.data.snapshot import VOID, Item, Kind, Mask
from regrow.data.tidy import MAX_CLASSES, clean_name, tidy
from regrow.data.torchvision_sets import images_of, labels_of, official_splits
from regrow.data.voc import VocImages, read_annotation
from regrow.errors import BadInput
from regrow.files import GAP, SPLIT_NAMES, name_below, one_line, read_text

UNLISTED = "images left out that no annotation lists"
UNREAD = "annotation files left out"
SEVERAL = "images that several splits of {lists} list, taken for the last of train, val, test"


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


class Source:
    """Where labelled images come from; a format of its own has `_read`, or `read` alone."""

    # Whether the images are trained on and scored by themselves, and do not only stand beside
    # others, as those of a memory do.
    stands_alone = True

    def read(self, root: Path | None) -> Content:
        """Read what there is.

        Args:
            root: The folder of the data.

        Raises:
            BadInput: Naming the file that cannot be used, or all rows that cannot.
        """
        faults = Faults()
        content = self.gather(root, faults)
        faults.refuse()
        return content

    def gather(self, root: Path | None, faults: Faults) -> Content:
        """Read what can be used.

        Args:
            root: The folder of the data.
            faults: Where rows are noted that cannot be used.

        Raises:
            BadInput: Naming the file that cannot be used, whatever is wrong with it.
        """
        with suppress(BadInput):  # a source may need none
            faults.root = locate(root)
        with reading(f"{root}, read as {type(self).__name__}"):
            content = self._read(root, faults)
            classes, items = tidy(content.classes, content.items, content.remarks, faults)
            return Content(content.kind, classes, items, content.remarks)

    def _read(self, root: Path | None, faults: Faults) -> Content:
        return self.read(root)


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

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read `<class>/*.jpg` or `{train,val,test}/<class>/*.jpg`."""
        root, remarks = locate(root), Remarks()
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
            inside = list_folders(top, remarks)
            for folder in inside:
                files = list_images(folder, remarks, counts_others=True)
                if not files:
                    remarks.add("folders without images, taken for no class", folder.name)
                    continue
                classes.add(folder.name)
                items += [
                    Item(str(file.relative_to(root)), file, folder.name, split) for file in files
                ]
            bare = [file for file in list_images(top) if file.parent == top] if inside else []
            for file in bare:
                remarks.add("images left out that lie in no class's folder", name_below(root, file))
        if not items:
            raise BadInput(f"{root}: no images in it; expected {root}/<class>/<image>.jpg")
        return Content("labels", sorted(classes, key=clean_name), items, remarks)


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
    """

    def __init__(
        self,
        file: str | None = None,
        attribute: str | None = None,
        num_classes: int | None = None,
    ) -> None:
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
        used = {place for item in items for place in _files_of(item)}
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
                names, found = coco_items(path, folder, root, split, faults)
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
        used = {place for item in items for place in _files_of(item)}
        for folder in sorted(folders):
            count_unlisted(folder, used, remarks, root)
        for path in sorted({f for own in lists for f in own.parent.glob("*.json")} - {*lists}):
            remarks.add(UNREAD, name_below(root, path))
        return Content("boxes", classes, items, remarks)


class Voc(Source):
    """Images with boxes in Pascal VOC's layout: JPEGImages, Annotations, ImageSets/Main.

    Objects that are `difficult` are ignored.

    Args:
        images: The folder of the images, below the root.
        annotations: The folder of the XML files, below the root.
        lists: The folder of the lists of splits, below the root; there may be none.
    """

    def __init__(
        self,
        images: str = "JPEGImages",
        annotations: str = "Annotations",
        lists: str = "ImageSets/Main",
    ) -> None:
        self.images, self.annotations, self.lists = images, annotations, lists

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all annotations, or those that the lists {train,trainval,val,test}.txt name."""
        root, remarks = locate(root), Remarks()
        files = sorted((root / self.annotations).glob("*.xml"))
        if not files:
            raise BadInput(
                f"{root}: no {self.annotations}/*.xml in it; expected Pascal VOC's layout, or set "
                "data.source.annotations and data.source.images"
            )
        splits = self._splits(root, remarks)
        read, listed = {}, [f for f in files if not splits or f.stem in splits]
        folder = root / self.images
        images = VocImages(folder, list_images(folder, remarks) if folder.is_dir() else [])
        for file in listed:
            with faults.row(str(file)):
                annotation = read_annotation(file, faults)
                read[str(file)] = (annotation, images.of(file, annotation.filename), file.stem)
        places = one_to_one({w: w for w in read}, {w: read[w][1] for w in read}, faults)
        items = []
        for where, image in places.items():
            annotation, _, stem = read[where]
            name, split = name_below(root, image), splits.get(stem)
            items.append(
                Item(name, image, annotation.boxes, split, None, None, annotation.size, where)
            )
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: {self.lists} lists none of the images with {self.annotations}")
        count_unlisted(folder, {*places.values()}, remarks, root)
        for file in sorted((root / self.annotations).rglob("*.*")):
            if file.suffix.lower() in (".xml", ".json", ".txt", ".csv") and file not in files:
                remarks.add(UNREAD, name_below(root, file))
        for name in sorted(splits.keys() - {file.stem for file in files}):
            remarks.add(f"names in {self.lists} without an annotation, left out", name)
        for file in [f for f in files if f not in listed] if splits else []:
            remarks.add(f"annotations left out that {self.lists} does not list", file.name)
        classes = {name for annotation, _, _ in read.values() for name in annotation.boxes.classes}
        return Content("boxes", sorted(classes, key=clean_name), items, remarks)

    def _splits(self, root: Path, remarks: Remarks) -> dict[str, str]:
        """Read which image is of which split, as far as there are lists."""
        splits: dict[str, str] = {}
        lists: dict[str, list[str]] = {}
        # A list of both is taken for training where there is no list of either.
        for name in ("trainval", "train", "val", "test"):
            path = root / self.lists / f"{name}.txt"
            if path.is_file():
                lines = [line.split() for line in read_text(path).splitlines()]
                lists[name] = list(dict.fromkeys(words[0] for words in lines if words))
                splits |= dict.fromkeys(lists[name], SPLIT_NAMES.get(name, "train"))
        of_one = [stem for name, stems in lists.items() if name != "trainval" for stem in stems]
        of_one += [stem for stem in lists.get("trainval", ()) if splits[stem] == "test"]
        for stem, count in Counter(of_one).items():
            remarks.add(SEVERAL.format(lists=self.lists), stem, int(count > 1))
        return splits


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
        mask_name: The name of a mask without its ending, such as `{name}_mask` of `{name}.jpg`.
    """

    def __init__(
        self,
        images: str = "images/{split}",
        masks: str = "masks/{split}",
        classes_file: str = "classes.json",
        group: str | None = None,
        mask_name: str = NAME,
    ) -> None:
        self.images, self.masks, self.classes_file = images, masks, classes_file
        self.mask_name = mask_name
        if NAME not in mask_name or "/" in mask_name:
            raise BadInput(
                f"data.source.mask_name is {mask_name!r}; it must hold {NAME} and no folder"
            )
        try:
            self.group = re.compile(group) if group else None
        except re.error as error:
            raise BadInput(f"data.source.group {group!r} is not a pattern: {error}") from error
        if self.group and not self.group.groups:
            raise BadInput(f"data.source.group {group!r} has no group; put one in parentheses")

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all splits that have images."""
        root, remarks = locate(root), Remarks()
        names, void = read_mask_classes(root / self.classes_file)
        items = []
        for alias, split in SPLIT_NAMES.items() if GAP in self.images else [("", None)]:
            folder = root / self.images.replace(GAP, alias)
            if not folder.is_dir():
                continue
            masks = root / self.masks.replace(GAP, alias)
            for file, mask in pair_masks(folder, masks, faults, remarks, self.mask_name):
                found = self.group.search(file.stem) if self.group else None
                group = found.group(1) if found else None
                target = Mask(mask, names, void)
                items.append(Item(name_below(root, file), file, target, split, group))
        if not items:
            faults.refuse()
            raise BadInput(f"{root}: no images at {self.images}; set data.source.images")
        return Content("masks", list(dict.fromkeys(names.values())), items, remarks)


class Torchvision(Source):
    """A data set of torchvision with one label an image, as it lies on the disk.

    Its own splits are official; one that has none is split by pixels like any other.

    Args:
        dataset: Its class path, such as `torchvision.datasets.CIFAR10`.
    """

    def __init__(self, dataset: str) -> None:
        self.dataset = dataset

    def _read(self, root: Path | None, faults: Faults) -> Content:
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
                if not names and max(labels) >= MAX_CLASSES:
                    raise ValueError(f"it has the class number {max(labels)}")
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


def _files_of(item: Item) -> list[Path]:
    """Return the files of an item."""
    pixels = item.target.pixels if isinstance(item.target, Mask) else None
    return [place for place in (item.image, pixels) if isinstance(place, Path)]


def count_unlisted(
    folder: Path, used: Collection[Path], remarks: Remarks, root: Path | None = None
) -> None:
    """Count the images in a folder that are not used."""
    for file in list_images(folder, remarks) if folder.is_dir() else []:
        if file not in used:
            remarks.add(UNLISTED, name_below(root or folder, file))
