"""Ways to retrain a network when its data has grown or drifted, trained side by side."""

import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import read_json, write_json
from regrow.incremental.ages import Ages, ages_of
from regrow.incremental.expand import expand_
from regrow.incremental.growth import Growth
from regrow.incremental.memory import MEMORY, memory_size
from regrow.incremental.parent import silenced
from regrow.models.checkpoint import load
from regrow.models.task import Task
from regrow.training.evaluation import Evaluation, evaluate
from regrow.training.fit import Fit

Way = Literal["warm", "replay", "new-only"]
Strategy = Literal["parent", "scratch", "warm", "replay", "new-only"]
PARENT: Strategy = "parent"
SCRATCH: Strategy = "scratch"
WORDS: dict[Strategy, str] = {
    "parent": "the old network as it is",
    "scratch": "fresh weights, history and new images",
    "warm": "the old weights, history and new images",
    "replay": "the old weights, new images and a memory of the old ones",
    "new-only": "the old weights, new images alone",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What all strategies share.

    Args:
        make: Builds the task.
        before: The data of the old network.
        after: All data there is now.
        fit: How long a network trains from scratch, and on what.
        share: Share of the steps from scratch that the other strategies have, in (0, 1].
        memory: The size of the memory that `replay` has: a share of the old training images, or
            their number.
        growth: How warm starts begin.
        run: Where the runs are kept.
        allow: Other people's packages that the network may come from.
        command: The command, for the reports.
    """

    make: Callable[[list[str], tuple[int, int]], Task]
    before: GrowingData
    after: GrowingData
    fit: Fit
    share: float
    memory: float
    growth: Growth
    run: Path
    allow: tuple[str, ...] = ()
    command: str = ""

    def __post_init__(self) -> None:
        """Refuse what no strategy could be trained with."""
        if not 0 < self.share <= 1:
            raise BadInput(f"share is {self.share}, it must lie in (0, 1]")
        self.growth.check(self.fit)

    def folder(self, strategy: Strategy, seed: int) -> Path:
        """Name the folder of a run."""
        return self.run / "runs" / f"{strategy}_{seed}"

    def epochs(self, strategy: Strategy, num_images: int) -> int:
        """Give the epochs that come nearest to a strategy's steps.

        Args:
            strategy: The strategy.
            num_images: The images of one of its epochs.
        """
        if strategy in (PARENT, SCRATCH):
            return self.fit.epochs
        whole = len(self.after.snapshot.indices("train"))
        return max(1, round(self.share * self.fit.epochs * whole / num_images))


@dataclass(frozen=True, slots=True)
class Trained:
    """What a strategy trained at one seed.

    Args:
        strategy: The strategy.
        seed: The seed.
        images: Training images that it went through, with repetitions.
        seconds: How long it took.
    """

    strategy: Strategy
    seed: int
    images: int
    seconds: float


def train_strategy(plan: Plan, strategy: Strategy, seed: int, train: Callable[..., Any]) -> Trained:
    """Train by one strategy at one seed, unless that is done already.

    Args:
        plan: What all share.
        strategy: The strategy; all but scratch need the parent of the seed.
        seed: The seed of weights, order, augmentation and dropout.
        train: What trains and leaves a run's folder, as `scripts/train.py` does.
    """
    folder = plan.folder(strategy, seed)
    file = folder / "trained.json"
    if file.is_file():
        return Trained(**read_json(file))
    if strategy in (PARENT, SCRATCH):
        data = (plan.before if strategy == PARENT else plan.after).copy()
        options: dict[str, Any] = {"replay": plan.memory} if strategy == PARENT else {}
    else:
        data = plan.after.copy() if strategy == "warm" else plan.after.later_than(plan.before)
        parent = _parent(plan, seed, with_memory=strategy == "replay")
        forgets = strategy == "new-only"
        options = {"warm_start": parent, "growth": plan.growth, "allow_forgetting": forgets}
    count = len(data.snapshot.indices("train"))
    if strategy == "replay":
        count += memory_size(plan.folder(PARENT, seed) / MEMORY)
    epochs, data.seed = plan.epochs(strategy, count), seed
    report = train(
        plan.make,
        data,
        fit=replace(plan.fit, epochs=epochs),
        run=folder,
        seed=seed,
        allow=list(plan.allow),
        command_line=plan.command,
        **options,
    )
    result = Trained(strategy, seed, epochs * count, report.figures["seconds"])
    write_json(file, asdict(result))
    return result


def score(plan: Plan, strategy: Strategy, seed: int) -> Evaluation:
    """Score a trained network on all test images of now; one that lacks a class misses it.

    Args:
        plan: What all share.
        strategy: The strategy.
        seed: The seed.
    """
    task = load(plan.folder(strategy, seed) / "best.ckpt", allow=plan.allow)
    data = plan.after.copy()
    old = list(task.classes)
    missing = [name for name in data.classes if name not in old]
    if missing:
        expand_(task, [*old, *missing])
    data.order_classes(task.classes)
    with silenced(task.to(plan.fit.device), missing):
        return evaluate(task, data.test_dataloader(), description=f"{strategy}, seed {seed}")


def ages_now(plan: Plan) -> Ages:
    """Return which test images of now the old data had, with the same label."""
    return ages_of(plan.before.snapshot.manifest(), plan.after, "test")


def _parent(plan: Plan, seed: int, *, with_memory: bool) -> Path:
    """Give the old network, beside its memory or where there is none."""
    parent = plan.folder(PARENT, seed) / "best.ckpt"
    if with_memory:
        return parent
    alone = plan.run / "alone" / f"{seed}" / parent.name
    alone.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(parent, alone)
    return alone
