"""What a run that began warm remembers of its start, for its report and for going on."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback
from torch import Tensor

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import SMALL, is_there, read_json, write_json
from regrow.incremental.anchor import Anchor, old_weights
from regrow.incremental.expand import expand_
from regrow.incremental.history import START, History, read_history
from regrow.incremental.memory import stood_for
from regrow.incremental.warm_start import WarmStart, silenced
from regrow.models.checkpoint import file_hash, load
from regrow.models.task import Task
from regrow.training.evaluation import Evaluation, evaluate
from regrow.training.resume import refuse_changes


@dataclass(frozen=True, slots=True)
class Start:
    """The start of a run, as plain data.

    Args:
        parent: The path of the checkpoint that the run began with.
        parent_hash: The hash of that file.
        renamed: Old class names to new ones.
        removed: Classes that were given up.
        old_names: For each class that is kept its name now and the old one.
        diff: What changed in the data, with its `text`; None where that is not known.
        score: The old network's score on the new validation images.
        num_leaked: Validation and test images that the old network was trained on.
        history: What there was of the old data.
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
    def of(
        cls,
        grown: WarmStart,
        history: History,
        parent: Path,
        renamed: Mapping[str, str],
        removed: list[str],
    ) -> "Start":
        """Put down what a warm start found out."""
        return cls(
            parent=str(parent.absolute()),
            parent_hash=file_hash(parent),
            renamed=renamed,
            removed=removed,
            old_names=grown.label_map.old_names,
            diff=asdict(grown.diff) | {"text": str(grown.diff)} if grown.diff else None,
            score=grown.before.value,
            num_leaked=grown.num_leaked,
            history=history,
        )

    @classmethod
    def read(cls, run: Path) -> "Start | None":
        """Read what a run remembers; None if it did not begin warm.

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
        except (TypeError, ValueError) as error:
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
        """Let a run remember it."""
        values = {name: getattr(self, name) for name in self.__slots__ if name != "history"}
        write_json(run / START, values | {"history": self.history.to_dict()})

    def check_parent(self) -> None:
        """Refuse another file in the place of the old network's.

        Raises:
            BadInput: If its file is not there any more, or is another.
        """
        path = Path(self.parent)
        if not is_there(path) or file_hash(path) != self.parent_hash:
            raise BadInput(f"{path}: not the checkpoint that the run began with; put it back")

    def rejoin_(self, data: GrowingData) -> None:
        """Put what was joined to the data beside it again, in place.

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
        """Say in a line what changed in the data."""
        return self.diff["text"] if self.diff else "the checkpoint does not say its data"

    def teacher(self, task: Task, allow: tuple[str, ...] = ()) -> Task:
        """Load the old network with its own classes, called as they are now.

        Raises:
            BadInput: If its file is not there any more, or is another.
        """
        return self._old_network(task, list(self.old_names), allow)

    def evaluate_old(
        self, task: Task, data: GrowingData, split: str, allow: tuple[str, ...] = ()
    ) -> Evaluation:
        """Score the old network on images of the new data; it cannot name a new class.

        Raises:
            BadInput: If its file is not there any more, or is another.
        """
        old = self._old_network(task, task.classes, allow)
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        with silenced(old, [name for name in task.classes if name not in self.old_names]):
            return evaluate(old, loader, description="the old network")

    def watchers(self, task: Task, allow: tuple[str, ...] = ()) -> list[Callback]:
        """Give the callback that anchors what is kept, if anything does.

        Raises:
            BadInput: If the old network's file is not there any more, or is another.
        """
        return [Anchor(self.old_weights(task, allow), self.anchor)] if self.anchor else []

    def old_weights(self, task: Task, allow: tuple[str, ...] = ()) -> dict[str, Tensor]:
        """Give the weights of the old network in the rows of the grown one.

        Raises:
            BadInput: If its file is not there any more, or is another.
        """
        return old_weights(task, self._load(task, allow), self.renamed, self.removed)

    def _old_network(self, task: Task, classes: list[str], allow: tuple[str, ...]) -> Task:
        """Load the old network, with rows for these classes."""
        old = self._load(task, allow)
        expand_(old, classes, renamed=self.renamed, removed=self.removed)
        return old.to(task.mean.device)

    def _load(self, task: Task, allow: tuple[str, ...]) -> Task:
        """Load the old network as it was.

        Raises:
            BadInput: If its file is not there any more, or is another.
        """
        self.check_parent()
        return load(Path(self.parent), allow=allow, kind=task.kind)


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
    start = Start.read(run)
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
