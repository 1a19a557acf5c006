"""Settings of a warm start, applied when a run begins and when it is resumed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice

from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.incremental.expand import NewRows
from regrow.incremental.history import join_history_
from regrow.incremental.imprint import imprint_
from regrow.incremental.matching import compare_data, match_classes_, remark_leaked, score_old
from regrow.incremental.mixing import Mixing
from regrow.incremental.parent import Parent
from regrow.incremental.warm_init import WarmInit, dash_, shrink_perturb_
from regrow.incremental.warm_start import WarmStart
from regrow.models.task import Task
from regrow.training.distillation import Distillation, DistillationPenalty
from regrow.training.fit import Fit

# Of each source's own code: Ash and Adams's, and Shin et al.'s.
SHRINK = {"keep": 1.0, "shrink-perturb": 0.4, "dash": 0.3}
ANCHOR = 0.3  # the best mean over classes, with a memory of 1 % of CIFAR-10


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Growth:
    """Settings of a warm start: initial weights, mixture of images, distillation, anchor.

    Args:
        warm_init: Change of the old weights before the first step: `keep` leaves them,
            `shrink-perturb` shrinks them and adds a little noise, `dash` shrinks those that do not
            point along the negative gradient of the data's loss.
        shrink: Least factor that shrinking multiplies weights by, in [0, 1]; null is 0.4 for
            shrink-perturb, 0.3 for dash.
        perturb: Share of a fresh network's weights that shrink-perturb adds, >= 0.
        new_rows: Initial head rows of new classes: `random`, the `mean` of the old rows, or
            `imprint`, which takes them from the features of the classes' images.
        num_batches: Number of training batches that dash and imprint use.
        mixing: Sampling weights of old and new images.
        distillation: Distillation from the old network on all images: null turns it on where a
            memory stands for the old data, and a weight of 0 turns it off.
        anchor: Weight interpolation (WiSE-FT): share of the old weights in those that are validated
            and kept, in [0, 1): null is 0.3 where a memory stands for the old data, and 0
            elsewhere, as with another `warm_init` than `keep`, with fit.ema, or where channels come
            back.

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
        parent: Parent,
        num_epochs: int,
        *,
        allow_forgetting: bool = False,
        seed: int = 0,
    ) -> WarmStart:
        """Prepare an old network and grown data for the first step, in place.

        Args:
            task: The old network, where it will be trained.
            data: The grown data.
            parent: Its checkpoint, and what became of its classes.
            num_epochs: The epochs of the run.
            allow_forgetting: Train on new images alone where there is no memory of the old ones.
            seed: Seed of everything random here.

        Returns:
            What the run has to remember.

        Raises:
            BadInput: If old network and data do not go together.
        """
        renamed, removed = parent.renamed, parent.removed
        history = join_history_(
            data,
            parent.path,
            task.provenance,
            renamed=renamed,
            removed=removed,
            allow_forgetting=allow_forgetting,
        )
        label_map = match_classes_(
            task,
            data,
            renamed=renamed,
            removed=removed,
            new_rows=self.new_rows,
            allow_absent=allow_forgetting and history.forgets,
            seed=seed,
        )
        score = score_old(task, data, label_map.added).value
        change, num_leaked = compare_data(task, data, renamed, removed)
        if task.provenance.manifest is not None:
            remark_leaked(data, Manifest.from_dict(task.provenance.manifest))
        start = WarmStart(
            parent=str(parent.path.absolute()),
            parent_hash=file_hash(parent.path),
            renamed=renamed,
            removed=list(removed),
            old_names=label_map.old_names,
            diff=asdict(change) | {"text": str(change)} if change is not None else None,
            score=score,
            num_leaked=num_leaked,
            history=history,
        )
        start = replace(start, taught=self._taught(task, start))
        self.join_(task, data, start, num_epochs, parent.allow)
        self._change_weights_(task, data, label_map.added, seed)
        return start

    def _change_weights_(
        self, task: Task, data: GrowingData, added: Sequence[str], seed: int
    ) -> None:
        """Apply `warm_init` to the old weights and `new_rows` to the rows of new classes."""
        if self.warm_init == "shrink-perturb":
            shrink_perturb_(task, self._shrink, self.perturb, seed=seed)
        elif self.warm_init == "dash":
            dash_(task, islice(data.train_dataloader(), self.num_batches), self._shrink)
        if self.new_rows == "imprint" and added:
            imprint_(task, added, islice(data.train_dataloader(), self.num_batches))

    def join_(
        self,
        task: Task,
        data: GrowingData,
        start: WarmStart,
        num_epochs: int,
        allow: tuple[str, ...] = (),
    ) -> None:
        """Set a run's mixture of images, its teacher and its choice of the best, in place.

        A memory stands for few of the old images, so classes count alike then in the choice of the
        best checkpoint.

        Args:
            task: The grown network.
            data: The data.
            start: The start of the run.
            num_epochs: The epochs of the run.
            allow: Other people's packages that the old network may come from.

        Raises:
            BadInput: If a teacher is asked for that shares too few classes.
        """
        has_memory = start.history.has_memory
        mixture = self.mixing.mixture(
            data.shown("train"),
            start.history.is_new,
            [name for name in task.classes if name not in start.old_names],
            num_epochs,
            has_memory=has_memory,
            exponent=data.balance,
        )
        data.mix_(mixture)
        if has_memory:
            task.choose_by_(task.even_score)
        distillation = self._distillation(task, start)
        if distillation is not None:
            teacher = Parent.of(start, allow).teacher(task)
            task.add_penalty_(DistillationPenalty(teacher, distillation))

    def anchor_of(
        self, task: Task, start: WarmStart, fit: Fit, allow: tuple[str, ...] = ()
    ) -> float:
        """Return the share of the old weights in those that the run will keep.

        Args:
            task: The grown network.
            start: The start of the run.
            fit: Settings of its training.
            allow: Other people's packages that the old network may come from.

        Raises:
            BadInput: If a share is asked for that cannot be.
        """
        self.check(fit)
        parent = Parent.of(start, allow)
        if self.anchor is None:
            is_usual = start.history.has_memory and self.warm_init == "keep" and fit.ema is None
            return ANCHOR if is_usual and parent.weights(task) else 0.0
        if self.anchor and not parent.weights(task):
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

    def _taught(self, task: Task, start: WarmStart) -> float:
        """Return the weight of what the old network teaches, in the loss."""
        distillation = self._distillation(task, start)
        return distillation.weight + distillation.features if distillation is not None else 0.0

    def _distillation(self, task: Task, start: WarmStart) -> Distillation | None:
        """Return what the old network teaches; None for nothing."""
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
