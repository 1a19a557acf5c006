"""Strategies: ways to retrain a network when its data has grown or drifted."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from regrow.data.module import GrowingData
from regrow.data.stored import MEMORY
from regrow.errors import BadInput
from regrow.incremental.expand import expand_
from regrow.incremental.gating.ages import Ages, ages_of
from regrow.incremental.growth import Growth
from regrow.incremental.memory import memory_size
from regrow.incremental.parent import silenced
from regrow.models.checkpoint import load
from regrow.models.task import Task
from regrow.pipelines.experiments.trials import Setup, Trial
from regrow.pipelines.train import run_training
from regrow.reporting.report import Report
from regrow.training.evaluation import Evaluation, evaluate
from regrow.training.fit import Fit

BEST = "best.ckpt"


@dataclass(frozen=True, slots=True)
class Strategy:
    """A candidate: one way to train a network for the data of now.

    Args:
        name: Its name, also that of its files.
        words: What it is, in words.
        images: The images it trains on: those of `before`, `all`, or the `new` ones alone.
        is_warm: Whether it begins with the weights of the parent; else they are fresh.
        has_memory: Whether it also trains on the memory that the parent kept of its images.
    """

    name: str
    words: str
    images: Literal["before", "all", "new"]
    is_warm: bool = False
    has_memory: bool = False

    @property
    def forgets(self) -> bool:
        """Whether none of its images tells what the parent has learned."""
        return self.is_warm and self.images == "new" and not self.has_memory


PARENT = Strategy("parent", "the old network as it is", "before")
SCRATCH = Strategy("scratch", "fresh weights, history and new images", "all")
WARM = Strategy("warm", "the old weights, history and new images", "all", is_warm=True)
REPLAY = Strategy(
    "replay",
    "the old weights, new images and a memory of the old ones",
    "new",
    is_warm=True,
    has_memory=True,
)
NEW_ONLY = Strategy("new-only", "the old weights, new images alone", "new", is_warm=True)
WARM_STARTS = {strategy.name: strategy for strategy in (WARM, REPLAY, NEW_ONLY)}


@dataclass(frozen=True, slots=True)
class RetrainingTrial(Trial):
    """A trial with its cost.

    Args:
        candidate: The strategy's name.
        seed: The seed.
        images: Training images that it went through, with repetitions.
        seconds: How long it took.
    """

    images: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retraining(Setup[Strategy, RetrainingTrial]):
    """The terms of a comparison of ways to retrain.

    Args:
        make: Builds the task.
        before: The data of the old network.
        after: All data there is now.
        fit: How long a network trains from scratch, and on what.
        share: Share of the steps from scratch that warm starts have, in (0, 1].
        memory: The size of the memory that the parent keeps: a share of its training images, or
            their number.
        growth: How warm starts begin.
        folder: The run's folder, whose `runs` hold the trials.
        allow: Other people's packages that the network may come from.
        command: The command, for the reports.
        run_training: Trains and leaves a run's folder, as `regrow.pipelines.train.run_training`.
    """

    make: Callable[[list[str], tuple[int, int]], Task]
    before: GrowingData
    after: GrowingData
    fit: Fit
    share: float
    memory: float
    growth: Growth
    folder: Path
    allow: tuple[str, ...] = ()
    command: str = ""
    run_training: Callable[..., Report] = run_training

    def __post_init__(self) -> None:
        """Refuse what no strategy could be trained with."""
        if not 0 < self.share <= 1:
            raise BadInput(f"share is {self.share}, it must lie in (0, 1]")
        self.growth.check(self.fit)

    def file(self, candidate: Strategy, seed: int) -> Path:
        """Return the path of a trial's JSON."""
        return self._run(candidate, seed) / "trained.json"

    def checkpoint(self, candidate: Strategy, seed: int) -> Path:
        """Return the path of a trial's network."""
        return self._run(candidate, seed) / BEST

    def _run(self, candidate: Strategy, seed: int) -> Path:
        return self.folder / "runs" / f"{candidate.name}_{seed}"

    def read(self, values: Mapping[str, Any]) -> RetrainingTrial:
        """Return the trial that the values of a JSON stand for."""
        return RetrainingTrial(**values)

    def train(self, candidate: Strategy, seed: int) -> RetrainingTrial:
        """Train by one strategy at one seed.

        Args:
            candidate: The strategy; a warm start needs the parent of the seed.
            seed: The seed of weights, order, augmentation and dropout.
        """
        data = self._images(candidate)
        data.seed = seed
        count = len(data.snapshot.indices("train"))
        options: dict[str, Any] = {}
        if candidate == PARENT:
            options = {"replay": self.memory}
        if candidate.is_warm:
            options = {
                "warm_start": self._parent(candidate, seed),
                "growth": self.growth,
                "allow_forgetting": candidate.forgets,
            }
        if candidate.has_memory:
            count += memory_size(self._run(PARENT, seed) / MEMORY)
        epochs = self.epochs(candidate, count)
        report = self.run_training(
            self.make,
            data,
            fit=replace(self.fit, epochs=epochs),
            run=self._run(candidate, seed),
            seed=seed,
            allow=list(self.allow),
            command_line=self.command,
            **options,
        )
        return RetrainingTrial(candidate.name, seed, epochs * count, report.figures["seconds"])

    def epochs(self, candidate: Strategy, num_images: int) -> int:
        """Return the epochs that come nearest to a strategy's share of the steps from scratch.

        Args:
            candidate: The strategy.
            num_images: The images of one of its epochs.
        """
        if not candidate.is_warm:
            return self.fit.epochs
        whole = len(self.after.snapshot.indices("train"))
        return max(1, round(self.share * self.fit.epochs * whole / num_images))

    def evaluate(self, candidate: Strategy, seed: int) -> Evaluation:
        """Score a trained network on all test images of now; one that lacks a class misses it.

        Args:
            candidate: The strategy.
            seed: The seed.
        """
        task = load(self.checkpoint(candidate, seed), allow=self.allow)
        data = self.after.copy()
        old = list(task.classes)
        missing = [name for name in data.classes if name not in old]
        if missing:
            expand_(task, [*old, *missing])
        data.order_classes(task.classes)
        with silenced(task.to(self.fit.device), missing):
            about = f"{candidate.name}, seed {seed}"
            return evaluate(task, data.test_dataloader(), description=about)

    def ages(self) -> Ages:
        """Return which test images of now the old data had, with the same label."""
        return ages_of(self.before.snapshot.manifest(), self.after, "test")

    def _images(self, candidate: Strategy) -> GrowingData:
        """Return the images of a strategy, but for those of a memory, as data of its own."""
        if candidate.images == "new":
            return self.after.later_than(self.before)
        return (self.before if candidate.images == "before" else self.after).copy()

    def _parent(self, candidate: Strategy, seed: int) -> Path:
        """Return the checkpoint of the parent: beside its memory, or where there is none."""
        parent = self.checkpoint(PARENT, seed)
        if candidate.has_memory:
            return parent
        alone = self.folder / "alone" / f"{seed}" / parent.name
        alone.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(parent, alone)
        return alone
