"""The chain of checkpoints that a network comes from, followed to the first training."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import load_provenance
from regrow.models.record.provenance import (
    MAX_GENERATIONS,
    Ancestor,
    Provenance,
    change_between,
    read_lineage,
)
from regrow.progress import progress

NAMES = ("pruned.ckpt", "best.ckpt", "last.ckpt")  # what a run's network is, latest first
PLACES = ("*.ckpt", "*/*.ckpt", "*/*/*.ckpt")  # where parents lie, seen from beside the run
SHORT = 12  # characters of a hash that a person reads


@dataclass(frozen=True, slots=True)
class Link:
    """One checkpoint of a chain.

    Args:
        ancestor: What is known of the checkpoint.
        path: Its file, where one was found.
    """

    ancestor: Ancestor
    path: Path | None


@dataclass(frozen=True, slots=True)
class Chain:
    """The checkpoints that a network comes from.

    Args:
        links: Oldest first; the last one is the network itself.
        end: Why nothing older is known, in a line; None where the first began from the start.
    """

    links: tuple[Link, ...]
    end: str | None


def follow(run: Path, folders: Sequence[Path] = ()) -> Chain:
    """Return the chain of a checkpoint, as far as it is known.

    A checkpoint remembers its ancestors, whose files may be gone. Where one was written before that
    was so, the file of its parent is looked for, by its hash, in the folders beside the run.

    Args:
        run: A run's folder, or a checkpoint.
        folders: Further folders to look in.

    Raises:
        BadInput: If there is no checkpoint, or one cannot be used.
    """
    path = find_checkpoint(run)
    files = _Files([path.absolute().parent.parent, *folders])
    provenance = load_provenance(path)
    remembered = read_lineage(provenance.lineage)
    links = [Link(Ancestor.of(file_hash(path), provenance), path)]
    own: Provenance | None = provenance  # of the oldest, where its file was read
    while (parent := links[0].ancestor.parent) is not None:
        if parent in {link.ancestor.checkpoint for link in links}:
            return Chain(tuple(links), f"{parent[:SHORT]} is named as an ancestor of itself")
        file = files.paths.get(parent)
        if remembered and remembered[-1].checkpoint == parent:
            links.insert(0, Link(remembered.pop(), file))
            own = None
            continue
        if file is None:
            return Chain(tuple(links), _lost(links[0].ancestor, files.folders))
        older = load_provenance(file)
        if own is not None and own.change is None and own.manifest is not None:
            change = change_between(older, Manifest.from_dict(own.manifest))
            links[0] = replace(links[0], ancestor=replace(links[0].ancestor, change=change))
        links.insert(0, Link(Ancestor.of(parent, older), file))
        own, remembered = older, read_lineage(older.lineage)
    return Chain(tuple(links), None)


def find_checkpoint(run: Path) -> Path:
    """Return the checkpoint of a run's folder, or the file itself.

    Raises:
        BadInput: If there is none.
    """
    if run.is_file():
        return run
    found = next((run / name for name in NAMES if (run / name).is_file()), None)
    if found is None:
        raise BadInput(
            f"{run}: no run with a checkpoint ({', '.join(NAMES)}); give a run's folder or a .ckpt "
            "file"
        )
    return found


def _lost(oldest: Ancestor, folders: Sequence[Path]) -> str:
    places = " nor ".join(str(folder) for folder in folders)
    reason = f"remembers no more than {MAX_GENERATIONS} ancestors"
    if not oldest.date:
        reason = "was written before lineage was kept"
    parent, child = str(oldest.parent)[:SHORT], oldest.checkpoint[:SHORT]
    return f"parent {parent} not found below {places}; {child}, which was made from it, {reason}"


class _Files:
    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = folders

    @cached_property
    def paths(self) -> dict[str, Path]:
        """Return the checkpoints there by the hash of the file."""
        found = [file for place in PLACES for f in self.folders for file in sorted(f.glob(place))]
        paths: dict[str, Path] = {}
        for file in progress(found, "checkpoints"):
            with suppress(OSError):
                paths.setdefault(file_hash(file), file)
        return paths
