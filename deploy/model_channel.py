"""What a training job begins from: a checkpoint and its memory, out of the model channel."""

import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from regrow.data.errors import BadInput
from regrow.data.files import whole_folder
from regrow.data.stored import MEMORY

# Of the checkpoints that a model channel may hold, the one that was shipped comes first.
WARM_STARTS = ("pruned.ckpt", "best.ckpt", "last.ckpt")
# What SageMaker's own built-in algorithms leave.
MXNET = (".params", "-symbol.json")
ARCHIVES = (".tar.gz", ".tgz", ".tar")
UNPACKED = "warm_start.ckpt"


def warm_start(channel: Path, folder: Path, *, unpack: bool = True) -> Path:
    """Find the checkpoint in a model channel, which may be an archive as a training job leaves it.

    Nothing of an archive is unpacked but the bytes of the one checkpoint, to a name of our own, and
    the files of the memory beside it. An archive with links, devices, or names that lead out of it
    is refused as a whole.

    Args:
        channel: The channel's folder.
        folder: Where the checkpoint of an archive is put, as `warm_start.ckpt`, and its memory, as
            `memory/`. What is there is replaced when both are unpacked.
        unpack: Whether to unpack an archive; else it is taken as unpacked already.

    Raises:
        BadInput: If there is no checkpoint, or several that none of the known names tells apart, or
            the archive cannot be trusted or read.
    """
    files = sorted(file for file in channel.rglob("*") if file.is_file())
    archives = [file for file in files if file.name.endswith(ARCHIVES)]
    checkpoints = [file for file in files if file.suffix == ".ckpt"]
    if checkpoints or not archives:
        return checkpoints[_choice([str(c.relative_to(channel)) for c in checkpoints], channel)]
    if len(archives) > 1:
        raise BadInput(f"channel {channel.name}: {len(archives)} archives in it; leave one")
    if unpack:
        _unpack(archives[0], folder)
    return folder / UNPACKED


def _unpack(path: Path, folder: Path) -> None:
    """Replace a folder by the checkpoint of an archive and the memory beside it."""
    try:
        with tarfile.open(path) as archive:
            wanted = _wanted(archive.getmembers(), path)
            with whole_folder(folder) as made:
                # In their order, since going back in a compressed archive reads it from the start.
                for member, name in wanted:
                    _write(archive, member, made / name)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BadInput(
            f"{path}: cannot be unpacked ({error}); give a training job's model.tar.gz"
        ) from error


def _wanted(
    members: Sequence[tarfile.TarInfo], archive: Path
) -> list[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Give the members to unpack, in their order, and the name that each gets."""
    for member in members:
        _refuse_unsafe(member, archive)
    files = [member for member in members if member.isfile()]
    held = [member for member in files if member.name.endswith(".ckpt")]
    foreign = [member.name for member in members if member.name.endswith(MXNET)]
    if foreign and not held:
        raise BadInput(
            f"{archive}: {foreign[0]} is of MXNet, whose weights regrow cannot load; "
            "train a first model without the channel"
        )
    checkpoint = held[_choice([member.name for member in held], archive)]
    beside = PurePosixPath(checkpoint.name).parent
    wanted = []
    for member in files:
        name = PurePosixPath(member.name)
        if member is checkpoint:
            wanted.append((member, PurePosixPath(UNPACKED)))
        elif name.is_relative_to(beside / MEMORY):
            wanted.append((member, name.relative_to(beside)))
    return wanted


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    source = archive.extractfile(member)
    if source is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(source, file)


def _choice(names: Sequence[str], where: Path) -> int:
    """Give the place of the checkpoint to start from."""
    for wanted in WARM_STARTS:
        places = [place for place, name in enumerate(names) if Path(name).name == wanted]
        if len(places) == 1:
            return places[0]
    if len(names) == 1:
        return 0
    found = ", ".join(names) or "none"
    raise BadInput(f"{where}: needs one checkpoint named {', '.join(WARM_STARTS)}; it has {found}")


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    path = Path(member.name)
    if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
        raise BadInput(
            f"{archive}: refused, its member {member.name!r} is a link, a device or leads out of "
            "the archive; pack the checkpoint alone, or with its memory"
        )
