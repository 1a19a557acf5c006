"""The checkpoint that a training job begins from, out of its model channel."""

import shutil
import tarfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from regrow.data.errors import BadInput
from regrow.data.files import write_atomic

# Of the checkpoints that a model channel may hold, the one that was shipped comes first.
WARM_STARTS = ("pruned.ckpt", "best.ckpt", "last.ckpt")
# What SageMaker's own built-in algorithms leave.
MXNET = (".params", "-symbol.json")
ARCHIVES = (".tar.gz", ".tgz", ".tar")


def warm_start(channel: Path, folder: Path) -> Path:
    """Find the checkpoint in a model channel, which may be an archive as a training job leaves it.

    Nothing of an archive is unpacked but the bytes of the one checkpoint, to a name of our own. An
    archive with links, devices, or names that lead out of it is refused as a whole.

    Args:
        channel: The channel's folder.
        folder: Where the checkpoint of an archive is put, as `warm_start.ckpt`.

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
    target = folder / "warm_start.ckpt"
    try:
        with tarfile.open(archives[0]) as archive:
            members = archive.getmembers()
            for member in members:
                _refuse_unsafe(member, archives[0])
            held = [m for m in members if m.isfile() and m.name.endswith(".ckpt")]
            foreign = [m.name for m in members if m.name.endswith(MXNET)]
            if foreign and not held:
                raise BadInput(
                    f"{archives[0]}: {foreign[0]} is of MXNet, whose weights regrow cannot load; "
                    "train a first model without the channel"
                )
            source = archive.extractfile(held[_choice([m.name for m in held], archives[0])])
            if source is not None:
                write_atomic(target, lambda file: shutil.copyfileobj(source, file))
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise BadInput(
            f"{archives[0]}: cannot be unpacked ({error}); give a training job's model.tar.gz"
        ) from error
    return target


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
            "the archive; pack the checkpoint alone"
        )
