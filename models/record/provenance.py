"""Provenance and lineage of a checkpoint: its data, parent, command, scores and ancestors."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from regrow.data.snapshot import Manifest, Snapshot, diff
from regrow.data.splits import SPLITS
from regrow.errors import BadInput

# Limits of what is kept of each ancestor; longer text is cut.
MAX_TEXT = 2000  # characters
MAX_NAMES = 50  # class names, and scores
MAX_GENERATIONS = 1000  # the oldest are forgotten first
CUT = "..."


@dataclass(slots=True)
class Provenance:
    """The origin of a network, kept in its checkpoint.

    Args:
        data: Hash of the manifest of the training data.
        manifest: The manifest as tensors and lists, for a diff with later data.
        parent: Hash of the checkpoint file that the network was warm-started or pruned from.
        scores: Validation scores by name, such as `val/accuracy`.
        command: The command that made the checkpoint.
        settings: The settings of the run, which a resumed run must repeat.
        date: Start of the run, as ISO 8601 in UTC.
        change: One-line summary of the difference between the parent's data and this run's.
        lineage: One mapping per ancestor, oldest first (see `Ancestor`), so that it outlives their
            files.
        scratch_epochs: Number of epochs of the training from scratch at the root of the lineage; 0
            if unknown.
    """

    data: str | None = None
    manifest: dict[str, Any] | None = None
    parent: str | None = None
    scores: dict[str, float] = field(default_factory=dict)
    command: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    date: str = ""
    change: str | None = None
    lineage: list[dict[str, Any]] = field(default_factory=list)
    scratch_epochs: int = 0


@dataclass(frozen=True, slots=True)
class Ancestor:
    """An ancestor in the lineage: a checkpoint without its weights and its list of images.

    Args:
        checkpoint: Hash of the file.
        parent: Hash of the checkpoint file that it was warm-started or pruned from.
        command: The command that made it.
        date: Start of the run, as ISO 8601 in UTC.
        data: Hash of the manifest of its data.
        num_images: The number of images in each split.
        num_classes: The number of classes in its data.
        classes: The names of the first classes.
        change: One-line summary of the difference between its parent's data and its own.
        scores: Validation scores by name, without those of single classes.
    """

    checkpoint: str
    parent: str | None = None
    command: str = ""
    date: str = ""
    data: str | None = None
    num_images: dict[str, int] = field(default_factory=dict)
    num_classes: int = 0
    classes: list[str] = field(default_factory=list)
    change: str | None = None
    scores: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, checkpoint: str, provenance: Provenance) -> "Ancestor":
        """Return the lineage entry of a checkpoint.

        Args:
            checkpoint: Hash of the file.
            provenance: Provenance in the checkpoint.
        """
        num_images, classes = {}, []
        if provenance.manifest is not None:
            manifest = Manifest.from_dict(provenance.manifest)
            splits = manifest.splits.tolist()
            num_images = {name: splits.count(index) for index, name in enumerate(SPLITS)}
            classes = manifest.classes
        names = [name for name in provenance.scores if not name.startswith("val_class/")]
        return cls(
            checkpoint,
            provenance.parent,
            _cut(provenance.command),
            _cut(provenance.date),
            provenance.data,
            num_images,
            len(classes),
            [_cut(name, MAX_TEXT // MAX_NAMES) for name in classes[:MAX_NAMES]],
            _cut(provenance.change) if provenance.change is not None else None,
            {_cut(name): float(provenance.scores[name]) for name in names[:MAX_NAMES]},
        )

    @classmethod
    def from_dict(cls, values: Any) -> "Ancestor":
        """Read an ancestor from a mapping, as `dataclasses.asdict` makes it; untrusted input.

        Raises:
            BadInput: If it is no such mapping, or exceeds the limits of what regrow writes.
        """
        if not isinstance(values, Mapping):
            raise BadInput("its lineage has an entry that is no mapping")
        known = {entry.name for entry in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        ancestor = cls(**({"checkpoint": None} | given))
        required = [ancestor.checkpoint, ancestor.command, ancestor.date]
        optional = [t for t in (ancestor.parent, ancestor.data, ancestor.change) if t is not None]
        if not all(_is_text(text) for text in required + optional):
            raise BadInput("its lineage has hashes or commands that are no text, or too long")
        named = [(ancestor.num_images, int), (ancestor.scores, float)]
        if not all(_is_mapping(mapping, kind) for mapping, kind in named):
            raise BadInput("its lineage has scores or counts that are no numbers by name")
        if not _is_list(ancestor.classes) or type(ancestor.num_classes) is not int:
            raise BadInput("its lineage has classes that are no list of names")
        return ancestor


def made_from(
    checkpoint: str,
    parent: Provenance,
    data: Snapshot,
    command: str,
    scores: Mapping[str, float] | None = None,
) -> Provenance:
    """Return the provenance of a network that is made from a checkpoint and keeps its settings.

    Args:
        checkpoint: Hash of the parent's file.
        parent: Provenance of the parent.
        data: The data that it is made with.
        command: The command that makes it.
        scores: Its scores by name.
    """
    manifest = data.manifest()
    return Provenance(
        data=data.hash,
        manifest=manifest.to_dict(),
        parent=checkpoint,
        scores=dict(scores or {}),
        command=command,
        settings=parent.settings,
        date=now(),
        change=change_between(parent, manifest),
        lineage=descent(checkpoint, parent),
        scratch_epochs=parent.scratch_epochs,
    )


def descent(checkpoint: str, parent: Provenance) -> list[dict[str, Any]]:
    """Return the lineage of a network that is made from a checkpoint, for its own checkpoint.

    Args:
        checkpoint: Hash of the parent's file.
        parent: Provenance of the parent.

    Returns:
        One mapping per ancestor, oldest first; the last is the parent.
    """
    return [*parent.lineage, asdict(Ancestor.of(checkpoint, parent))][-MAX_GENERATIONS:]


def read_lineage(values: Any) -> list[Ancestor]:
    """Read a lineage, as `descent` returns it, from untrusted input.

    Raises:
        BadInput: If it is no such list.
    """
    if not isinstance(values, list) or len(values) > MAX_GENERATIONS:
        raise BadInput(f"its lineage is no list of at most {MAX_GENERATIONS} ancestors")
    return [Ancestor.from_dict(entry) for entry in values]


def change_between(old: Provenance, new: Manifest) -> str | None:
    """Summarise the difference between the parent's data and new data, in one line.

    Args:
        old: Provenance of the parent.
        new: The new data.

    Returns:
        The line; None where the parent's data is unknown.
    """
    return str(diff(Manifest.from_dict(old.manifest), new)) if old.manifest is not None else None


def now() -> str:
    """Return the current time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _cut(text: str, length: int = MAX_TEXT) -> str:
    return text if len(text) <= length else text[: length - len(CUT)] + CUT


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_TEXT


def _is_mapping(values: Any, kind: type) -> bool:
    if not isinstance(values, Mapping) or len(values) > MAX_NAMES:
        return False
    return all(_is_text(name) and type(value) is kind for name, value in values.items())


def _is_list(values: Sequence[Any]) -> bool:
    return isinstance(values, list) and len(values) <= MAX_NAMES and all(map(_is_text, values))
