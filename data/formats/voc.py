"""Pascal VOC: an XML file of boxes an image, with lists of the splits.

Source: http://host.robots.ox.ac.uk/pascal/VOC/voc2012/devkit_doc.pdf, section 8.
"""

import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from unicodedata import normalize

import numpy as np

from regrow.data.checks.faults import BOXES, Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.unlisted import SEVERAL, UNREAD, count_unlisted
from regrow.data.names.listing import IMAGES, list_images
from regrow.data.names.lookup import Folder, by_stem, one_to_one, split_name
from regrow.data.names.tidy import clean_name, declared_size
from regrow.data.source import Content, Source, locate
from regrow.data.targets.ignored import mark_of
from regrow.data.targets.labels import Boxes, Declared, Item
from regrow.errors import BadInput
from regrow.files import SMALL, SPLIT_NAMES, name_below, read_bytes, read_text

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, slots=True)
class Annotation:
    """The content of an annotation.

    Args:
        filename: The image that it names, if it names one.
        size: The height and width that it says the image has, 0 for what it does not say.
        boxes: The objects.
    """

    filename: str | None
    size: Declared | None
    boxes: Boxes


class _Plain(ElementTree.TreeBuilder):
    """A builder of elements alone: entities may grow without bound, or name other files."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("it has a document type, with which come entities; remove <!DOCTYPE>")


def read_annotation(file: Path, faults: Faults) -> Annotation:
    """Read an annotation.

    Args:
        file: The XML file.
        faults: Where objects are noted that cannot be used.

    Raises:
        BadInput: If it cannot be read.
    """
    tree = _tree(file)
    if tree.tag != "annotation":  # its objects would not be found, and the image be background
        raise BadInput(
            f"{file}: not a Pascal VOC annotation (it is of {shown(tree.tag)}, not of annotation)"
        )
    size = tree.find("size")
    said = ("width", "height", "depth") if size is not None else ()
    sides = {k: size.findtext(k) or None for k in said}  # type: ignore[union-attr]
    try:
        declared = declared_size(sides)
    except ValueError as error:
        raise BadInput(f"{file}: its size is none ({error}); correct it") from error
    corners, names, marks = [], [], []
    for entry in tree.iter("object"):
        with faults.row(str(file), BOXES):
            own = _corners(file, entry)
            name = (entry.findtext("name") or "").strip()
            if not name:
                raise BadInput(f"{file}: an object has no name")
            mark = mark_of({"difficult": entry.findtext("difficult")})
            corners.append(own)
            names.append(name)
            marks.append(mark)
    xyxy = np.array(corners, dtype=np.float32).reshape(-1, 4)
    boxes = Boxes(xyxy, tuple(names), tuple(marks))
    filename = (tree.findtext("filename") or "").strip() or None
    return Annotation(filename, declared, boxes)


def _tree(file: Path) -> ElementTree.Element:
    try:
        # Bytes: the file says its own encoding.
        parser = ElementTree.XMLParser(target=_Plain())
        return ElementTree.fromstring(read_bytes(file, SMALL), parser)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise BadInput(f"{file}: not a Pascal VOC annotation ({error})") from error


def _corners(file: Path, entry: ElementTree.Element) -> tuple[float, float, float, float]:
    box = entry.find("bndbox")
    if box is None:
        raise BadInput(f"{file}: an object has no bndbox")
    try:
        left, top, right, bottom = (float(box.findtext(k) or "nan") for k in CORNERS)
    except ValueError as error:
        raise BadInput(f"{file}: not a Pascal VOC annotation ({error})") from error
    # VOC counts pixels from 1, and its last pixel belongs to the box; some tools count from 0.
    return left - (left != 0), top - (top != 0), right, bottom


class VocImages:
    """Look-up of the image that an annotation is of, by the name in it and its own name.

    Args:
        folder: Their folder.
        files: The images in it.
    """

    def __init__(self, folder: Path, files: Sequence[Path]) -> None:
        self.folder = folder
        self._by_name = Folder(folder)
        self._by_stem = by_stem(files)

    def of(self, annotation: Path, filename: str | None) -> Path:
        """Return the image of an annotation: the one that it names, else that of its own name.

        Tools write names without ending, and paths of the machine where they ran; these name the
        image as far as their last part agrees with the annotation's own name.

        Args:
            annotation: The XML file.
            filename: What it says.

        Raises:
            BadInput: If there is none, or several could be meant.
        """
        stem = normalize("NFC", annotation.stem)
        own = self._by_stem.get(stem, [])
        parts = split_name(filename)
        named = self._by_name.find(parts[1]) if parts is not None and not parts[0] else None
        if named is not None:
            if own and named not in own:
                raise BadInput(
                    f"{annotation}: names the image {shown(filename)}, and {own[0]} has its own "
                    "name; correct the filename or remove one"
                )
            return named
        if filename is not None and not _agrees(filename, stem):
            raise BadInput(f"{annotation}: no image {shown(filename)} below {self.folder}")
        if len(own) != 1:
            found = ", ".join(file.name for file in own) or "none"
            raise BadInput(
                f"{annotation}: of images by its name below {self.folder} there is {found}; "
                "one is needed, or a filename that says which"
            )
        return own[0]


def _agrees(filename: str, stem: str) -> bool:
    last = PureWindowsPath(normalize("NFC", filename))  # takes both kinds of slashes
    return stem == last.name or (stem == last.stem and last.suffix.lower() in IMAGES)


class Voc(Source):
    """Images with boxes in Pascal VOC's layout: JPEGImages, Annotations, ImageSets/Main.

    Objects that are `difficult` are ignored.

    Args:
        images: The folder of the images, below the root.
        annotations: The folder of the XML files, below the root.
        lists: The folder of the lists of splits, below the root; there may be none.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        images: str = "JPEGImages",
        annotations: str = "Annotations",
        lists: str = "ImageSets/Main",
        group: str | None = None,
    ) -> None:
        super().__init__(group)
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
