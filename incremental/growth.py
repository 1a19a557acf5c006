"""How a warm start begins and what it trains on, for a new run and for one that goes on."""

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from torch import nn

from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.incremental.expand import NewRows
from regrow.incremental.history import join_history_
from regrow.incremental.imprint import imprint_
from regrow.incremental.mixing import Mixing
from regrow.incremental.start import Start
from regrow.incremental.warm_init import WarmInit, dash_, shrink_perturb_
from regrow.incremental.warm_start import remark_leaked, warm_start_
from regrow.models.task import Task
from regrow.training.distillation import Distillation, DistillationPenalty
from regrow.training.fit import Fit

# Of each source's own code: Ash and Adams's, and Shin et al.'s.
SHRINK = {"keep": 1.0, "shrink-perturb": 0.4, "dash": 0.3}
ANCHOR = 0.3  # the best mean over classes, with a memory of 1 % of CIFAR-10


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Growth:
    """How a warm start begins, and what it trains on.

    Args:
        warm_init: What becomes of the old weights before the first step: `keep` leaves them,
            `shrink-perturb` pulls them towards a little noise, `dash` shrinks those that point
            where the loss of the data does not fall.
        shrink: What is kept of them, at least, in [0, 1]; null is 0.4 for shrink-perturb, 0.3 for
            dash.
        perturb: How much of a fresh network's weights shrink-perturb adds, >= 0.
        new_rows: What the head's rows of new classes begin with: `random`, the `mean` of the old
            rows, or `imprint`, which points to the features of their images.
        num_batches: Number of training batches that dash and imprint look at.
        mixing: How often old and new images come.
        distillation: Draw the network towards the old one on all images: null does so where a
            memory stands for the old data, and a weight of 0 never.
        anchor: Share of the old weights in those that are validated and kept, in [0, 1): null is
            0.3 where a memory stands for the old data, and 0 elsewhere, as with another
            `warm_init` than `keep`, with fit.ema, or where channels come back.

    Raises:
        BadInput: If a value is out of range.
    """

    warm_init: WarmInit = "keep"
    shrink: float | None = None
    perturb: float = 0.1
    new_rows: NewRows = "random"
    num_batches: int = 16
    mixing: Mixing = Mixing()
    distillation: Distillation | None = None
    anchor: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.shrink is not None and not 0 <= self.shrink <= 1:
            raise BadInput(f"growth.shrink is {self.shrink}, it must lie in [0, 1], or be null")
        if not 0 <= self.perturb < float("inf"):
            raise BadInput(f"growth.perturb is {self.perturb}, it must be 0 or more")
        if self.anchor is not None and not 0 <= self.anchor < 1:
            raise BadInput(f"growth.anchor is {self.anchor}, it must lie in [0, 1), or be null")
        if self.num_batches < 1:
            raise BadInput(f"growth.num_batches is {self.num_batches}, it must be at least 1")

    def begin_(
        self,
        task: Task,
        data: GrowingData,
        parent: Path,
        num_epochs: int,
        *,
        renamed: dict[str, str],
        removed: list[str],
        allow_forgetting: bool = False,
        allow: tuple[str, ...] = (),
        seed: int = 0,
    ) -> Start:
        """Make an old network ready for its first step on data that has grown, and the data too.

        Args:
            task: The old network, where it will be trained.
            data: The grown data.
            parent: The old network's checkpoint.
            num_epochs: The epochs of the run.
            renamed: Old class names to new ones.
            removed: Classes that are given up on purpose.
            allow_forgetting: Train on new images alone where there is no memory of the old ones.
            allow: Other people's packages that the checkpoint's network may come from.
            seed: What all that is random here is a function of.

        Returns:
            What the run has to remember.

        Raises:
            BadInput: If old network and data do not go together.
        """
        history = join_history_(
            data,
            parent,
            task.provenance,
            renamed=renamed,
            removed=removed,
            allow_forgetting=allow_forgetting,
        )
        grown = warm_start_(
            task,
            data,
            renamed=renamed,
            removed=removed,
            new_rows=self.new_rows,
            allow_absent=allow_forgetting and history.forgets,
            seed=seed,
        )
        if task.provenance.manifest is not None:
            remark_leaked(data, Manifest.from_dict(task.provenance.manifest))
        start = Start.of(grown, history, parent, renamed, removed)
        distillation = self._distillation(task, start)
        start = replace(
            start, taught=distillation.weight + distillation.features if distillation else 0.0
        )
        self.join_(task, data, start, num_epochs, allow)
        if self.warm_init == "shrink-perturb":
            shrink_perturb_(task, self._shrink, self.perturb, seed=seed)
        elif self.warm_init == "dash":
            dash_(task, islice(data.train_dataloader(), self.num_batches), self._shrink)
        if self.new_rows == "imprint" and grown.label_map.added:
            batches = islice(data.train_dataloader(), self.num_batches)
            imprint_(task, grown.label_map.added, batches)
        return start

    def join_(
        self,
        task: Task,
        data: GrowingData,
        start: Start,
        num_epochs: int,
        allow: tuple[str, ...] = (),
    ) -> None:
        """Give a run its mixture of images and its teacher, in place; a resumed one too.

        A memory stands for few of the old images, so classes count alike then in the choice of the
        best checkpoint.

        Raises:
            BadInput: If a teacher is asked for that shares too few classes.
        """
        has_memory = start.history.has_memory
        if has_memory:
            task.chosen_by = task.even_score
        data.mixture = self.mixing.mixture(
            data.shown("train"),
            start.history.is_new,
            [name for name in task.classes if name not in start.old_names],
            num_epochs,
            has_memory=has_memory,
        )
        distillation = self._distillation(task, start)
        if distillation is not None:
            teacher = DistillationPenalty(start.teacher(task, allow), distillation)
            task.penalties = nn.ModuleList([*task.penalties, teacher])

    def anchor_of(self, task: Task, start: Start, fit: Fit, allow: tuple[str, ...] = ()) -> float:
        """Give the share of the old weights in those that the run will keep.

        Args:
            task: The grown network.
            start: The start of the run.
            fit: How it is trained.
            allow: Other people's packages that the old network may come from.

        Raises:
            BadInput: If a share is asked for that cannot be.
        """
        self.check(fit)
        if self.anchor is None:
            is_usual = start.history.has_memory and self.warm_init == "keep" and fit.ema is None
            return ANCHOR if is_usual and start.old_weights(task, allow) else 0.0
        if self.anchor and not start.old_weights(task, allow):
            raise BadInput(
                "growth.anchor needs the channels of the old network, and they came back; set it "
                "to 0, or sparsity to keep"
            )
        return self.anchor

    def check(self, fit: Fit) -> None:
        """Refuse an anchor beside an average: each says what is kept.

        Raises:
            BadInput: If there are both.
        """
        if self.anchor and fit.ema is not None:
            raise BadInput(
                "growth.anchor and fit.ema both say what weights are kept; give one of them"
            )

    def _distillation(self, task: Task, start: Start) -> Distillation | None:
        """Give what the old network teaches, if anything."""
        is_enough = len(start.old_names) >= task.min_classes
        chosen = self.distillation
        if chosen is None:
            return Distillation() if start.history.has_memory and is_enough else None
        if not (chosen.weight or chosen.features):
            return None
        if not is_enough:
            raise BadInput(
                f"growth.distillation needs {task.min_classes} old classes or more, and only "
                f"{', '.join(start.old_names) or 'none'} is left"
            )
        return chosen

    @property
    def _shrink(self) -> float:
        return SHRINK[self.warm_init] if self.shrink is None else self.shrink
