"""Archives of models: members are checked before their bytes are read, and few are unpacked."""

import gzip
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import IO

from regrow.errors import BadInput
from regrow.files import one_line, open_regular, whole_folder

ARCHIVES = (".tar.gz", ".tgz", ".tar")
# What an archive may become: so many times its bytes, and so many in all. Weights of which 95 % are
# zero shrink to a twelfth.
RATIO, LARGEST = 100, 2**37
SMALL = 2**24  # bytes of an archive, or of a header in it, whatever the ratio
NUM_MEMBERS = 1_000_000

Wanted = Iterable[tuple[tarfile.TarInfo, PurePosixPath]]


def unpack_members(
    path: Path, folder: Path, wanted: Callable[[Sequence[tarfile.TarInfo]], Wanted]
) -> None:
    """Replace a folder by some members of an archive.

    An archive with links, devices, or names that lead out of it is refused as a whole, and so is
    one that unpacks without bound.

    Args:
        path: The archive, compressed or not.
        folder: The folder.
        wanted: Returns the members to unpack, in their order, of all of them, and the name that
            each gets in the folder.

    Raises:
        BadInput: If the archive cannot be trusted or read.
    """
    try:
        with open_regular(path) as packed:
            content = _Limited(packed)
            archive = tarfile.open(fileobj=content, mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
            chosen = list(wanted(_members(archive, path)))
            content.is_listed = True
            _refuse_full(folder, sum(member.size for member, _ in chosen), path)
            with whole_folder(folder) as made:
                # In their order, since going back in a compressed archive reads it from the start.
                for member, name in chosen:
                    _write(archive, member, made / name)
    except BadInput:
        raise
    except Exception as error:  # a torn or hostile archive makes its readers raise a dozen kinds
        raise BadInput(
            f"{path}: cannot be unpacked ({one_line(error)}); give a training job's model.tar.gz"
        ) from error


class _Limited:
    """The bytes of an archive, compressed or not, which neither go on without end nor in circles.

    Args:
        packed: The open file.

    Attributes:
        is_listed: Whether its members are known; until then it is read forwards.
    """

    is_listed = False

    def __init__(self, packed: IO[bytes]) -> None:
        size = os.fstat(packed.fileno()).st_size
        is_gzip = packed.read(2) == b"\x1f\x8b"
        packed.seek(0)
        self.file: IO[bytes] = gzip.GzipFile(fileobj=packed) if is_gzip else packed  # type: ignore[assignment]
        self.limit = min(LARGEST, RATIO * size + SMALL)

    def read(self, size: int = -1) -> bytes:
        """Read so many bytes; a header says how many it has, and may lie."""
        if not 0 <= size <= SMALL:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        self._check(self.file.tell() + size)
        return self.file.read(size)

    def seek(self, place: int) -> int:
        """Go to a place."""
        self._check(place)
        if not self.is_listed and place < self.file.tell() - 1:  # a member of less than no bytes
            raise tarfile.ReadError("a member that ends before it begins")
        return self.file.seek(place)

    def tell(self) -> int:
        """Return the place."""
        return self.file.tell()

    def _check(self, place: int) -> None:
        if place > self.limit + tarfile.RECORDSIZE:
            raise tarfile.ReadError(f"more than {self.limit:,} bytes, {RATIO} times what it has")


def _members(archive: tarfile.TarFile, path: Path) -> list[tarfile.TarInfo]:
    """Return the members of an archive; each is checked before its bytes are gone through."""
    members = []
    for member in archive:
        _refuse_unsafe(member, path)
        members.append(member)
        if len(members) > NUM_MEMBERS:
            raise BadInput(f"{path}: more than {NUM_MEMBERS:,} members; pack the checkpoint alone")
    return members


def _refuse_full(folder: Path, size: int, path: Path) -> None:
    place = next(parent for parent in folder.absolute().parents if parent.is_dir())
    free = shutil.disk_usage(place).free
    if size > free:
        raise BadInput(f"{path}: its {size:,} bytes do not fit into {place}, which has {free:,}")


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = archive.extractfile(member)
    if source is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(source, file)


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    path = Path(member.name)
    if path.is_absolute() or ".." in path.parts or not _is_plain(member):
        raise BadInput(
            f"{archive}: refused, its member {member.name!r} is a link, a device or leads out of "
            "the archive, or has holes; pack the checkpoint alone, or with its memory"
        )


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.isdir() or (member.isfile() and not member.issparse())
