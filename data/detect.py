"""The format of a folder of images, told by its files: what reads it, or why nothing does."""

import os
from inspect import signature
from pathlib import Path
from typing import Any

from regrow.data import formats, sagemaker
from regrow.data.names.listing import IMAGES, list_folders
from regrow.data.signs import FORMATS, SIGNS, Found
from regrow.data.source import Source, locate
from regrow.data.targets.labels import Kind
from regrow.errors import BadInput
from regrow.files import SPLIT_NAMES

TASKS: dict[Kind, str] = {
    "labels": "classification",
    "boxes": "detection",
    "masks": "segmentation",
}
WANTED: dict[Kind, str] = {
    "labels": "labels: one folder a class, or a list such as CSV with the columns image and label",
    "boxes": "boxes: YOLO's data.yaml, COCO's or LabelMe's JSON, or Pascal VOC's XML",
    "masks": "masks: images/, masks/ and classes.json, or polygons of YOLO, COCO or LabelMe",
}
FOLDERS = f"{FORMATS}.ImageFolder"
ONE_CLASS = f"--data.source {FOLDERS}"
# Folders that tools put all images into, whatever they show.
OF_NO_CLASS = ("images", "imgs", "image", "img", "jpegimages", "pictures", "photos", "data")


def detect(root: Path, kind: Kind | None = None) -> dict[str, Any]:
    """Return the source that reads a folder, as a config describes it.

    Args:
        root: The folder of the data.
        kind: The labels that a task needs; None takes what the files are most likely meant for.

    Returns:
        `class_path`, and `init_args` as far as they differ from the defaults.

    Raises:
        BadInput: If there are no images, no labels or those of another task, or two formats.
    """
    root = locate(root)
    every = find_formats(root)
    found = [own for own in every if own.is_sure]
    folders = _class_folders(root)
    if not found:
        by_folder = [Found(FOLDERS, f"{folders[0]}/", ("labels",))] if len(folders) > 1 else []
        found = by_folder or every
    if not _has_images(root):
        raise BadInput(
            f"{root}: no pictures in it ({', '.join(IMAGES[:5])} and others are read); give the "
            "folder that holds the images and their labels, --data.root"
        )
    if not found:
        raise BadInput(_without_labels(root, folders, kind))
    fitting = [own for own in found if kind is None or not own.kinds or kind in own.kinds]
    if kind is not None and not fitting:
        raise BadInput(_of_another_task(root, found, kind))
    if len(fitting) > 1:
        names = " and ".join(f"{own.name} ({own.file})" for own in fitting)
        ways = " or ".join(f"--data.source={own.class_path}" for own in fitting)
        raise BadInput(f"{root}: labels in {len(fitting)} formats, {names}; name one: {ways}")
    return _described(root, fitting[0], kind)


def find_formats(root: Path) -> list[Found]:
    """Return the formats whose files a folder has, but for folders of classes.

    Args:
        root: The folder of the data.

    Returns:
        At most one for each source, in the order in which SageMaker's jobs prefer them.
    """
    return [found for look in SIGNS if (found := look(root)) is not None]


def first_format(root: Path) -> Found:
    """Return the first format whose files a folder has, else folders of classes."""
    found = (own for look in SIGNS if (own := look(root)) is not None)
    return next(found, Found(FOLDERS, "", ("labels",)))


def arguments_of(found: Found, kind: Kind | None = None) -> dict[str, Any]:
    """Return the arguments of a source that differ from its defaults.

    Args:
        found: The format.
        kind: What its labels are read as; None takes the most natural.
    """
    arguments = dict(found.arguments)
    if found.has_kind and found.kinds:
        arguments["kind"] = kind or found.kinds[0]
    own = _source(found)
    usual = {name: one.default for name, one in signature(own).parameters.items()}
    return {name: value for name, value in arguments.items() if usual.get(name) != value}


def _source(found: Found) -> type[Source]:
    room = formats if found.class_path.startswith(f"{FORMATS}.") else sagemaker
    source: type[Source] = getattr(room, found.name)
    return source


def _described(root: Path, found: Found, kind: Kind | None) -> dict[str, Any]:
    if found.lacks:
        raise BadInput(f"{root}: {found.file} does not say {found.lacks}")
    return {"class_path": found.class_path, "init_args": arguments_of(found, kind)}


def _has_images(root: Path) -> bool:
    """Whether there is an image anywhere below a folder."""
    return any(
        os.path.splitext(name)[1].lower() in IMAGES and not name.startswith(".")
        for _, _, names in os.walk(root)
        for name in names
    )


def _class_folders(root: Path) -> list[str]:
    """Return the names of the folders that images lie in as folders of classes do."""
    folders = list_folders(root)
    splits = [folder for folder in folders if folder.name.lower() in SPLIT_NAMES]
    below = [inner for folder in splits for inner in list_folders(folder)] if splits else folders
    found = {f.name for f in below if f.name.lower() not in OF_NO_CLASS and _has_images(f)}
    return sorted(found)


def _without_labels(root: Path, folders: list[str], kind: Kind | None) -> str:
    """Return the line for images without any labels that are known."""
    where = f"all in one folder, {folders[0]}" if folders else "in no folders of classes"
    wanted = WANTED[kind] if kind else "; or ".join(WANTED.values())
    hint = ""
    if kind == "labels" and len(folders) == 1:
        hint = f"one class alone needs its format named, as for a warm start: {ONE_CLASS}; else "
    if (root / "masks").is_dir():
        hint = 'masks/ needs classes.json beside it, as {"sky": 0, "road": 1}; '
    return (
        f"{root}: pictures ({where}) without labels of a known format; {hint}add {wanted}; or name "
        "the source, --data.source"
    )


def _of_another_task(root: Path, found: list[Found], kind: Kind) -> str:
    """Return the line for labels that a task cannot use."""
    held = " and ".join(f"{own.kinds[0]} ({own.name}, {own.file})" for own in found)
    ways = " or ".join(dict.fromkeys(f"--task {TASKS[k]}" for own in found for k in own.kinds[:1]))
    return (
        f"{root}: holds {held}, and {TASKS[kind]} needs {WANTED[kind]}; train with {ways}, or add "
        "such labels"
    )
