"""Files: named, read with errors that name them, and written whole."""

import contextlib
import hashlib
import io
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from regrow.errors import BadInput, CannotWrite
from regrow.plain import parse_json, parse_yaml
from regrow.text import printable

# What people call the three splits.
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
LARGE = 2**31  # bytes of a list of annotations; COCO's largest has 4.7e8
SMALL = 2**24  # bytes of a file about one image or one run
CONFIG = 2**20  # bytes of a config
IRREGULAR = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
LONGEST_PREFIX = 100  # characters of a file's name in that of its temporary one
GAP = "{split}"  # where the pattern of a path names a split


def name_below(root: Path, file: Path) -> str:
    """Return the path of a file relative to a folder, with forward slashes."""
    return Path(os.path.relpath(file, root)).as_posix()


def is_there(path: Path) -> bool:
    """Whether a path, perhaps a stranger's, leads to a file; one that no system takes does not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to read its bytes; what may hang or never end, such as a pipe, is refused.

    Raises:
        BadInput: If it is no regular file.
        OSError: If it is not there, or may not be read.
    """
    try:
        _refuse_irregular(path, path.stat())  # before it is opened: some devices act on that
    except ValueError as error:  # a name with a NUL
        raise BadInput(f"{path}: no name of a file ({error})") from error
    # Without waiting, should a pipe have taken its place in between.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_irregular(path, os.fstat(handle))
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _refuse_irregular(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = next((name for is_it, name in IRREGULAR if is_it(status.st_mode)), "no file")
        raise BadInput(f"{path} is {found}; it must be a file that may be read")


def read_bytes(path: Path, limit: int = LARGE) -> bytes:
    """Return the content of a file.

    Args:
        path: The file.
        limit: How many bytes it may have.

    Raises:
        BadInput: If it cannot be read, is no regular file, or has more bytes.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            # Files of the kernel's have no size, and one may grow meanwhile.
            content = file.read(limit + 1) if size <= limit else b""
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from error
    if max(size, len(content)) > limit:
        raise BadInput(f"{path}: more than {limit:,} bytes; no such file of regrow's has so many")
    return content


def read_text(path: Path, limit: int = LARGE) -> str:
    """Return the text of a file, of so many bytes at most."""
    content = read_bytes(path, limit)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: cannot be read as UTF-8 text ({error})") from error


def read_json(path: Path, limit: int = LARGE) -> Any:
    """Return what a JSON file of so many bytes at most holds."""
    return parse_json(read_text(path, limit), str(path))


def read_yaml(path: Path) -> Any:
    """Return what a YAML file holds, such as a config."""
    return parse_yaml(read_text(path, CONFIG), str(path))


def file_hash(path: Path) -> str:
    """Compute the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, values: Any, indent: int | None = None) -> None:
    """Write values that JSON can hold, all or none of them."""
    text = json.dumps(values, indent=indent, ensure_ascii=False)
    write_text(path, f"{text}\n")


def write_text(path: Path, text: str) -> None:
    """Write a text, all or nothing of it.

    A byte of a file's name that is no UTF-8 becomes an escape, from which JSON reads the same name
    back.
    """
    write_atomic(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part.

    Args:
        path: The file; its folder is made.
        write: Writes the content into an open binary file.

    Raises:
        CannotWrite: If the disk is full, or the file may not be written; the old one stays.
    """
    raw: _Watched | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:LONGEST_PREFIX]}.")
        try:
            raw = _Watched(handle, "wb")
            with io.BufferedWriter(raw) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    except OSError as error:
        raise CannotWrite(error, str(path)) from error
    except RuntimeError as error:  # how torch.save says that a write has failed, and not why
        if raw is None or raw.error is None:
            raise
        raise CannotWrite(raw.error, str(path)) from error


class _Watched(io.FileIO):
    """A file that keeps the error which ended its writing."""

    error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write, and keep the error if that fails."""
        try:
            return super().write(content)
        except OSError as error:
            self.error = error
            raise


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk, so that a new file in it survives a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folder(folder: Path) -> None:
    """Make a folder, and those around it, where they are not there.

    Raises:
        CannotWrite: If it cannot be made, as where a file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(error, str(folder)) from error


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Fill a folder so that a reader sees the old one or the new one, never a part.

    Between the two renames there is none for an instant.

    Args:
        folder: The folder; its parent is made.

    Yields:
        An empty folder, which takes the place of the old one when it is filled without an error.

    Raises:
        CannotWrite: If it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        holder = tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.")
    except OSError as error:
        raise CannotWrite(error, str(folder)) from error
    with holder as name:
        made = Path(name) / folder.name
        made.mkdir()
        yield made
        if folder.exists():
            folder.rename(Path(name) / f"{folder.name}.before")
        made.rename(folder)


def one_line(error: Exception) -> str:
    """Return the message of an error on one printable line; its type where it says nothing."""
    return printable(str(error)) or type(error).__name__
