"""The request for a training run: its options, and their checks that need no data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.incremental.gating.gate import Gate
from regrow.incremental.gating.promotion import read_promoted
from regrow.incremental.growth import Growth
from regrow.incremental.parent import Parent
from regrow.incremental.warm_start import WarmStart
from regrow.logs import log
from regrow.models.task import Task
from regrow.reporting.run_folder import reopen_run
from regrow.reporting.tensorboard import flat
from regrow.training.fit import Fit
from regrow.training.resume import can_go_on

Sparsity = Literal["keep", "regrow", "dense"]


@dataclass(frozen=True, slots=True)
class Request:
    """The arguments of `run_training`, which explains each of them.

    Args:
        make: The task, for class names and a size of images.
        data: The images and their labels.
        fit: Settings of the training.
        run: The run's folder.
        warm_start: The checkpoint to start from; None starts with a fresh network.
        growth: Settings of a warm start.
        renamed: Old class names to new ones.
        removed: Classes that are given up.
        sparsity: Masks and channels of a pruned network in a warm start.
        allow_forgetting: Whether a warm start may do without old images.
        replay: The size of the memory to keep; None keeps none.
        gate: The gate; None decides nothing.
        promoted: The file that names the checkpoint to serve.
        resume: A checkpoint of the run, or `auto`; None begins a run.
        allow: Other people's packages that a network may come from.
        seed: Seed of fresh weights and dropout.
        settings: The settings of the run as plain data.
        command_line: The command, for the report.
    """

    make: Callable[..., Task]
    data: GrowingData
    fit: Fit
    run: Path
    warm_start: Path | None = None
    growth: Growth = field(default_factory=Growth)
    renamed: Mapping[str, str] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    sparsity: Sparsity = "keep"
    allow_forgetting: bool = False
    replay: float | None = None
    gate: Gate | None = None
    promoted: Path | None = None
    resume: str | None = None
    allow: tuple[str, ...] = ()
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    command_line: str = ""

    def __post_init__(self) -> None:
        """Refuse a seed that no generator takes."""
        if not 0 <= self.seed < 2**32:
            raise BadInput(f"seed is {self.seed}, it must lie in [0, 2**32)")

    def finds_a_run(self) -> bool:
        """Whether there is a run to go on with, whose folder is held from then on.

        Raises:
            BadInput: If another process is at work there, or training cannot go on.
        """
        if self.resume is None:
            return False
        reopen_run(self.run, self.command_line)
        return self.resume != "auto" or can_go_on(self.run)

    def refuse_alone(self) -> None:
        """Refuse what only a warm start can do, where no old network is named.

        Raises:
            BadInput: Naming the option.
        """
        if self.warm_start is not None:
            return
        given = {
            "--renamed": bool(self.renamed),
            "--removed": bool(self.removed),
            "--sparsity": self.sparsity != "keep",
            "--allow-forgetting": self.allow_forgetting,
        }
        for name, is_given in given.items():
            if is_given:
                raise BadInput(
                    f"{name} is for a warm start; add --warm-start CKPT, or leave it out"
                )
        if self.growth != Growth():
            log.info("growth has no effect: it is for a warm start, and there is no --warm-start")

    def refuse_contradictions(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            BadInput: Naming them.
        """
        if self.regrows and self.fit.epochs < 2:
            raise BadInput(
                "sparsity regrow needs fit.epochs of 2 or more: channels come, and go again"
            )
        self.growth.check(self.fit)

    def from_start(self, start: WarmStart) -> "Request":
        """Return the request by which a run began, to be done again.

        Args:
            start: The record of the run's start.
        """
        return replace(
            self,
            warm_start=Path(start.parent),
            renamed=dict(start.renamed),
            removed=start.removed,
            allow_forgetting=start.history.forgets,
        )

    @property
    def regrows(self) -> bool:
        """Whether masked weights and channels come back for a while."""
        return self.sparsity == "regrow"

    @property
    def parent(self) -> Parent:
        """Return the old network of a warm start."""
        if self.warm_start is None:
            raise ValueError("no warm start is asked for")
        return Parent(self.warm_start, self.renamed, self.removed, self.allow)

    @property
    def served(self) -> Path | None:
        """Return the checkpoint that is served now; None if there is none."""
        return read_promoted(self.promoted) if self.promoted is not None else None

    @property
    def values(self) -> dict[str, Any]:
        """Return the settings by dotted name."""
        return flat(self.settings) if self.settings else {}
