"""The model channel of a training job: a checkpoint to start from, and its memory."""

import tarfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path, PurePosixPath

from regrow.data.stored import MEMORY
from regrow.deploy.archives import ARCHIVES, unpack_members
from regrow.errors import BadInput

# Of the checkpoints that a model channel may hold, the one that was shipped comes first.
WARM_STARTS = ("pruned.ckpt", "best.ckpt", "last.ckpt")
# What SageMaker's own built-in algorithms leave.
MXNET = (".params", "-symbol.json")
UNPACKED = "warm_start.ckpt"


def warm_start(channel: Path, folder: Path, *, unpack: bool = True) -> Path:
    """Return the checkpoint in a model channel, perhaps out of the archive of a training job.

    Nothing of an archive is unpacked but the bytes of the one checkpoint, to a name of our own, and
    the files of the memory beside it. An archive with links, devices, or names that lead out of it
    is refused as a whole, and so is one that unpacks without bound.

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
        unpack_members(archives[0], folder, partial(_wanted, archive=archives[0]))
    return folder / UNPACKED


def _wanted(
    members: Sequence[tarfile.TarInfo], archive: Path
) -> list[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Return the members to unpack, in their order, and the name that each gets."""
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


def _choice(names: Sequence[str], where: Path) -> int:
    """Return the index of the checkpoint to start from."""
    for wanted in WARM_STARTS:
        places = [place for place, name in enumerate(names) if Path(name).name == wanted]
        if len(places) == 1:
            return places[0]
    if len(names) == 1:
        return 0
    found = ", ".join(names) or "none"
    raise BadInput(f"{where}: needs one checkpoint named {', '.join(WARM_STARTS)}; it has {found}")
