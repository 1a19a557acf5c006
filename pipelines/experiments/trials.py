"""Trials: candidates trained once at each seed, each kept as a checkpoint and a JSON.

A comparison names what is trained (`Candidate`) and on what terms (`Setup`); the outcome of one
candidate at one seed is a `Trial`. A comparison that was stopped goes on: trials that are done are
read, and not done again.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from regrow.errors import BadInput
from regrow.files import read_json, write_json
from regrow.logs import log
from regrow.plain import MISSHAPEN
from regrow.progress import progress

# Names that files of earlier versions have for the candidate.
OLD_KEYS = ("contestant", "strategy")


class Candidate(Protocol):
    """A network to train: anything with a name of its own, which its files have too."""

    @property
    def name(self) -> str:
        """Return the name."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """The outcome of one candidate at one seed.

    Args:
        candidate: The candidate's name.
        seed: The seed.
    """

    candidate: str
    seed: int

    def __str__(self) -> str:
        return f"{self.candidate}, seed {self.seed}"


C = TypeVar("C", bound=Candidate)
T = TypeVar("T", bound=Trial)
R = TypeVar("R")


class Setup(ABC, Generic[C, T]):
    """The terms that all candidates share, and where their trials are kept."""

    @abstractmethod
    def file(self, candidate: C, seed: int) -> Path:
        """Return the path of a trial's JSON."""

    @abstractmethod
    def checkpoint(self, candidate: C, seed: int) -> Path:
        """Return the path of a trial's network."""

    @abstractmethod
    def train(self, candidate: C, seed: int) -> T:
        """Train a candidate, and write its checkpoint."""

    @abstractmethod
    def read(self, values: Mapping[str, Any]) -> T:
        """Return the trial that the values of a JSON stand for."""


def run_one(setup: Setup[C, T], candidate: C, seed: int) -> T:
    """Train a candidate at a seed and keep the trial, unless that is done already.

    The checkpoint is written first and the JSON after it, each atomically: where both are, all is.

    Args:
        setup: What all candidates share.
        candidate: What is trained.
        seed: The seed of weights, order, augmentation and dropout.

    Raises:
        BadInput: If the JSON is there and holds no trial.
    """
    file = setup.file(candidate, seed)
    if file.is_file() and setup.checkpoint(candidate, seed).is_file():
        return _read(setup, candidate, seed)
    trial = setup.train(candidate, seed)
    write_json(file, asdict(trial), indent=2)
    return trial


def run(
    setup: Setup[C, T],
    candidates: Sequence[C],
    seeds: Sequence[int],
    submit: Callable[[C, int], Future[T]] | None = None,
) -> dict[str, list[T]]:
    """Train all candidates at all seeds, but for what is done already.

    Args:
        setup: What they share.
        candidates: What is trained, in this order at each seed.
        seeds: The seeds, one after the other.
        submit: Begins `run_one` for a pair in another process, so that several networks train at a
            time; by default they train in this one, one by one.

    Returns:
        The trials by candidate, in the order of the seeds.
    """
    if submit is not None:
        begun = {(c.name, s): submit(c, s) for s in seeds for c in candidates}
        return of_each(lambda c, s: begun[c.name, s].result(), candidates, seeds, "trials")
    number, total, started = 0, len(candidates) * len(seeds), time.monotonic()

    def train(candidate: C, seed: int) -> T:
        nonlocal number
        trial, number = run_one(setup, candidate, seed), number + 1
        spent = (time.monotonic() - started) / number
        left = timedelta(seconds=round(spent * (total - number)))
        log.info(f"{number}/{total}  {trial}  {left} left")
        return trial

    return of_each(train, candidates, seeds, "trials")


def of_each(
    function: Callable[[C, int], R], candidates: Sequence[C], seeds: Sequence[int], description: str
) -> dict[str, list[R]]:
    """Call a function for all candidates at the first seed, then at the next one, and so on.

    Args:
        function: The function.
        candidates: The candidates.
        seeds: The seeds.
        description: The words beside the progress bar.

    Returns:
        What it returned, by candidate, in the order of the seeds.
    """
    jobs = [(candidate, seed) for seed in seeds for candidate in candidates]
    found = {(c.name, seed): function(c, seed) for c, seed in progress(jobs, description)}
    return {c.name: [found[c.name, seed] for seed in seeds] for c in candidates}


def _read(setup: Setup[C, T], candidate: C, seed: int) -> T:
    file = setup.file(candidate, seed)
    values = read_json(file)
    try:
        rest = {name: value for name, value in values.items() if name not in OLD_KEYS}
        return setup.read({**rest, "candidate": candidate.name, "seed": seed})
    except MISSHAPEN as error:
        raise BadInput(
            f"{file}: not the result of a trial ({error}); remove it, and that network is trained "
            "again"
        ) from error
