"""`promoted.json`: the file that names the checkpoint to serve."""

import os
from pathlib import Path
from typing import Any

from regrow.errors import BadInput
from regrow.files import SMALL, file_hash, is_there, read_json, write_json
from regrow.models.checkpoint import load, read
from regrow.plain import MISSHAPEN

PROMOTED = "promoted.json"
WAY_OUT = "remove it, or write it anew"


def read_promoted(file: Path) -> Path | None:
    """Return the checkpoint that a file names; None where there is no file.

    Its path is seen from the file, so both can be moved together. An older file has an absolute
    one; where that leads to another network by now, or nowhere, the checkpoint beside the file is
    taken if it is the one that was named.

    Args:
        file: The file.

    Raises:
        BadInput: If it names none, or something that is no checkpoint of regrow's. One that is gone
            is named all the same.
    """
    content = _content(file)
    if content is None:
        return None
    named = _named(file, content)
    if is_there(named):
        try:
            read(named)
        except BadInput as error:
            raise BadInput(f"{file}: names no checkpoint to serve: {error}; {WAY_OUT}") from error
    return named


def promote(
    file: Path,
    checkpoint: Path,
    reasons: list[str],
    parent: Path | None,
    allow: tuple[str, ...] = (),
) -> Path | None:
    """Write to a file which checkpoint is served: a new one, or the old one still.

    Whatever is named has been loaded, is of the new network's task, and shares a class with it.

    Args:
        file: The file; it is replaced atomically.
        checkpoint: The new checkpoint.
        reasons: The reasons against it; without any it is served.
        parent: The old checkpoint. Where that was itself refused, the one that is served in its
            stead, by the `promoted.json` beside it, stays.
        allow: Other people's packages that networks may come from.

    Returns:
        The checkpoint to serve; None if there is none, and then there is no file either.

    Raises:
        BadInput: If what would be named is no checkpoint that could be served; the file stays.
    """
    served: Path | None = checkpoint
    if reasons:
        served = read_promoted(file)
        if served == _real(checkpoint):  # as it was before it was trained on
            served = None
        if served is None and parent is not None:
            served = _stand_in(parent, checkpoint, allow)
    if served is None:
        file.unlink(missing_ok=True)
        return None
    if is_there(served):
        _refuse_unfit(served, checkpoint, file, allow)
    content: dict[str, Any] = {
        "checkpoint": _seen_from(file, served),
        "sha256": file_hash(served) if is_there(served) else None,
        "refused": None,
    }
    if reasons:
        content["refused"] = {"checkpoint": _seen_from(file, checkpoint), "why": reasons}
    write_json(file, content, indent=2)
    return served


def _stand_in(parent: Path, checkpoint: Path, allow: tuple[str, ...]) -> Path | None:
    """Return what is served in the stead of an old network, which may be itself; None for nothing.

    A file in a folder that was moved names a place where another network may lie by now.
    """
    beside = parent.parent / PROMOTED
    content = _content(beside)
    if content is None:
        return parent
    named = _named(beside, content)
    if is_there(named) and file_hash(named) == content.get("sha256"):
        try:
            _refuse_unfit(named, checkpoint, beside, allow)
            return named
        except BadInput:  # a stranger's file may name anything
            pass
    return None if content.get("refused") else parent


def _refuse_unfit(named: Path, checkpoint: Path, file: Path, allow: tuple[str, ...]) -> None:
    """Refuse to name what does not load, or could not stand where a checkpoint stands."""
    try:
        served, new = load(named, allow=allow), load(checkpoint, allow=allow)
    except BadInput as error:
        raise BadInput(
            f"{file}: cannot name {named} as the network to serve: {error}; {WAY_OUT}"
        ) from error
    if served.kind != new.kind or not {*served.classes} & {*new.classes}:
        raise BadInput(
            f"{file}: cannot name {named}, which is for {served.kind} of "
            f"{', '.join(served.classes[:5])}, where {checkpoint} is for {new.kind} of "
            f"{', '.join(new.classes[:5])}; remove the file, or give another with --promoted"
        )


def _named(file: Path, content: dict[str, Any]) -> Path:
    """Return the checkpoint that a file means, wherever both were moved together."""
    folder, sha256 = file.parent.resolve(), content.get("sha256")
    named = Path(os.path.normpath(folder / content["checkpoint"]))
    beside = folder / named.name
    if Path(content["checkpoint"]).is_absolute() and beside != named and is_there(beside):
        is_same = is_there(named) and file_hash(named) == sha256
        if not is_same and file_hash(beside) == sha256:
            return beside
    return named


def _real(path: Path) -> Path:
    return path.parent.resolve() / path.name


def _seen_from(file: Path, path: Path) -> str:
    return os.path.relpath(_real(path), file.parent.resolve())


def _content(file: Path) -> dict[str, Any] | None:
    """Return what a file says, which names a checkpoint; None where there is no file."""
    if not file.is_file():
        return None
    try:
        content: dict[str, Any] = read_json(file, SMALL)
        if not content["checkpoint"] or "\0" in content["checkpoint"]:
            raise ValueError("no path")
        Path(content["checkpoint"])
    except (BadInput, *MISSHAPEN) as error:
        raise BadInput(f"{file}: names no checkpoint; {WAY_OUT}") from error
    return content
