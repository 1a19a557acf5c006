"""The file of the model to serve, found in a folder, an archive or `promoted.json`."""

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from regrow.data.config import DATA_FILE, data_beside
from regrow.data.described import ForeignName
from regrow.data.images.conversion import Decoding
from regrow.deploy.archives import ARCHIVES, unpack_members
from regrow.errors import BadInput
from regrow.files import SMALL, read_json
from regrow.logs import log

# What is served of a folder that holds several, best first.
NAMES = ("model.onnx", "pruned.ckpt", "best.ckpt", "last.ckpt")
PROMOTED, REPORT = "promoted.json", "report.json"
KINDS = (".onnx", ".ckpt")
WAY_OUT = "give a run folder, a checkpoint, model.onnx, model.tar.gz or promoted.json"
Promoted = Callable[[Path], Path]
# Pixels of all pictures of a request, from which on Pillow takes one for a bomb.
MAX_PIXELS = 89_478_485


@dataclass(frozen=True, slots=True)
class Found:
    """The file of a model, and where it is named.

    Args:
        file: The checkpoint or the ONNX file.
        promoted: The `promoted.json` that names it, and may name another one later.
    """

    file: Path
    promoted: Path | None = None


def find_model(path: Path, unpacked: Path, promoted: Promoted) -> Found:
    """Return the model that a path means.

    Of a folder the model that its `promoted.json` names is taken, else the first of `NAMES`, else
    the only one; a folder or an archive whose one folder holds the model is looked into once.

    Args:
        path: A run folder, a checkpoint, an ONNX file, an archive or a `promoted.json`.
        unpacked: Where the models of an archive are put; what is there is replaced.
        promoted: Returns the checkpoint that a `promoted.json` names.

    Raises:
        BadInput: If there is none, or several that nothing tells apart.
    """
    if path.is_dir():
        return _in_folder(path, unpacked, promoted)
    if not path.is_file():
        raise BadInput(f"{path}: no such file or folder; {WAY_OUT}")
    if path.name.endswith(ARCHIVES):
        unpack_members(path, unpacked, _members)
        try:
            return _in_folder(unpacked, unpacked, promoted)
        except BadInput as error:
            raise BadInput(f"{path}: {str(error).replace(f'{unpacked}: ', '')}") from error
    if path.suffix == ".json":
        return Found(promoted(path), path)
    if path.suffix not in KINDS:
        raise BadInput(f"{path}: no model; {WAY_OUT}")
    return Found(path)


def decoding_of(file: Path) -> Decoding:
    """Return how pictures become pixels for a model, as its `data.yaml` says, where it has one."""
    grey_range = None
    if (file.parent / DATA_FILE).is_file():
        try:
            grey_range = data_beside(file).decoding.grey_range
        except ForeignName as error:
            log.warning(f"{error}; 16-bit grey pictures are read as if it set no data.grey_range")
    return Decoding(MAX_PIXELS, grey_range)


def _members(
    members: Sequence[tarfile.TarInfo],
) -> list[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Return the members of an archive that serving needs: models and what describes them."""
    named = [(m, PurePosixPath(m.name)) for m in members if m.isfile()]
    return [
        (member, name)
        for member, name in named
        if len(name.parts) <= 2 and not name.name.startswith("._")  # as macOS adds them
        if name.suffix in KINDS or name.name in (PROMOTED, REPORT, DATA_FILE)
    ]


def _in_folder(folder: Path, unpacked: Path, promoted: Promoted, depth: int = 1) -> Found:
    if (folder / PROMOTED).is_file():
        return Found(promoted(folder / PROMOTED), folder / PROMOTED)
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    models = [entry for entry in entries if entry.suffix in KINDS and entry.is_file()]
    known = [folder / name for name in NAMES if folder / name in models]
    if known or len(models) == 1:
        _refuse_shut(folder)
        return Found((known or models)[0])
    if models:
        names = ", ".join(model.name for model in models[:5])
        raise BadInput(f"{folder}: holds several models ({names}); name one of them")
    archives = [entry for entry in entries if entry.name.endswith(ARCHIVES) and entry.is_file()]
    if len(archives) == 1 and unpacked != folder:
        return find_model(archives[0], unpacked, promoted)
    folders = [entry for entry in entries if entry.is_dir()]
    if depth and len(folders) == 1:
        return _in_folder(folders[0], unpacked, promoted, depth - 1)
    held = ", ".join(entry.name for entry in entries[:5]) or "nothing"
    raise BadInput(f"{folder}: no model in it, it holds {held}; {WAY_OUT}")


def _refuse_shut(folder: Path) -> None:
    """Refuse a run whose gate is shut and that names nothing to serve in its stead."""
    report = read_json(folder / REPORT, SMALL) if (folder / REPORT).is_file() else {}
    gate = report.get("gate") if isinstance(report, dict) else None
    reasons = gate.get("reasons") if isinstance(gate, dict) else None
    if reasons:
        raise BadInput(
            f"{folder}: the gate of this run is shut ({reasons}); name its checkpoint to serve it "
            "all the same"
        )
