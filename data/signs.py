"""The signs of each format of data sets: which files tell it, and what else they say of it.

A sign looks at names of files and at the first bytes of a few of them; nothing is read in full.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from regrow.data.formats.box_table import is_box_table
from regrow.data.formats.hugging_face import METADATA
from regrow.data.formats.tools.yolo_files import NAMES, YAML
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.files import GAP, SPLIT_NAMES, is_there, name_below, open_regular

HEAD = 2**16  # bytes of a file that are looked at
PART, LONGEST = 2**20, 100  # bytes that are searched at once, and of what is searched for
NUM_FILES = 20  # of a kind of files that are looked at
FORMATS, SAGEMAKER = "regrow.data.formats", "regrow.data.sagemaker"
# The name of a split in that of a file, as in `instances_train2017.json`.
SPLIT = re.compile(rf"(?<![a-z])({'|'.join(SPLIT_NAMES)})(?![a-z])")
REGION = re.compile(rb'"segmentation"\s*:\s*(\[\s*\[|\{)')
FOLDERS_OF_COCO = (
    *("images/{split}", "{split}", "images/{split}2017", "{split}2017", "{split}/images"),
    *("images", "JPEGImages", "."),
)


@dataclass(frozen=True, slots=True)
class Found:
    """A format that files of a folder are of.

    Args:
        class_path: The source that reads it.
        file: The file that tells, as seen from the folder.
        kinds: What its labels can be read as, the most natural first; empty where that is unknown.
        arguments: Arguments of the source.
        is_sure: Whether the content of the file agrees with its name.
        lacks: What the user has to add, where the files do not say it.
        has_kind: Whether the source has an argument `kind`.
    """

    class_path: str
    file: str
    kinds: tuple[Kind, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    is_sure: bool = True
    lacks: str = ""
    has_kind: bool = False

    @property
    def name(self) -> str:
        """Return the name of the source."""
        return self.class_path.rpartition(".")[2]


Look = Callable[[Path], Found | None]


def files_like(root: Path, *patterns: str) -> Iterator[Path]:
    """Yield the first files of each pattern, in order of their names."""
    for pattern in patterns:
        files = (file for file in root.glob(pattern) if not file.name.startswith("."))
        yield from islice(sorted(files), NUM_FILES)


def head(file: Path) -> str:
    """Return the first bytes of a file as text; nothing where it cannot be read."""
    with suppress(OSError, BadInput), open_regular(file) as opened:
        return (
            opened.read(HEAD)
            .decode("utf-8-sig", "replace")
            .replace("\r\n", "\n")
            .replace("\r", "\n")
        )
    return ""


def holds(file: Path, pattern: re.Pattern[bytes]) -> bool:
    """Whether a file holds what a pattern matches, as far as that lies within one part of it."""
    with suppress(OSError, BadInput), open_regular(file) as opened:
        before = b""
        while part := opened.read(PART):
            if pattern.search(before + part):
                return True
            before = part[-LONGEST:]
    return False


def _first(root: Path, *patterns: str) -> str | None:
    file = next(files_like(root, *patterns), None)
    return None if file is None else name_below(root, file)


def sagemaker_list(root: Path) -> Found | None:
    """Return SageMaker's lists of images with a class number each."""
    file = _first(root, "train_lst/**/*.lst")
    return None if file is None else Found(f"{SAGEMAKER}.SageMakerList", file, ("labels",))


def sagemaker_masks(root: Path) -> Found | None:
    """Return SageMaker's masks, which do not say how many classes there are."""
    file = _first(root, "train_annotation/**/*.png")
    if file is None:
        return None
    path = f"{SAGEMAKER}.SageMakerMasks"
    lacks = f"how many classes there are: --data.source={path} --data.source.num_classes=N"
    return Found(path, file, ("masks",), lacks=lacks)


def sagemaker_boxes(root: Path) -> Found | None:
    """Return SageMaker's files of boxes."""
    file = _first(root, "train_annotation/**/*.json")
    return None if file is None else Found(f"{SAGEMAKER}.SageMakerBoxes", file, ("boxes",))


