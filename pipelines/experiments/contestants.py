"""Who competes in a comparison of dropout with pruning, on what terms, and what comes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.models.task import Task
from regrow.prune.criteria import Criterion, Random
from regrow.prune.dropout import Dropout, TargetedDropout
from regrow.prune.selection import Selection
from regrow.prune.target import Target
from regrow.training.fit import Fit

DENSE, PRUNED, RANDOM, SCRATCH = "dense", "pruned", "pruned-random", "scratch"
Kind = Literal["dense", "dropout", "pruned", "scratch"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to spend the budget.

    Args:
        name: Its name, also that of its files.
        dropout: What acts while the dense network trains, if anything.
        criterion: Gives for a seed the way to rank channels, for networks that are pruned.
        twin_of: The contestant whose architecture it trains from scratch.
    """

    name: str
    dropout: Dropout | None = None
    criterion: Callable[[int], Criterion] | None = None
    twin_of: str | None = None

    @property
    def kind(self) -> Kind:
        """Give what becomes of its network."""
        if self.criterion is not None:
            return "pruned"
        if self.twin_of is not None:
            return "scratch"
        return "dense" if self.dropout is None else "dropout"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What all contestants share.

    Args:
        make: Builds the dense task; its weights follow torch's generator.
        data: The images. Splits stay; order and augmentation are functions of its seed, the
            contestants' seed and the phase of training.
        fit: How long the dense network trains, and on what.
        target: What pruned networks may cost.
        selection: Which channels may go.
        num_steps: In how many steps they go, with an epoch of training after each but the last.
        dense_share: Share of the epochs before pruning, in (0, 1); at least one epoch.
        run: Where results are kept.
        allow: Other people's packages that the network may come from.
        command: The command, for the checkpoints.
    """

    make: Callable[[], Task]
    data: GrowingData
    fit: Fit
    target: Target
    selection: Selection
    num_steps: int
    dense_share: float
    run: Path
    allow: tuple[str, ...] = ()
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what leaves no room for recovery, or would not be equal compute."""
        if not 0 < self.dense_share < 1:
            raise BadInput(f"dense_share is {self.dense_share}, it must lie in (0, 1)")
        if self.num_steps < 1:
            raise BadInput(f"num_steps is {self.num_steps}, it must be at least 1")
        if self.fit.patience is not None:
            raise BadInput("fit.patience would end some early; compute must be equal: set it null")
        if self.fit.epochs < self.dense_epochs + self.num_steps:
            raise BadInput(
                f"fit.epochs is {self.fit.epochs}: {self.dense_epochs} before pruning leave fewer "
                f"than one for each of the {self.num_steps} steps; raise it, or lower num_steps"
            )

    @property
    def dense_epochs(self) -> int:
        """Count the epochs before pruning."""
        return max(1, round(self.dense_share * self.fit.epochs))

    @property
    def epoch_images(self) -> int:
        """Count the training images that an epoch shows."""
        loader = self.data.train_dataloader()
        limit = self.fit.trainer.get("limit_train_batches", 1.0)
        whole = isinstance(limit, int)
        batches = min(limit, len(loader)) if whole else int(limit * len(loader))
        return min(batches * self.data.batch_size, len(loader.sampler))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a contestant's training.

    Args:
        name: `training`, `recovery`, or `measuring` (scores of channels, statistics of norms).
        epochs: Epochs of training.
        images: Training images that the network saw.
        macs: Multiply-accumulates of one image.
    """

    name: str
    epochs: int
    images: int
    macs: int

    @property
    def compute(self) -> int:
        """Give images times multiply-accumulates."""
        return self.images * self.macs


@dataclass(frozen=True, slots=True)
class Result:
    """What a contestant came to at one seed.

    Args:
        contestant: Its name.
        seed: The seed.
        train: The score on training images, as they are.
        val: The score on validation images.
        budget: The compute that it was given.
        phases: How that was spent.
        cuts: The score on validation images right after each cut, before recovery.
    """

    contestant: str
    seed: int
    train: float
    val: float
    budget: int
    phases: tuple[Phase, ...]
    cuts: tuple[float, ...] = ()

    @property
    def compute(self) -> int:
        """Give the compute that was spent."""
        return sum(phase.compute for phase in self.phases)

    @property
    def epochs(self) -> int:
        """Count the epochs of training."""
        return sum(phase.epochs for phase in self.phases)


def enter(
    dropouts: Sequence[Dropout], targeted: TargetedDropout, criteria: Sequence[Criterion]
) -> list[Contestant]:
    """Give the contestants in the order in which they train.

    Args:
        dropouts: Kinds of dropout, each with its rate.
        targeted: Prepares a network for pruning by the first criterion.
        criteria: Ways to rank channels; the first one's network is that which is also trained from
            scratch. One that is random is added.

    Raises:
        BadInput: If there is no criterion, or two contestants have one name.
    """
    if not criteria:
        raise BadInput("criteria is empty; name at least one way to rank channels")

    def always(criterion: Criterion) -> Callable[[int], Criterion]:
        return lambda seed: criterion

    names = [f"pruned-{type(criterion).__name__.lower()}" for criterion in criteria]
    found = [
        Contestant(DENSE),
        *(Contestant(dropout.name, dropout) for dropout in dropouts),
        *(Contestant(n, None, always(c)) for n, c in zip(names, criteria, strict=True)),
        Contestant(f"{targeted.name}-pruned", targeted, always(criteria[0])),
        Contestant(RANDOM, None, Random),
        Contestant(SCRATCH, twin_of=names[0]),
    ]
    twice = [c.name for i, c in enumerate(found) if c.name in {o.name for o in found[:i]}]
    if twice:
        raise BadInput(f"two contestants are called {twice[0]}; leave one out or change its rate")
    return found
