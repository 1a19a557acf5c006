"""The inputs of a pruning run: networks, data, and the state of a run that was stopped."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from regrow.data.module import GrowingData
from regrow.errors import BadInput
from regrow.files import file_hash
from regrow.models.checkpoint import load
from regrow.models.latency import Clock
from regrow.models.task import Task
from regrow.pipelines.pruning.rates import TRIED
from regrow.pipelines.seen import seen_before
from regrow.prune.search.settings import Search
from regrow.prune.state import TRIAL, Progress, load_progress, save_progress
from regrow.training.class_weights import weigh_classes_
from regrow.training.fit import Fit
from regrow.training.resume import FREE, refuse_changes

PROGRESS = "progress.ckpt"
# Options of a later version than that which a run may have begun with, by their defaults.
ADDED = {f"clock.{name}": value for name, value in asdict(Clock()).items()}
ADDED |= {"targets_of": "macs", "selection.normalizer": "mean", "compensate": False, "search": None}
ADDED |= {"lr_grid": None, "distillation.channels": 0.0}
ADDED |= {"int8": False, "calibration_images": 256, "qat_epochs": 0, "qat_lr": None}
ADDED |= {"search.trials": Search.trials, "search.trial_steps": Search.trial_steps}
ADDED |= {"selection.branches": False}
RECOVERY = "recovery"  # the folder of a run for the state of the training that goes on


@dataclass(frozen=True, slots=True)
class Inputs:
    """The networks of a pruning run, and the data that they are trained and scored on.

    Args:
        checkpoint: The file of the network that is pruned.
        data: The data, its labels in the order of the networks' classes.
        task: The network that is pruned.
        dense: The network that budget and target compare with.
        hashes: The hashes of the files of both, that of the pruned one first.
        seen: The names of test images that were training or validation images too.
    """

    checkpoint: Path
    data: GrowingData
    task: Task
    dense: Task
    hashes: list[str]
    seen: list[str]

    @classmethod
    def read(
        cls,
        checkpoint: Path,
        reference: Path | None,
        data: GrowingData,
        recovery: Fit,
        packages: tuple[str, ...],
    ) -> "Inputs":
        """Load the networks, and see that the data fits them.

        Args:
            checkpoint: The file of the network that is pruned.
            reference: The file of the network that it is compared with, if that is another.
            data: The data.
            recovery: Where and in what precision the networks are trained.
            packages: Other people's packages that a network may come from.

        Raises:
            BadInput: If a file cannot be loaded, or the data does not fit.
        """
        data.refuse_unscored()
        files = [path for path in (checkpoint, reference) if path is not None]
        tasks = [_loaded(path, data, recovery, packages) for path in files]
        return cls(
            checkpoint=checkpoint,
            data=data,
            task=tasks[0],
            dense=tasks[-1],
            hashes=[file_hash(path) for path in files],
            seen=seen_before(data, files),
        )


@dataclass(frozen=True, slots=True)
class Record:
    """The file from which a run that was stopped goes on.

    Args:
        run: The run's folder.
        settings: The settings of the run by dotted name, which a resumed run must repeat.
    """

    run: Path
    settings: dict[str, Any]

    def read(self, task: Task, packages: tuple[str, ...]) -> Progress:
        """Read where the run stopped, and refuse to go on with other settings.

        Args:
            task: The network that is pruned, on the device that the run goes on on.
            packages: Other people's packages that the network may come from.

        Raises:
            BadInput: If there is no such run, or its settings were others.
        """
        path = self.run / PROGRESS
        if not path.is_file():
            raise BadInput(
                f"{self.run} has no pruning run that was stopped; start it without --resume"
            )
        progress, began = load_progress(path, packages)
        refuse_other_settings(began, self.settings)
        progress.task.to(task.mean.device)
        if progress.attempt is not None:
            progress.attempt.task.to(task.mean.device)
        return progress

    def save(self, progress: Progress) -> None:
        """Write where the run stands, and remove the state of a training whose step is recorded."""
        save_progress(self.run / PROGRESS, progress, self.settings)
        if progress.attempt is None:
            shutil.rmtree(self.run / RECOVERY, ignore_errors=True)
            (self.run / TRIAL).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the files of a run that is done."""
        for name in (PROGRESS, TRIED):
            (self.run / name).unlink(missing_ok=True)


def refuse_other_settings(began: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Refuse to go on with other settings; a run of before an option has begun with its default.

    Args:
        began: The settings of the stopped run, by dotted name.
        settings: Those of the run that goes on.

    Raises:
        BadInput: If one differs that has a say.
    """
    added = {name: ADDED[name] for name in ADDED.keys() & settings.keys()}
    refuse_changes({**added, **began}, settings, FREE | {"clock.seconds"})


def _loaded(path: Path, data: GrowingData, recovery: Fit, packages: tuple[str, ...]) -> Task:
    task = load(path, allow=packages, kind=data.kind)
    task.to(device=recovery.device, dtype=recovery.dtype)
    data.keep_splits_(task.provenance.manifest)
    data.order_classes(task.classes)
    weigh_classes_(task, data)
    if task.size != data.size:
        raise BadInput(f"{path} is for images of {task.size}; set data.size to it")
    return task
