"""Settings of the width search, and what a run remembers of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from regrow.errors import BadInput


@dataclass(frozen=True)  # slots would hide its defaults from the command line
class Search:
    """Settings of the width search: the time that it may take, and what candidates are scored on.

    Args:
        minutes: Search time of each pruning step, in minutes; null searches until `candidates`
            have been scored.
        candidates: Largest number of joint candidates of each step; null is no limit but time.
        num_images: Number of training images that candidates are scored on.
        num_batches: Number of training batches that batch norms are measured anew on before that.

    Raises:
        BadInput: If a value is out of range, or nothing would end the search.
    """

    minutes: float | None = None
    candidates: int | None = None
    num_images: int = 512
    num_batches: int = 8

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
