"""Contestants: the candidates of a comparison of dropout with pruning, and their trials."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from regrow.errors import BadInput
from regrow.pipelines.experiments.trials import Trial
from regrow.prune.criteria import Criterion, Random
from regrow.prune.dropout import Dropout, TargetedDropout

DENSE, PRUNED, RANDOM, SCRATCH = "dense", "pruned", "pruned-random", "scratch"
Kind = Literal["dense", "dropout", "pruned", "scratch"]


@dataclass(frozen=True, slots=True)
class Contestant:
    """A candidate: one way to spend the budget of compute.

    Args:
        name: Its name, also that of its files.
        dropout: The dropout while the dense network trains, if any.
        criterion: Returns for a seed the way to rank channels, for networks that are pruned.
        twin_of: The contestant whose architecture it trains from scratch.
    """

    name: str
    dropout: Dropout | None = None
    criterion: Callable[[int], Criterion] | None = None
    twin_of: str | None = None

    @property
    def kind(self) -> Kind:
        """Return what becomes of its network."""
        if self.criterion is not None:
            return "pruned"
        if self.twin_of is not None:
            return "scratch"
        return "dense" if self.dropout is None else "dropout"


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
        """Return images times multiply-accumulates."""
        return self.images * self.macs


@dataclass(frozen=True, slots=True)
class ComputeTrial(Trial):
    """A trial with its account of compute.

    Args:
        candidate: The contestant's name.
        seed: The seed.
        train: The score on training images, as they are.
        val: The score on validation images.
        budget: The compute that it was given.
        phases: How that was spent.
        cuts: The score on validation images right after each cut, before recovery.
    """

    train: float
    val: float
    budget: int
    phases: tuple[Phase, ...]
    cuts: tuple[float, ...] = ()

    def __str__(self) -> str:
        return (
            f"{self.candidate}, seed {self.seed}: training {self.train:.4f}, validation "
            f"{self.val:.4f}, {100 * self.share_spent:.1f} % of the compute"
        )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "ComputeTrial":
        """Return the trial that plain data, such as that of a JSON, stands for."""
        phases = tuple(Phase(**phase) for phase in values["phases"])
        return cls(**{**values, "phases": phases, "cuts": tuple(values["cuts"])})

    @property
    def compute(self) -> int:
        """Return the compute that was spent."""
        return sum(phase.compute for phase in self.phases)

    @property
    def share_spent(self) -> float:
        """Return the share of the budget that was spent."""
        return self.compute / self.budget

    @property
    def epochs(self) -> int:
        """Count the epochs of training."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def ends_untrained(self) -> bool:
        """Whether the network was pruned and not trained after the last cut."""
        recovered = [phase.epochs for phase in self.phases if phase.name == "recovery"]
        return bool(recovered) and not recovered[-1]


def enter(
    dropouts: Sequence[Dropout], targeted: TargetedDropout, criteria: Sequence[Criterion]
) -> list[Contestant]:
    """Return the contestants in the order in which they train.

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