def hugging_face(root: Path) -> Found | None:
    """Return Hugging Face's rows of metadata."""
    for file in files_like(root, *(f"{top}{name}" for top in ("", "*/") for name in METADATA)):
        lines = head(file).split("\n")
        if file.suffix == ".csv":
            columns = {column.strip() for row in csv.reader(lines[:1]) for column in row}
        else:
            columns = {*_first_object(lines)}
        if "file_name" in columns:
            is_boxes = "objects" in columns
            kinds: tuple[Kind, ...] = ("boxes",) if is_boxes else ("labels",)
            is_sure = is_boxes or "label" in columns
            return Found(f"{FORMATS}.HuggingFace", name_below(root, file), kinds, is_sure=is_sure)
    return None


def _first_object(lines: list[str]) -> dict[str, Any]:
    """Return the first of JSON lines; nothing where it is no object."""
    row: Any = None
    with suppress(ValueError, RecursionError):
        row = json.loads(next((line for line in lines if line.strip()), ""))
    return row if isinstance(row, dict) else {}


def manifest(root: Path) -> Found | None:
    """Return a list of images, in the folder or in each folder of a split."""
    endings = ("csv", "jsonl", "manifest")
    found = files_like(root, *(f"{top}*.{e}" for top in ("", "*/") for e in endings))
    lists = [file for file in found if file.name not in METADATA or _kinds_of_list(file)]
    kinds = {file: _kinds_of_list(file) for file in lists}
    file = next((file for file in lists if kinds[file]), lists[0] if lists else None)
    if file is None:
        return None
    return Found(
        f"{FORMATS}.ManifestFile", name_below(root, file), kinds[file], is_sure=bool(kinds[file])
    )


def _kinds_of_list(file: Path) -> tuple[Kind, ...]:
    """Return what the first row of a list of images labels, empty where it is no such list."""
    lines = head(file).split("\n")
    if file.suffix == ".csv":
        columns = {column.strip() for row in islice(csv.reader(lines[:1]), 1) for column in row}
        if is_box_table(dict.fromkeys(columns)):
            return ("boxes",)
        return ("labels",) if {"image", "label"} <= columns else ()
    row = _first_object(lines)
    if {"image", "label"} <= row.keys():
        return ("labels",)
    if not row.keys() & {"source-ref", "image-ref"}:
        return ()
    if any(isinstance(value, dict) and "annotations" in value for value in row.values()):
        return ("boxes",)
    others = row.keys() - {"source-ref", "image-ref"}
    return ("masks",) if any(name.endswith("-ref") for name in others) else ("labels",)


def coco(root: Path) -> Found | None:
    """Return COCO's annotations, with the folders of their images."""
    files = [*files_like(root, "annotations/*.json", "*/_annotations.coco.json", "*.json")]
    own = [file for file in files if _is_coco(head(file))]
    if not own:
        named = _first(root, "annotations/*.json")
        return None if named is None else Found(f"{FORMATS}.Coco", named, ("boxes",), is_sure=False)
    own.sort(key=lambda file: not file.name.startswith("instances"))
    file = own[0]
    path = name_below(root, file)
    annotations, images = path, "."
    splits = [*SPLIT.finditer(path)]
    if splits:
        place = splits[-1]
        annotations = f"{path[: place.start()]}{GAP}{path[place.end() :]}"
    names = re.findall(r'"file_name"\s*:\s*"([^"\\]+)"', head(file))[:1]
    for folder in FOLDERS_OF_COCO:
        below = root / folder.replace(GAP, splits[-1][0] if splits else GAP)
        if below.is_dir() and (not names or _is_below(below, names[0])):
            images = folder
            break
    kinds: tuple[Kind, ...] = ("boxes", "masks") if holds(file, REGION) else ("boxes",)
    given = {"images": images, "annotations": annotations}
    return Found(f"{FORMATS}.Coco", path, kinds, given, has_kind=True)


def _is_below(folder: Path, name: str) -> bool:
    """Whether a file of that name, which a stranger wrote, lies below a folder."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts and is_there(folder / name)


def _is_coco(text: str) -> bool:
    """Whether a JSON text begins as COCO's annotations do."""
    keys = re.findall(r'"(images|annotations|categories|info|licenses)"\s*:\s*[\[{]', text)
    return text.lstrip().startswith("{") and bool({*keys} - {"info", "licenses"})


