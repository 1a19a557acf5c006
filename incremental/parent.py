"""The old network of a warm start: read from its file to teach, to be scored, to give weights."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from regrow.data.module import GrowingData
from regrow.data.targets.partial_labels import HIDDEN
from regrow.errors import BadInput
from regrow.files import file_hash, is_there
from regrow.incremental.anchor import old_weights
from regrow.incremental.expand import expand_
from regrow.incremental.warm_start import WarmStart
from regrow.models.checkpoint import load
from regrow.models.task import Task
from regrow.training.evaluation import Evaluation, evaluate


@dataclass(frozen=True, slots=True)
class Parent:
    """The checkpoint that a warm start begins from, and what became of its classes.

    Args:
        path: Its file.
        renamed: Old class names to new ones.
        removed: Classes that are given up.
        allow: Other people's packages that its network may come from.
        hash: The hash that its file must have; None takes that of the file as it is.
    """

    path: Path
    renamed: Mapping[str, str] = field(default_factory=dict)
    removed: Sequence[str] = ()
    allow: tuple[str, ...] = ()
    hash: str | None = None

    @classmethod
    def of(cls, start: WarmStart, allow: tuple[str, ...] = ()) -> "Parent":
        """Return the old network that a run began with.

        Args:
            start: The record of the run's start.
            allow: Other people's packages that the network may come from.
        """
        return cls(Path(start.parent), start.renamed, start.removed, allow, start.parent_hash)

    def check(self) -> None:
        """Refuse another file in the place of the old network's, where its hash is known.

        Raises:
            BadInput: If its file is not there any more, or is another.
        """
        if self.hash is not None and not (
            is_there(self.path) and file_hash(self.path) == self.hash
        ):
            raise BadInput(f"{self.path}: not the checkpoint that the run began with; put it back")

    def load(self, kind: str) -> Task:
        """Load the network as it was.

        Args:
            kind: The kind of labels that it must be for.

        Raises:
            BadInput: If its file is not there any more, is another, or cannot be used.
        """
        self.check()
        return load(self.path, allow=self.allow, kind=kind)

    def teacher(self, task: Task) -> Task:
        """Load the network with its own classes, called as they are now, where a task is.

        Args:
            task: The task that it will teach.
        """
        old = self.load(task.kind)
        return self._with_rows(old, self._kept(old), task)

    def evaluate(self, task: Task, data: GrowingData, split: str) -> Evaluation:
        """Score the network on images of the new data; it cannot name a new class.

        Args:
            task: The grown network, whose classes and device it takes.
            data: The new data.
            split: `val` or `test`.
        """
        old = self.load(task.kind)
        known = self._kept(old)
        old = self._with_rows(old, task.classes, task)
        loader = data.test_dataloader() if split == "test" else data.val_dataloader()
        with silenced(old, [name for name in task.classes if name not in known]):
            return evaluate(old, loader, description="the old network")

    def weights(self, task: Task) -> dict[str, Tensor]:
        """Return its weights and running statistics in the rows of a grown network.

        Args:
            task: The grown network.

        Returns:
            As `old_weights` does; nothing if the networks differ in more than the rows.
        """
        return old_weights(task, self.load(task.kind), self.renamed, self.removed)

    def grow_(self, copy: Task, classes: Sequence[str]) -> None:
        """Let a copy of the network have rows for the classes of now, in place."""
        expand_(copy, classes, renamed=self.renamed, removed=self.removed)

    def _with_rows(self, old: Task, classes: Sequence[str], task: Task) -> Task:
        self.grow_(old, classes)
        return old.to(task.mean.device)

    def _kept(self, old: Task) -> list[str]:
        """Name the classes that were not given up, as they are called now."""
        return [self.renamed.get(n, n) for n in old.classes if n not in self.removed]


@contextmanager
def silenced(task: Task, names: Sequence[str]) -> Iterator[None]:
    """Keep a network from naming some of its classes: their raw scores are lowest for a while.

    Args:
        task: The network.
        names: The classes.
    """
    count = len(task.classes)
    hooks = []
    for rows in task.class_rows() if names else ():
        if rows.rows_per_class != 1:  # a class's own box, which its score decides about
            continue
        silent = [i for name in names for i in rows.indices(task.classes.index(name), count)]
        layer = task.net.get_submodule(rows.layer)
        hooks.append(layer.register_forward_hook(_Silencer(torch.tensor(silent))))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class _Silencer:
    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __call__(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        dim = -1 if isinstance(layer, nn.Linear) else 1
        return output.index_fill(dim, self.rows.to(output.device), HIDDEN)
