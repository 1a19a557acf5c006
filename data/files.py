"""Files below a folder: listed, found, read with errors that name them, and written whole."""

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from regrow.data.errors import BadInput

IMAGES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
# What people call the three splits.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
GAP = "{split}"  # where the pattern of a path names a split


def list_folders(root: Path) -> list[Path]:
    """List the folders in a folder, less the hidden ones."""
    if not root.is_dir():
        raise BadInput(f"{root}: not a folder")
    return sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith("."))


def list_images(folder: Path) -> list[Path]:
    """List the images below a folder; hidden files, such as a Mac's, are none."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in IMAGES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    )


def find_file(root: Path, name: str) -> Path | None:
    """Find a file by its name, or by the end of its S3 address, below a folder."""
    parts = Path(re.sub(r"^s3://[^/]+/", "", name)).parts
    for start in range(len(parts)):
        # Links may lead anywhere; names may not.
        file = Path(os.path.abspath(root.joinpath(*parts[start:])))
        with contextlib.suppress(OSError):  # a name that is too long
            if file.is_relative_to(os.path.abspath(root)) and file.is_file():
                return file
    return None


def name_below(root: Path, file: Path) -> str:
    """Give the name of a file as it is seen from a folder."""
    return Path(os.path.relpath(file, root)).as_posix()


def read_text(path: Path) -> str:
    """Give the text of a file."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (UnicodeDecodeError, OSError) as error:
        raise BadInput(f"{path}: cannot be read as UTF-8 text ({error})") from error


def read_json(path: Path) -> Any:
    """Give what a JSON file holds."""
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise BadInput(f"{path}: cannot be read as JSON ({error})") from error


def write_json(path: Path, values: Any, indent: int | None = None) -> None:
    """Write values that JSON can hold, all or none of them."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    write_atomic(path, lambda file: file.write(f"{text}\n".encode()))


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Args:
        path: The file; its folder is made.
        write: Writes the content into an open binary file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder so that a reader sees the old one or the new one, never a part.

    Between the two renames there is none for an instant.

    Args:
        folder: The folder; its parent is made.

    Yields:
        An empty folder, which takes the place of the old one when it is filled without an error.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as name:
        made = Path(name) / folder.name
        made.mkdir()
        yield made
        if folder.exists():
            folder.rename(Path(name) / f"{folder.name}.before")
        made.rename(folder)


def one_line(error: Exception) -> str:
    """Give the message of an error on one line."""
    return " ".join(str(error).split())