def voc(root: Path) -> Found | None:
    """Return Pascal VOC's annotations, with the folders of them and of the images."""
    files = files_like(root, "Annotations/*.xml", "*/*.xml", "*.xml")
    file = next((f for f in files if re.search(r"<annotation[\s>]", head(f))), None)
    if file is None:
        named = _first(root, "Annotations/*.xml")
        return None if named is None else Found(f"{FORMATS}.Voc", named, ("boxes",), is_sure=False)
    folder = name_below(root, file.parent)
    images = next((f for f in ("JPEGImages", "images") if (root / f).is_dir()), folder)
    given = {"images": images, "annotations": folder}
    usual = {"images": "JPEGImages", "annotations": "Annotations"}
    differing = {} if given == usual else given
    return Found(f"{FORMATS}.Voc", name_below(root, file), ("boxes",), differing)


def masks(root: Path) -> Found | None:
    """Return masks with the file that says which number is which class."""
    if not (root / "classes.json").is_file():
        return None
    is_split = any((root / "images" / name).is_dir() for name in SPLIT_NAMES)
    is_plain = not is_split and (root / "images").is_dir() and (root / "masks").is_dir()
    given = {"images": "images", "masks": "masks"} if is_plain else {}
    return Found(f"{FORMATS}.Masks", "classes.json", ("masks",), given)


def labelme(root: Path) -> Found | None:
    """Return LabelMe's shapes."""
    own = {}
    for file in files_like(root, *(f"{'*/' * depth}*.json" for depth in range(4))):
        text = head(file)
        if re.match(r"\s*\{", text) and re.search(r'"shapes"\s*:\s*\[', text):
            own[file] = re.findall(r'"shape_type"\s*:\s*"(\w+)"', text)
    if not own:
        return None
    has_polygons = any("polygon" in types for types in own.values())
    kinds: tuple[Kind, ...] = ("masks", "boxes") if has_polygons else ("boxes", "masks")
    return Found(f"{FORMATS}.LabelMe", name_below(root, next(iter(own))), kinds, has_kind=True)


def label_studio(root: Path) -> Found | None:
    """Return Label Studio's exports JSON and JSON-MIN."""
    for file in files_like(root, "*.json"):
        text = head(file)
        found = {*re.findall(r'"((?:\w+labels)|choices|choice|labels)"\s*:', text)}
        is_export = re.search(r'"(annotations|annotation_id|completions)"\s*:', text)
        if not (re.match(r"\s*\[\s*\{", text) and is_export):
            continue
        kinds: tuple[Kind, ...] = ("boxes", "masks")
        if found & {"polygonlabels", "brushlabels"}:
            kinds = ("masks",) if "brushlabels" in found else ("masks", "boxes")
        elif not found - {"choices", "choice"}:
            kinds = ("labels",)
        return Found(f"{FORMATS}.LabelStudio", name_below(root, file), kinds, has_kind=True)
    return None


def yolo(root: Path) -> Found | None:
    """Return YOLO's layout: a YAML file with `names`, or a list of classes beside text files."""
    texts = files_like(root, *(f"{'*/' * depth}*.txt" for depth in range(4)))
    rows = [row for text in texts for row in head(text).split("\n") if _is_row(row)]
    yamls = files_like(root, *YAML, "*.yaml", "*.yml")
    file = next((f for f in yamls if _is_yolo(head(f), bool(rows))), None)
    named = next((root / name for name in NAMES if (root / name).is_file()), None)
    if file is None and (named is None or not rows):
        return None
    own = name_below(root, file or named or root)
    has_polygons = any(len(row.split()) > 5 for row in rows)
    kinds: tuple[Kind, ...] = ("masks", "boxes") if has_polygons else ("boxes",)
    return Found(f"{FORMATS}.Yolo", own, kinds, has_kind=True)


def _is_yolo(text: str, has_rows: bool) -> bool:
    """Whether a YAML text names classes, and where images are unless there are rows of labels."""
    has_names = re.search(r"^(names|nc)\s*:", text, re.M)
    return bool(has_names and (has_rows or re.search(r"^(train|val)\s*:", text, re.M)))


def _is_row(row: str) -> bool:
    """Whether a row of a text file is a box or a polygon of YOLO's."""
    return bool(re.fullmatch(r"\s*\d+(\s+[-+.\deE]+){4,}\s*", row[:10_000]))


# In the order in which SageMaker's jobs take the first that is there.
SIGNS: tuple[Look, ...] = (
    *(sagemaker_list, sagemaker_masks, sagemaker_boxes),
    *(hugging_face, manifest, coco, voc, masks, yolo, labelme, label_studio),
)
