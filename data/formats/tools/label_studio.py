"""Label Studio: tasks with annotations in one JSON file, as its exports JSON and JSON-MIN.

Source: https://labelstud.io/guide/export.html.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from regrow.data.checks.faults import BOXES, Faults, shown
from regrow.data.checks.remarks import Remarks
from regrow.data.formats.tools.label_studio_values import (
    BRUSH,
    FACTS,
    POLYGON,
    Result,
    results_of,
    shape_of,
    size_of,
)
from regrow.data.formats.tools.shapes import Labelled, Shape, items_of
from regrow.data.formats.unlisted import count_unlisted
from regrow.data.images.opening import CorruptImage, image_size
from regrow.data.names.listing import IMAGES, split_by_folder
from regrow.data.names.lookup import match_files
from regrow.data.names.tidy import clean_name
from regrow.data.source import Content, Source, locate
from regrow.data.targets.labels import Item, Kind
from regrow.errors import BadInput
from regrow.files import name_below, read_json

UNANSWERED = "tasks left out that nobody has annotated"
SEVERAL = "images of several annotations, of which the last is read"
UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # before the name of a file that was uploaded


@dataclass(frozen=True, slots=True)
class Task:
    """A task that somebody has annotated.

    Args:
        image: The name of its image.
        results: What was said of it.
    """

    image: str
    results: Sequence[Result]


class LabelStudio(Source):
    """Images with the annotations of Label Studio, exported as JSON or JSON-MIN.

    Choices are classes of images; rectangles, ellipses, polygons and brush strokes are boxes or
    masks. Images are found by the end of their address, such as `/data/upload/1/a.jpg` or
    `/data/local-files/?d=a.jpg`, below the root or its folder `images`. Of an image that several
    people have annotated the last annotation is read.

    Args:
        file: The export, below the root; null takes the only JSON file there.
        kind: The labels to read: `labels` (choices), `boxes` (around polygons too), or `masks`,
            later ones on top; null takes what there is.
        tag: The name of the control tag whose results are read, where there are several; null
            reads all.
        image: The key of the image in a task; null takes `image`, or the only one that holds one.
        background: The class of pixels in no region, for masks; null makes them void.
        group: Groups of images that a split keeps together, see `Source`.
    """

    def __init__(
        self,
        file: str | None = None,
        kind: Kind | None = None,
        tag: str | None = None,
        image: str | None = None,
        background: str | None = "background",
        group: str | None = None,
    ) -> None:
        super().__init__(group)
        self.file, self.kind, self.tag, self.image = file, kind, tag, image
        self.background = background

    def _read(self, root: Path | None, faults: Faults) -> Content:
        """Read all tasks that somebody has annotated."""
        root, remarks = locate(root), Remarks()
        path = root / self.file if self.file else _only_file(root)
        tasks: dict[str, Task] = {}
        entries = read_json(path)
        if not isinstance(entries, list):
            raise BadInput(f"{path}: not Label Studio's JSON; it is a list of tasks")
        for number, entry in enumerate(entries, 1):
            where = f"{path}: task {number}"
            with faults.row(where):
                task = self._task(entry, where, remarks)
                if task is not None:
                    tasks[where] = task
        kind = self.kind or _kind_of(tasks.values(), path)
        files = find_images({w: t.image for w, t in tasks.items()}, root, faults)
        count_unlisted(root, {*files.values()}, remarks)
        if kind == "labels":
            items = [*self._labels(tasks, files, root, faults)]
            classes = sorted({str(item.target) for item in items})
        else:
            labelled = []
            for where, file in files.items():
                with faults.row(where):
                    labelled.append(
                        _labelled(tasks[where], file, root, where, kind == "boxes", faults)
                    )
            names = sorted({shape.name for one in labelled for shape in one.shapes})
            classes, items = items_of(labelled, kind, names, self.background, root)
        if not items:
            faults.refuse()
            raise BadInput(f"{path}: has no annotated images")
        return Content(kind, classes, items, remarks)

    def _task(self, entry: Any, where: str, remarks: Remarks) -> Task | None:
        """Return what was said of an image; None where nobody has annotated it."""
        if not isinstance(entry, dict):
            raise BadInput(f"{where}: {shown(entry)} is no task")
        is_whole = "data" in entry
        image = self._image(entry["data"] if is_whole else entry, where)
        annotation = None
        if is_whole:
            given = entry.get("annotations", entry.get("completions", []))
            if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
                raise BadInput(f"{where}: its annotations are {shown(given)}; correct them")
            kept = [one for one in given if not one.get("was_cancelled")]
            remarks.add(UNANSWERED, shown(image), int(not kept))
            remarks.add(SEVERAL, shown(image), int(len(kept) > 1))
            if not kept:
                return None
            annotation = kept[-1]
        try:
            results = [*results_of(entry, annotation), *self._words(entry, is_whole)]
        except ValueError as error:
            raise BadInput(f"{where}: {error}; correct it") from error
        return Task(image, [r for r in results if self.tag in (None, r.tag)])

    def _image(self, data: Any, where: str) -> str:
        """Return the name of the image of a task."""
        values = data if isinstance(data, dict) else {}
        found = [
            value
            for key, value in values.items()
            if isinstance(value, str) and _name_of(value).lower().endswith(IMAGES)
        ]
        named = values.get(self.image or "image")
        if isinstance(named, str) and named:
            return _name_of(named)
        if self.image is None and len(found) == 1:
            return _name_of(found[0])
        raise BadInput(
            f"{where}: {len(found)} images in {shown(data)}; say which key, data.source.image"
        )

    def _words(self, entry: Mapping[str, Any], is_whole: bool) -> Iterator[Result]:
        """Yield the choices of a row of JSON-MIN, which are words alone."""
        for key, value in entry.items() if not is_whole else ():
            is_word = isinstance(value, str) and key not in FACTS and key != self.image
            if is_word and not _name_of(value).lower().endswith(IMAGES):
                yield Result(key, (clean_name(value),), None, {})

    def _labels(
        self, tasks: Mapping[str, Task], files: Mapping[str, Path], root: Path, faults: Faults
    ) -> Iterator[Item]:
        """Yield the images with the class that was chosen for each."""
        for where, file in files.items():
            with faults.row(where):
                results = [r for r in tasks[where].results if r.shape is None]
                chosen = [name for result in results for name in result.classes]
                if len(chosen) != 1:
                    raise BadInput(
                        f"{where}: {len(chosen)} choices ({shown(', '.join(chosen))}); an image "
                        "has one class: choose one, or say which tag, data.source.tag"
                    )
                name = name_below(root, file)
                yield Item(name, file, chosen[0], split_by_folder(root, file))


def _only_file(root: Path) -> Path:
    found = sorted(file for file in root.glob("*.json") if not file.name.startswith("."))
    if len(found) != 1:
        raise BadInput(f"{root}: {len(found)} JSON files in it; name the export, data.source.file")
    return found[0]


def _kind_of(tasks: Any, path: Path) -> Kind:
    """Return what results are, where they are of one kind."""
    shapes = {result.shape for task in tasks for result in task.results}
    if None in shapes and len(shapes) > 1:
        raise BadInput(
            f"{path}: has choices and regions; say which to read, data.source.kind labels, boxes "
            "or masks"
        )
    if shapes & {POLYGON, BRUSH}:
        return "masks"
    return "labels" if None in shapes else "boxes"


def _labelled(
    task: Task, file: Path, root: Path, where: str, needs_box: bool, faults: Faults
) -> Labelled:
    """Return an image with the objects that were marked on it."""
    try:
        size = image_size(file)
    except CorruptImage:  # for whoever decodes it to say, or to skip
        size = (1, 1)
    shapes: list[Shape] = []
    regions = [result for result in task.results if result.shape is not None]
    for number, result in enumerate(regions, 1):
        place = f"{where} region {number}"
        with faults.row(place, BOXES):
            try:
                shapes.append(shape_of(result, size, needs_box))
            except KeyError as error:
                raise BadInput(f"{place} has no {error}; correct or remove it") from error
            except (TypeError, ValueError) as error:
                raise BadInput(f"{place} {error}; correct or remove it") from error
    said = {own for result in regions if (own := size_of(result)) is not None}
    if len(said) > 1:
        raise BadInput(f"{where}: its regions are of images of several sizes; correct them")
    return Labelled(file, shapes, split_by_folder(root, file), next(iter(said), None), where)


def _name_of(address: str) -> str:
    """Return the name of a file in an address of Label Studio's."""
    path, _, query = address.partition("?")
    local = re.search(r"(?:^|&)d=([^&]*)", query)
    return unquote(local.group(1)) if local else path


def find_images(names: Mapping[str, str], root: Path, faults: Faults) -> dict[str, Path]:
    """Find the images of tasks by the ends of their addresses, one to one.

    Args:
        names: The name of the image of each task.
        root: The folder of the data.
        faults: Where tasks are noted whose image is not there.

    Returns:
        The file of each other task. Uploads have a prefix, which the files may have or not: that
        is one decision for all of them.
    """
    folders = [folder for folder in (root, root / "images") if folder.is_dir()]
    short = {where: _without_prefix(name) for where, name in names.items()}
    plain = {where: unquote(name) for where, name in names.items()}
    tries = [own for own in (names, plain, short) if own != names or own is names]
    found = [len(match_files(own, folders, Faults())) for own in tries]
    return match_files(tries[found.index(max(found))], folders, faults)


def _without_prefix(name: str) -> str:
    folder, slash, file = name.rpartition("/")
    return f"{folder}{slash}{UPLOADED.sub('', file)}"
