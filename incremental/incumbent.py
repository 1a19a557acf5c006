"""The old network as the first incumbent for `best.ckpt` of a warm-started run."""

import copy
import math
from dataclasses import dataclass
from pathlib import Path

from pytorch_lightning import Trainer
from pytorch_lightning.utilities import rank_zero_only

from regrow.data.module import GrowingData
from regrow.incremental.parent import Parent
from regrow.models.checkpoint import save
from regrow.models.task import Task
from regrow.training.checkpointing import RunCheckpoint
from regrow.training.evaluation import evaluate

BEST = "best.ckpt"


@dataclass(frozen=True, slots=True)
class Incumbent:
    """The old network, grown for the classes of now, before its first step.

    Args:
        task: The network.
        scores: Its scores on validation images, by name.
        value: The one by which `best.ckpt` is chosen.
    """

    task: Task
    scores: dict[str, float]
    value: float

    @classmethod
    def of(cls, task: Task, old: Task | None, parent: Parent, data: GrowingData) -> "Incumbent":
        """Return the incumbent, scored on validation images.

        Args:
            task: The network that is about to be trained.
            old: A copy from before its start changed old weights; None where it does not.
            parent: The old network's checkpoint, and what became of its classes.
            data: The grown data.
        """
        if old is not None:
            parent.grow_(old, task.classes)
        first = task if old is None else old
        found = evaluate(first, data.val_dataloader(), description="before training")
        scores = {found.name: found.value, **found.others}
        return cls(first, scores, scores[task.chosen_by])

    @property
    def said(self) -> str:
        """Return in a line what the first epochs will look like."""
        name = self.task.chosen_by
        return (
            f"the optimizer begins anew and its learning rate rises again, so the first epochs may "
            f"score less; until one reaches {name} {self.value:.4f}, best.ckpt is the old network "
            "as it came (epoch 0)"
        )

    @rank_zero_only
    def write(self, run: Path, task: Task) -> None:
        """Write it as the `best.ckpt` of a run so far.

        Args:
            run: The run's folder.
            task: The network that is trained, which says where it comes from.
        """
        if math.isnan(self.value):
            return
        own, self.task.provenance = self.task.provenance, copy.copy(task.provenance)
        self.task.provenance.scores = {f"val/{name}": value for name, value in self.scores.items()}
        save(run / BEST, self.task)
        self.task.provenance = own

    def offer_(self, trainer: Trainer) -> None:
        """Let an epoch replace it in `best.ckpt` only with a score that is not below its own."""
        if math.isnan(self.value):
            return
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, RunCheckpoint) and callback.monitor is not None:
                callback.offer_(self.value)
