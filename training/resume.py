"""Resuming a stopped run, to the same weights as if it had not been stopped."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from regrow.data.module import GrowingData
from regrow.data.snapshot import Manifest
from regrow.errors import BadInput
from regrow.logs import log
from regrow.models.checkpoint import load, read
from regrow.models.task import Task
from regrow.training.stages import EARLIER, furthest, is_resumable, way_to_resume

# What a resumed run may change: nothing that affects the weights.
FREE = {
    "run",
    "resume",
    "allow",
    "data.root",
    "data.num_workers",
    "data.cache_bytes",
    "fit.images",
    "fit.trainer.log_every_n_steps",
    "fit.trainer.enable_progress_bar",
}
# What a run began with lies behind it; pruning compares the files' hashes instead.
BEGINNING = {"warm_start", "renamed", "removed", "allow_forgetting", "checkpoint", "reference"}
# What is done when training is over.
ENDING = {"replay", "gate", "promoted"}


def can_go_on(run: Path) -> bool:
    """Whether a folder holds a training run to go on with; if not, one may begin there.

    A run that was killed before its first checkpoint begins anew, and is moved aside.

    Raises:
        BadInput: If there are checkpoints, but none that training can go on from.
    """
    if way_to_resume(run) is not None:
        return True
    # The old network as it came, of a warm start that was killed early, holds no state.
    stuck = [file for file in sorted(run.glob("*.ckpt")) if file.name != "best.ckpt"]
    if stuck:
        raise BadInput(
            f"{stuck[0]}: training cannot go on from it; begin a new run without --resume, or give "
            "another folder with --run"
        )
    log.info(f"{run} holds no run to go on with yet: one begins")
    return False


def find_stopped(run: Path, resume: str) -> Path:
    """Return the checkpoint that a run resumes from.

    Args:
        run: The run's folder.
        resume: A checkpoint in it, or `auto` for the one that came furthest.

    Raises:
        BadInput: If there is none, it is of another run, or training cannot go on from it.
    """
    if resume == "auto":
        found = furthest(run)
        if found is None:
            raise BadInput(
                f"{run} has no checkpoint to resume from; start the run without --resume"
            )
        return found
    path = Path(resume)
    if not is_resumable(read(path)):
        raise BadInput(
            f"{path}: holds a network, but no state of a training run; begin a new run with "
            "--warm-start"
        )
    if path.resolve().parent.name in EARLIER:
        raise BadInput(
            f"{path}: the state of an earlier stage of its run; go on with "
            f"--run {path.parent.parent} --resume auto"
        )
    if path.resolve().parent != run.resolve():
        raise BadInput(f"{path} is a checkpoint of another run than {run}; add --run {path.parent}")
    return path


def load_stopped(path: Path, data: GrowingData, allow: tuple[str, ...] = ()) -> Task:
    """Load the network of a stopped run, and order the labels of the data like its classes.

    Args:
        path: The checkpoint.
        data: The data, which must be that of the run.
        allow: Other people's packages that its network may come from.

    Raises:
        BadInput: If the file cannot be used, or the data is not what the run began with.
    """
    task = load(path, allow=allow, kind=data.kind)
    data.keep_splits_(task.provenance.manifest)
    began, now = task.provenance.manifest, data.snapshot.manifest()
    if task.provenance.data != now.hash or began is None:
        raise BadInput(
            "--resume needs the data that the run began with, and these differ; "
            "begin a new run on them with --warm-start"
        )
    # The hash leaves out the order of the images, but that of training follows it.
    if not torch.equal(Manifest.from_dict(began).hashes, now.hashes):
        raise BadInput(
            "--resume needs the images in the order that the run began with; give the files "
            "their names back, or begin a new run with --warm-start"
        )
    data.order_classes(task.classes)
    return task


def refuse_changes(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    free: Collection[str] = FREE,
    beginning: Collection[str] = BEGINNING,
) -> None:
    """Refuse to go on with other settings than those the run began with.

    Args:
        old: The settings of the stopped run, by dotted name.
        new: The settings of the run that goes on.
        free: The settings that may change.
        beginning: Settings of a run's beginning, which need not be given again.

    Raises:
        BadInput: Naming the setting that would change the weights.
    """
    for name in sorted(old.keys() | new.keys()):
        is_free = name in free or name.split(".")[0] in {*beginning, *ENDING}
        # An option that came after the run was begun had no effect on it, as false has none.
        is_later = name not in old and new[name] is False
        if not is_free and not is_later and old.get(name) != new.get(name):
            raise BadInput(
                f"--resume cannot change {name} from {old.get(name)} to {new.get(name)}; "
                "keep it, or begin another run, from this one's network with --warm-start"
            )
