"""`promoted.json`: the file that names the checkpoint to serve."""

from pathlib import Path
from typing import Any

from regrow.data.errors import BadInput
from regrow.data.files import SMALL, read_json, write_json
from regrow.models.checkpoint import file_hash

PROMOTED = "promoted.json"


def read_promoted(file: Path) -> Path | None:
    """Give the checkpoint that a file names; None where there is no file.

    Raises:
        BadInput: If it names none.
    """
    content = _content(file)
    return None if content is None else Path(content["checkpoint"])


def promote(file: Path, checkpoint: Path, reasons: list[str], parent: Path | None) -> Path | None:
    """Let a file name a new checkpoint, or leave the old one in its place.

    Args:
        file: The file; it is replaced atomically.
        checkpoint: The new checkpoint.
        reasons: What speaks against it; nothing lets it be served.
        parent: The old checkpoint. Where that was itself refused, the one that is served in its
            stead, by the `promoted.json` beside it, stays.

    Returns:
        The checkpoint to serve; None if there is none, and then there is no file either.
    """
    served: Path | None = checkpoint
    if reasons:
        served = read_promoted(file)
        if served == checkpoint.absolute():  # as it was before it was trained on
            served = None
        if served is None and parent is not None:
            served = _stand_in(parent)
    if served is None:
        file.unlink(missing_ok=True)
        return None
    content: dict[str, Any] = {
        "checkpoint": str(served.absolute()),
        "sha256": file_hash(served) if served.is_file() else None,
        "refused": {"checkpoint": str(checkpoint.absolute()), "why": reasons} if reasons else None,
    }
    write_json(file, content, indent=2)
    return served


def _stand_in(parent: Path) -> Path | None:
    """Give what is served in the stead of an old network, which may be itself; None for nothing.

    A file in a folder that was moved names a place where another network may lie by now.
    """
    beside = _content(parent.parent / PROMOTED)
    if beside is None:
        return parent
    named = Path(beside["checkpoint"])
    if named.is_file() and file_hash(named) == beside.get("sha256"):
        return named
    return None if beside.get("refused") else parent


def _content(file: Path) -> dict[str, Any] | None:
    """Give what a file says, which names a checkpoint; None where there is no file."""
    if not file.is_file():
        return None
    try:
        content = read_json(file, SMALL)
        Path(content["checkpoint"])
    except (BadInput, KeyError, TypeError) as error:
        raise BadInput(f"{file}: names no checkpoint; remove it, or write it anew") from error
    return content
