"""Settings of the width search, and what a run remembers of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from regrow.errors import BadInput


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Search:
    """Settings of the width search: the time that it may take, and what candidates are scored on.

    Args:
        minutes: Longest search time of each pruning step, in minutes, of which `trials` have two
            fifths; null searches until `candidates` have been scored.
        candidates: Largest number of joint candidates of each step; null is no limit but time.
        num_images: Number of training images that candidates are scored on.
        num_batches: Number of training batches that batch norms are measured anew on before that.
        trials: Number of the best candidates that are trained for a few steps and scored again,
            whose best is taken; fewer where `minutes` are short. 0 takes the best as cut.
        trial_steps: Gradient steps of each trial, on training images that are not scored.

    Raises:
        BadInput: If a value is out of range, or nothing would end the search.
    """

    minutes: float | None = 10.0
    candidates: int | None = 80
    num_images: int = 512
    num_batches: int = 8
    trials: int = 0
    trial_steps: int = 30

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.minutes is None and self.candidates is None:
            raise BadInput("search needs an end: give search.minutes or search.candidates")
        if self.minutes is not None and not self.minutes > 0:
            raise BadInput(f"search.minutes is {self.minutes}, it must be > 0")
        if self.candidates is not None and self.candidates < 1:
            raise BadInput(f"search.candidates is {self.candidates}, it must be at least 1")
        if self.num_images < 1 or self.num_batches < 1:
            raise BadInput(
                f"search.num_images is {self.num_images} and search.num_batches "
                f"{self.num_batches}; both must be at least 1"
            )
        if self.trials < 0 or self.trials == 1:
            raise BadInput(
                f"search.trials is {self.trials}; give 2 or more, to compare them, or 0 for none"
            )
        if self.candidates is not None and self.trials > self.candidates:
            raise BadInput(
                f"search.trials {self.trials} is more than search.candidates {self.candidates}, "
                "of which they are the best; lower it, or raise search.candidates"
            )
        if self.trial_steps < 1:
            raise BadInput(
                f"search.trial_steps is {self.trial_steps}, it must be at least 1; "
                "search.trials 0 leaves trials out"
            )


@dataclass(frozen=True, slots=True)
class Memory:
    """What a search goes on from when its run was stopped, and how it keeps that.

    Args:
        seed: The seed of the step, of which all that is random is a function.
        found: What had been found, as `Pool.to_plain` gives it; None begins anew.
        keep: Called with what has been found so far, as plain data.
    """

    seed: int = 0
    found: Mapping[str, Any] | None = None
    keep: Callable[[dict[str, Any]], None] | None = None
