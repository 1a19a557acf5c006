"""Listing of the images and folders in a folder; what is left out is counted."""

import os
from pathlib import Path

from regrow.data.checks.remarks import Remarks
from regrow.errors import BadInput
from regrow.files import SPLIT_NAMES

IMAGES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp"),
    *(".tif", ".tiff", ".ppm", ".pgm", ".gif"),
)
# Pictures by their endings, which regrow does not read.
OTHER_IMAGES = (
    *(".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx", ".apng", ".tga"),
    *(".svg", ".psd", ".eps", ".pdf", ".ico", ".exr", ".hdr", ".dcm", ".nii", ".pbm", ".pnm"),
    *(".dng", ".raw", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".mp4", ".avi", ".mov"),
)
# What systems and tools leave in folders.
SYSTEM_FOLDERS = (
    *("__MACOSX", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN"),
    "System Volume Information",
)
SYSTEM_FILES = ("thumbs.db", "desktop.ini")

HIDDEN = "hidden or system's files and folders left out"
LINKED = "links to folders not followed"
BROKEN = "links that lead nowhere left out"
OF_OTHER_ENDINGS = "images left out whose ending is not read (save them as JPEG or PNG)"
OTHERS = "files left out whose ending is that of no image"
LOCKED = "folders left out that may not be read"


def list_folders(root: Path, remarks: Remarks | None = None) -> list[Path]:
    """List the folders in a folder, less those that are hidden or a system's.

    Args:
        root: The folder.
        remarks: Where those that are left out are counted.
    """
    if not root.is_dir():
        raise BadInput(f"{root}: not a folder")
    folders = sorted(f for f in root.iterdir() if f.is_dir())
    if remarks is not None:
        for folder in folders:
            remarks.add(HIDDEN, folder.name, count=int(_is_hidden(folder.name)))
    return [f for f in folders if not _is_hidden(f.name)]


def list_images(
    folder: Path, remarks: Remarks | None = None, counts_others: bool = False
) -> list[Path]:
    """List the images below a folder; hidden files, such as a Mac's, are none.

    Args:
        folder: The folder.
        remarks: Where what is left out is counted.
        counts_others: Whether files that are no images are counted too.
    """
    remarks = Remarks() if remarks is None else remarks
    files = []

    def locked(error: OSError) -> None:
        remarks.add(LOCKED, str(error.filename))

    for place, folders, names in os.walk(folder, onerror=locked):
        folders[:] = [n for n in sorted(folders) if _is_followed(Path(place, n), remarks)]
        for name in sorted(names):
            file = Path(place, name)
            kind = _left_out(file, counts_others)
            if kind is None:
                files.append(file)
            elif kind:
                remarks.add(kind, str(file.relative_to(folder)))
    return sorted(files)


def split_by_folder(root: Path, file: Path) -> str | None:
    """Return the official split that a folder of a file is called after, if one is.

    Args:
        root: The folder of the data; folders above it do not count.
        file: The file, as `train/a.jpg`, `images/val/a.jpg` or CVAT's `obj_train_data/a.jpg`.
    """
    for folder in file.relative_to(root).parts[:-1]:
        name = folder.lower().removeprefix("obj_").removesuffix("_data")
        if name in SPLIT_NAMES:
            return SPLIT_NAMES[name]
    return None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in SYSTEM_FOLDERS


def _is_followed(folder: Path, remarks: Remarks) -> bool:
    kind = HIDDEN if _is_hidden(folder.name) else LINKED if folder.is_symlink() else None
    if kind is not None:
        remarks.add(kind, folder.name)
    return kind is None


def _left_out(file: Path, counts_others: bool) -> str | None:
    """Return why a file is left out: None where it is not, empty where nobody misses it."""
    ending = file.suffix.lower()
    if file.name.startswith("._") or file.name.lower() in SYSTEM_FILES:
        return ""
    if ending not in IMAGES:
        if ending in OTHER_IMAGES:
            return OF_OTHER_ENDINGS
        return OTHERS if counts_others and not file.name.startswith(".") else ""
    if file.name.startswith("."):
        return HIDDEN
    if file.is_file():
        return None
    return BROKEN if file.is_symlink() else OTHERS
