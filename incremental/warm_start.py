"""The record of a warm start in its run's folder: for the report, and for a run that goes on."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import SMALL, file_hash, read_json, write_json
from regrow.incremental.history import START, History, read_history
from regrow.incremental.memory import stood_for
from regrow.plain import MISSHAPEN
from regrow.training.resume import refuse_changes


@dataclass(frozen=True, slots=True)
class WarmStart:
    """The start of a run from an old network on grown data, as plain data.

    Args:
        parent: The path of the checkpoint that the run began with.
        parent_hash: The hash of that file.
        renamed: Old class names to new ones.
        removed: Classes that were given up.
        old_names: For each class that is kept its name now and the old one.
        diff: The change of the data, with its `text`; None where that is not known.
        score: The old network's score on the new validation images.
        num_leaked: Validation and test images that the old network was trained on.
        history: The old images that the run had.
        num_wide_epochs: Epochs that a pruned network was trained with its channels back.
        taught: Weight of what the old network teaches, in the loss.
        anchor: Share of the old weights in those that are kept.
    """

    parent: str
    parent_hash: str
    renamed: Mapping[str, str]
    removed: list[str]
    old_names: Mapping[str, str]
    diff: Mapping[str, Any] | None
    score: float
    num_leaked: int
    history: History = field(default_factory=lambda: History(None, 0, []))
    num_wide_epochs: int = 0
    taught: float = 0.0
    anchor: float = 0.0

    @classmethod
    def read(cls, run: Path) -> "WarmStart | None":
        """Read the record in a run's folder; None if the run did not begin warm.

        Raises:
            BadInput: If the file does not say so.
        """
        file = run / START
        if not file.is_file():
            return None
        history = read_history(file)
        try:
            start = cls(**{**read_json(file, SMALL), "history": history})
            start._refuse_types()
        except MISSHAPEN as error:
            raise BadInput(
                f"{file}: does not say how the run began ({error}); begin it anew"
            ) from error
        return start

    def _refuse_types(self) -> None:
        """Refuse values of other types, which a file may hold.

        Raises:
            ValueError: Naming the value.
        """
        texts = [self.parent, self.parent_hash, *self.removed]
        names = [self.renamed, self.old_names]
        if not all(isinstance(text, str) for text in texts) or type(self.removed) is not list:
            raise ValueError("its parent, or what was removed, is no text")
        if not all(isinstance(n, dict) and all(map(_is_text, n.values())) for n in names):
            raise ValueError("its names of classes are none")
        if self.diff is not None and not _is_text(dict(self.diff).get("text")):
            raise ValueError("its change of the data is none")
        if not all(type(n) is int and n >= 0 for n in (self.num_leaked, self.num_wide_epochs)):
            raise ValueError("its counts are none")
        shares = [self.score, self.taught, self.anchor]
        if not all(type(n) in (int, float) for n in shares) or not 0 <= self.anchor < 1:
            raise ValueError("its score or weights are none")

    def write(self, run: Path) -> None:
        """Write the record to a run's folder."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "history"}
        write_json(run / START, values | {"history": self.history.to_dict()})

    def rejoin_(self, data: GrowingData) -> None:
        """Join to the data what was joined when the run began, in place.

        Raises:
            BadInput: If that is not what the run began with.
        """
        for part in self.history.parts:
            part.join_(data, self.renamed, self.removed)
        count = len(data.snapshot.indices("train"))
        if len(self.history.is_new) != count:
            raise BadInput(
                f"{START} is about {len(self.history.is_new)} training images and the data has "
                f"{count}; --resume needs the data that the run began with"
            )

    @property
    def remembered(self) -> Counter[str] | None:
        """Count the images that the joined memory stands for, by class of now; None without one."""
        memory = next((Path(part.folder) for part in self.history.parts if part.is_memory), None)
        return None if memory is None else stood_for(memory, self.renamed, self.removed)

    @property
    def said(self) -> str:
        """Return in a line what changed in the data."""
        return self.diff["text"] if self.diff else "the checkpoint does not say its data"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def refuse_another_start(
    run: Path, parent: Path, renamed: Mapping[str, str], removed: Collection[str]
) -> None:
    """Refuse to go on with a run that did not begin as this warm start would.

    Args:
        run: The folder of the run.
        parent: The checkpoint that the warm start is given.
        renamed: Old class names to new ones.
        removed: Classes that are given up.

    Raises:
        BadInput: Naming what differs.
    """
    start = WarmStart.read(run)
    if start is None:
        raise BadInput(
            f"{run} holds a run that began without --warm-start; leave that out to go on with it, "
            "or give the warm start another folder with --run"
        )
    if not parent.is_file() or file_hash(parent) != start.parent_hash:
        raise BadInput(
            f"{run} holds a run that began from {start.parent}, not from {parent} as it is now; "
            "leave --warm-start out to go on with it, or give another folder with --run"
        )
    refuse_changes(
        {"renamed": dict(start.renamed), "removed": list(start.removed)},
        {"renamed": dict(renamed), "removed": list(removed)},
        frozenset(),
        beginning=frozenset(),
    )
